"""sealvec_client over a server that makes another key every second and logs all statements.

Arguments: host, port, a key in hex.
"""
import asyncio
import sys
import time
import uuid

import psycopg
import sealvec_client


def main(host, port, key):
    key = bytes.fromhex(key)
    where = {"host": host, "port": port, "user": "postgres", "dbname": "e2e"}
    with psycopg.connect(**where, autocommit=True) as connection:
        keys = sealvec_client.Sealer(connection)
        keys.execute("SELECT sealvec.create_key_ring('vault', %s)", [keys.ring("vault", key)])
        keys.execute("SELECT sealvec.create_index('docs', 2, index_key => %(key)s)", {"key": keys.index("docs", key)})
        # Over TCP without TLS a listener would hear the token that came sealed: it is told where he can't, or is allowed to.
        tokens = []
        for setting in ("off", "on"):
            connection.execute(f"SET sealvec.allow_plain_key = {setting}")
            made = keys.execute(
                "SELECT token FROM sealvec.create_user('docs', '{read}', user_key => %s, index_key => %s)",
                [keys.new_user("docs", b"\x61" * 32), keys.index("docs", key)],
            )
            tokens.append(made.fetchone()[0])
        assert tokens[0] is None, "a token is told where it can be overheard"
        token = tokens[1]
        connection.execute("RESET sealvec.allow_plain_key")
        for binary in (False, True):
            (count,) = keys.execute(
                "SELECT sealvec.num_vectors('docs', user_token => %s)", [keys.token("docs", token)], binary=binary
            ).fetchone()
            assert count == 0
        keys.execute("SELECT sealvec.unlock('vault', %s)", [keys.ring("vault", key)])
        # A key that the client still holds to be good, and the server does not.
        stale = sealvec_client.ask(connection)
        time.sleep(2.2)
        keys._key = sealvec_client.PublicKey(stale.key_id, stale.public_key, stale.database, stale.role)
        keys.execute("SELECT sealvec.unlock('vault', %s)", [keys.ring("vault", key)])
        with connection.transaction():
            connection.execute("SELECT 1")
            keys._key = sealvec_client.PublicKey(stale.key_id, stale.public_key, stale.database, stale.role)
            try:
                with connection.transaction():
                    keys.execute("SELECT sealvec.unlock('vault', %s)", [keys.ring("vault", key)])
                raise AssertionError("a stale key was taken")
            except psycopg.Error as error:
                assert error.sqlstate == sealvec_client.STALE, error.sqlstate
            keys.execute("SELECT sealvec.unlock('vault', %s)", [keys.ring("vault", key)])
        keys.execute(
            "SELECT sealvec.rotate_kek('vault', %s, %s)", [keys.ring("vault", key), keys.new_ring_key("vault", key[::-1])]
        )
        try:
            # Another key: this statement is in the log.
            connection.execute("SELECT sealvec.unlock('vault', %s)", [b"\x62" * 32])
            raise AssertionError("a plain key was taken")
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            assert "62" * 4 not in str(error)
    with psycopg.connect(**where) as connection:  # not autocommit: the retry begins the transaction anew
        keys = sealvec_client.Sealer(connection)
        keys._key = sealvec_client.PublicKey(stale.key_id, stale.public_key, stale.database, stale.role)
        keys.execute("SELECT sealvec.unlock('vault', %s)", [keys.ring("vault", key[::-1])])

    # A user of the ring, whose secret never leaves his client; with a role of his own, and nothing but read.
    secret, public = sealvec_client.generate()
    with psycopg.connect(**where, autocommit=True) as owner:
        keys = sealvec_client.Sealer(owner)
        owner.execute("CREATE ROLE analyst LOGIN; CREATE TABLE seen (embedding sealvec(2, vault))")
        owner.execute("GRANT ALL ON seen TO analyst")
        keys.execute("SELECT sealvec.unlock('vault', %s)", [keys.ring("vault", key[::-1])])
        owner.execute("INSERT INTO seen VALUES ('[1,2]')")
        keys.execute(
            "SELECT sealvec.grant_user('vault', 'analyst', '{read}', %s::bytea, kek => %s)",
            [public, keys.ring("vault", key[::-1])],
        )
        with psycopg.connect(**{**where, "user": "analyst"}, autocommit=True) as analyst:
            for wrong in (sealvec_client.generate()[0],):
                try:
                    sealvec_client.unlock(analyst, "vault", wrong)
                    raise AssertionError("another secret was taken")
                except ValueError:
                    pass
            ((ring_uuid,),) = owner.execute("SELECT uuid FROM sealvec.key_rings WHERE name = 'vault'").fetchall()
            try:
                sealvec_client.unlock(analyst, "vault", secret, uuid.uuid4())
                raise AssertionError("the wrap of another ring was opened")
            except ValueError:
                pass
            wrap = sealvec_client.unlock(analyst, "vault", secret, ring_uuid)
            assert (wrap.role, wrap.permissions, wrap.dek_version) == ("analyst", ("read",), 1)
            assert analyst.execute("SELECT sealvec.open(embedding) FROM seen").fetchall() == [([1.0, 2.0],)]
            try:
                analyst.execute("INSERT INTO seen VALUES ('[3,4]')")
                raise AssertionError("a reader wrote")
            except psycopg.errors.InsufficientPrivilege:
                pass
            # A new data key comes to him without his secret.
            keys.execute("SELECT sealvec.rekey('vault', %s)", [keys.ring("vault", key[::-1])])
            assert sealvec_client.unlock(analyst, "vault", secret).dek_version == 2
            assert analyst.execute("SELECT count(sealvec.open(embedding)) FROM seen").fetchone() == (1,)
            keys.execute(
                "SELECT sealvec.revoke_user('vault', 'analyst', rekey => true, kek => %s)",
                [keys.ring("vault", key[::-1])],
            )
            try:
                sealvec_client.unlock(analyst, "vault", secret)
                raise AssertionError("a revoked user unlocked")
            except PermissionError:
                pass
        # And one with a token. This connection has no TLS.
        token = "SELECT user_token FROM sealvec.grant_user('vault', 'analyst', '{read}', token => true, kek => %s)"
        try:
            keys.execute(token, [keys.ring("vault", key[::-1])])
            raise AssertionError("a token was told where others listen")
        except psycopg.errors.ObjectNotInPrerequisiteState:
            pass
        owner.execute("SET sealvec.allow_plain_key = on")
        (token,) = keys.execute(token, [keys.ring("vault", key[::-1])]).fetchone()
        owner.execute("RESET sealvec.allow_plain_key")
        with psycopg.connect(**{**where, "user": "analyst"}, autocommit=True) as analyst:
            his = sealvec_client.Sealer(analyst)
            his.execute("SELECT sealvec.unlock('vault', user_token => %s)", [his.ring_token("vault", token)])
            assert analyst.execute("SELECT count(sealvec.open(embedding)) FROM seen").fetchone() == (1,)

    async def asks():
        async with await psycopg.AsyncConnection.connect(**where) as connection:
            found = await sealvec_client.ask_async(connection)
            assert len(found.key_id) == 16 and len(found.public_key) == 32 and found.database == "e2e"

    asyncio.run(asks())
    print("ok")


main(*sys.argv[1:])
