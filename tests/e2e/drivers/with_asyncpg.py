"""asyncpg: every statement is prepared; vectors as text and float lists."""
import asyncio
import sys

import asyncpg

VECTOR = [0.1, -1.5, 3.0e-5, 7.25]


async def main(host, port):
    connection = await asyncpg.connect(host=host, port=int(port), user="postgres", database="e2e")
    text = "[" + ",".join(map(str, VECTOR)) + "]"
    for number in range(4):
        await connection.execute("INSERT INTO asyncpg VALUES ($1, $2::real[])", f"list {number}", VECTOR)
        await connection.execute("INSERT INTO asyncpg VALUES ($1, $2::text::sealvec)", f"text {number}", text)
    await connection.executemany("INSERT INTO asyncpg VALUES ($1, $2::float8[])", [(f"many {n}", VECTOR) for n in range(4)])
    # A parameter of the type itself goes as text.
    await connection.set_type_codec("sealvec", encoder=str, decoder=str, format="text")
    for number in range(4):
        await connection.execute("INSERT INTO asyncpg VALUES ($1, $2)", f"typed {number}", text)
    await connection.copy_records_to_table("staging", records=[(f"copied {n}", VECTOR) for n in range(4)])
    await connection.execute("INSERT INTO asyncpg SELECT id, embedding FROM staging")
    rows = await connection.fetch("SELECT id, sealvec.open(embedding) AS elements, embedding FROM asyncpg")
    assert len(rows) == 20, rows
    for row in rows:
        assert all(abs(a - b) < 1e-6 for a, b in zip(row["elements"], VECTOR)), row
        assert row["embedding"].startswith("sealvec1."), row
    for parameter in (text, rows[3]["embedding"]):
        for _ in range(7):
            row = await connection.fetchrow(
                "SELECT id, embedding <-> $1 AS distance FROM asyncpg ORDER BY embedding <-> $1 LIMIT 1", parameter
            )
            assert row["distance"] < 1e-6, row
    await connection.execute("UPDATE asyncpg SET embedding = $1 WHERE id = 'list 0'", rows[5]["embedding"])
    await connection.close()
    print("ok")


asyncio.run(main(*sys.argv[1:]))
