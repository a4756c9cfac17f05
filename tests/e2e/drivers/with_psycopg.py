"""psycopg 3: vectors as text and list parameters, by the simple and the server-prepared way, text and binary results."""
import sys
from decimal import Decimal

import psycopg

VECTOR = [0.1, -1.5, 3.0e-5, 7.25]
SMALL = [1, -2, 300, 4]
BIG = [1, -2, 2**40, 4]
EXPECTED = {"cast": [1.5, 2.0, 3.0, 4.0], "small": SMALL, "big": BIG, "decimal": SMALL}

host, port = sys.argv[1:]
with psycopg.connect(host=host, port=port, user="postgres", dbname="e2e", autocommit=True) as connection:
    cursor = connection.cursor()
    text = "[" + ",".join(map(str, VECTOR)) + "]"
    for number in range(8):  # psycopg prepares on the server from the sixth time on
        cursor.execute("INSERT INTO psycopg VALUES (%s, %s)", (f"text {number}", text))
        cursor.execute("INSERT INTO psycopg VALUES (%s, %s)", (f"list {number}", VECTOR))
        cursor.execute("INSERT INTO psycopg VALUES (%s, %s)", (f"cast {number}", [1.5, 2.0, 3.0, 4.0]))
        # As smallint[], bigint[] and numeric[]: psycopg sends the least type that holds them all.
        cursor.execute("INSERT INTO psycopg VALUES (%s, %s)", (f"small {number}", SMALL))
        cursor.execute("INSERT INTO psycopg VALUES (%s, %s)", (f"big {number}", BIG))
        cursor.execute("INSERT INTO psycopg VALUES (%s, %s)", (f"decimal {number}", list(map(Decimal, SMALL))))
    cursor.executemany("INSERT INTO psycopg VALUES (%s, %s)", [(f"many {n}", VECTOR) for n in range(3)])
    with cursor.copy("COPY psycopg (id, embedding) FROM STDIN") as copy:
        copy.write_row(("copied", text))
    for kind in ("float4[]", "float8[]"):  # in binary an array comes as it is: COPY casts nothing
        with cursor.copy("COPY psycopg (id, embedding) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["text", kind])
            copy.write_row((f"copied as {kind}", VECTOR))
    for binary in (False, True):
        read = connection.cursor(binary=binary)
        rows = read.execute("SELECT id, sealvec.open(embedding) FROM psycopg").fetchall()
        assert len(rows) == 54, rows
        for name, elements in rows:
            expected = EXPECTED.get(name.split()[0], VECTOR)
            assert all(abs(a - b) < 1e-7 * max(1, abs(b)) for a, b in zip(elements, expected)), (name, elements)
        for parameter in (text, VECTOR, SMALL, BIG):
            for _ in range(7):
                row = read.execute(
                    "SELECT id, embedding <-> %s FROM psycopg ORDER BY embedding <-> %s LIMIT 1", (parameter, parameter)
                ).fetchone()
                assert row[1] < 1e-6, row
    # What comes out as text goes in again.
    (sealed,) = cursor.execute("SELECT embedding FROM psycopg WHERE id = 'text 0'").fetchone()
    assert sealed.startswith("sealvec1."), sealed
    cursor.execute("UPDATE psycopg SET embedding = %s WHERE id = 'cast 0'", (sealed,))
    assert cursor.execute(
        "SELECT sealvec.same(a.embedding, b.embedding) FROM psycopg a, psycopg b WHERE a.id = 'text 0' AND b.id = 'cast 0'"
    ).fetchone() == (True,)
print("ok")
