"""A session of psycopg 3 over collections that seals its keys and binds everything in binary, and says nothing of either.

Arguments: host, port, and a JSON file with the texts, vectors and keys to use.
"""
import json
import struct
import sys

import psycopg
import sealvec_client
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo


class Payload(str):
    """Ids, contents, metadata, filters, tokens."""


class Vectors(list):
    """Rows of floats."""


def register(connection):
    """sealvec's transport types by name; arrays of them follow."""
    encoders = {
        Payload: ("payload", lambda text: text.encode()),
        Vectors: ("vectors", lambda rows: b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)),
    }
    for kind, (name, encode) in encoders.items():
        info = TypeInfo.fetch(connection, f"sealvec.{name}")
        info.register(connection)
        dumper = type(f"{name}Dumper", (Dumper,), {"oid": info.oid, "format": Format.BINARY, "dump": lambda self, value, encode=encode: encode(value)})
        connection.adapters.register_dumper(kind, dumper)


class Sealing:
    """As a cursor, for statements that show keys."""

    def __init__(self, connection):
        self.keys = sealvec_client.Sealer(connection)

    def execute(self, statement, parameters):
        self.last = self.keys.execute(statement, parameters, binary=True)
        return self.last

    def fetchone(self):
        return self.last.fetchone()

    def fetchall(self):
        return self.last.fetchall()


def payloads(texts):
    return [Payload(text) for text in texts]


def fails(cursor, sqlstate, statement, parameters):
    try:
        cursor.execute(statement, parameters)
    except psycopg.Error as error:
        assert error.sqlstate == sqlstate, (error.sqlstate, sqlstate)
        return str(error)
    raise AssertionError(f"expected {sqlstate}")


def main(host, port, path):
    with open(path) as file:
        secret = json.load(file)
    ids, contents, metadata = (payloads(secret[field]) for field in ("ids", "contents", "metadata"))
    vectors, queries = Vectors(secret["vectors"]), secret["queries"]
    filters = Payload(secret["filter"])
    with psycopg.connect(host=host, port=port, user="sidecar", dbname="e2e", autocommit=True) as connection:
        register(connection)
        cursor = Sealing(connection)
        key, wrong = (cursor.keys.index("bound", bytes.fromhex(secret[name])) for name in ("key", "wrong_key"))
        cursor.execute("SELECT sealvec.create_index('bound', dimension => %b, index_key => %b)", (len(vectors[0]), key))
        for _ in range(7):  # prepared on the server from the sixth time on
            cursor.execute(
                "SELECT sealvec.upsert('bound', %b, %b, %b, %b, index_key => %b)", (ids, vectors, contents, metadata, key)
            )
            assert cursor.fetchone() == (len(ids),)
            (row,) = cursor.execute(
                "SELECT id, metadata::text FROM sealvec.query('bound', %b, top_k => 1, filters => %b, include => '{distance,metadata}', index_key => %b)",
                (Vectors([queries[0]]), filters, key),
            ).fetchall()
            assert row[0] in ids and row[1] in metadata
            (row,) = cursor.execute(
                "SELECT id, contents FROM sealvec.get('bound', %b, index_key => %b)", (ids[:1], key)
            ).fetchall()
            assert row == (ids[0], contents[0])
        items = [{"id": secret["json_id"], "vector": queries[0], "contents": secret["json_contents"]}]
        cursor.execute("SELECT sealvec.upsert('bound', %b, index_key => %b)", (Payload(json.dumps(items)), key))
        found = cursor.execute("SELECT id FROM sealvec.query_metadata('bound', %b, index_key => %b)", (filters, key)).fetchall()
        assert found and all(name in ids for (name,) in found)
        assert len(cursor.execute("SELECT * FROM sealvec.list_ids('bound', %b)", (key,)).fetchall()) == len(ids) + 1
        cursor.execute("SET sealvec.allow_plain_key = on", ())  # a token is told over no TCP without TLS
        user_id, token = cursor.execute(
            "SELECT id, token FROM sealvec.create_user('bound', '{read}', index_key => %b)", (key,)
        ).fetchone()
        cursor.execute("RESET sealvec.allow_plain_key", ())
        shown_token = cursor.keys.token("bound", token)
        cursor.execute("SELECT * FROM sealvec.get('bound', %b, user_token => %b)", (ids[:1], shown_token))
        assert len(cursor.fetchall()) == 1
        # Errors while all of it is at hand.
        said = [
            fails(cursor, "28P01", "SELECT sealvec.num_vectors('bound', index_key => %b)", (wrong,)),
            fails(cursor, "22000", "SELECT sealvec.upsert('bound', %b, %b, index_key => %b)", (ids[:1], Vectors([queries[0][:5]]), key)),
            fails(cursor, "22023", "SELECT * FROM sealvec.query('bound', %b, filters => %b, index_key => %b)", (Vectors([queries[0]]), Payload(secret["bad_filter"]), key)),
            fails(cursor, "42501", "SELECT sealvec.delete('bound', %b, user_token => %b)", (ids[:1], shown_token)),
            fails(cursor, "22P03", "SELECT sealvec.upsert('bound', %b, index_key => %b)", (Payload(secret["bad_json"]), key)),
            fails(cursor, "22012", "SELECT sealvec.num_vectors('bound', index_key => %b) / (SELECT 0)", (key,)),
        ]
        for text in said:
            for hidden in [*ids, *contents, secret["key"], secret["wrong_key"], token, secret["bad_json"]]:
                assert hidden not in text, "an error repeats what was bound"
        cursor.execute("SELECT sealvec.delete('bound', %b, index_key => %b)", (ids[-1:], key))
        assert cursor.fetchone() == (1,)
        # The token goes where the test looks for it, and nowhere else.
        with open(path + ".token", "w") as file:
            file.write(token + "\n")
        cursor.execute("SELECT sealvec.delete_user('bound', %b, index_key => %b)", (user_id, key))
    print("ok")


main(*sys.argv[1:])
