"""Seals keys for sealvec, so that no SQL statement carries one.

    import psycopg, sealvec_client

    with psycopg.connect("dbname=app") as connection:
        keys = sealvec_client.Sealer(connection)
        keys.execute("SELECT sealvec.unlock('notes', %s)", [keys.ring("notes", key)])

What is sealed opens only in that server, in the connection's database and for its role, for that ring or index, as that
argument, and within the hour. `Sealer.execute` seals anew and sends the statement again if the server has made another
key meanwhile; inside a transaction block the error ends the transaction, so there the caller begins again.
"""

from __future__ import annotations

import base64
import struct
import time
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import psycopg
import psycopg.rows
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

__all__ = ["STALE", "PublicKey", "Sealer", "ask", "ask_async", "seal"]

#: SQLSTATE of a key that was sealed to a server's key that is gone: ask, seal again, retry once.
STALE = "SV001"

_MAGIC = b"\x9esealed\x01"
_LABEL = b"sealvec v1 transport"
_ARGUMENTS = {"kek": 1, "new_kek": 2, "index_key": 3, "user_key": 4, "user_token": 5}
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SQL = (
    "SELECT key_id, public_key, extract(epoch FROM expires - clock_timestamp())::float8, database, role "
    "FROM sealvec.transport_key()"
)


@dataclass(frozen=True)
class PublicKey:
    """What `sealvec.transport_key()` says, and until when (by `time.monotonic()`) it is the one to seal to."""

    key_id: bytes
    public_key: bytes
    database: str
    role: str
    until: float = float("inf")


def _of_row(row: Sequence[Any]) -> PublicKey:
    key_id, public_key, seconds, database, role = row
    return PublicKey(bytes(key_id), bytes(public_key), database, role, time.monotonic() + seconds)


def ask(connection: psycopg.Connection) -> PublicKey:
    """Asks the server for its key."""
    with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        return _of_row(cursor.execute(_SQL).fetchone())


async def ask_async(connection: psycopg.AsyncConnection) -> PublicKey:
    """Asks the server for its key."""
    async with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(_SQL)
        return _of_row(await cursor.fetchone())


def seal(key: PublicKey, argument: str, name: str, secret: bytes | str) -> bytes:
    """Seals `secret` for a call about the ring or index `name`, to be shown as `argument`: kek, new_kek, index_key,
    user_key (32 bytes each) or user_token (text). The result is `bytes` for the first four. A token travels in an
    argument that takes text: see `Sealer.token`."""
    if argument == "user_token":
        secret = secret.encode() if isinstance(secret, str) else secret
    elif not isinstance(secret, (bytes, bytearray, memoryview)) or len(secret) != 32:
        raise ValueError("a key has 32 bytes")
    info = _LABEL + key.key_id + bytes([_ARGUMENTS[argument]])
    for text in (key.database, key.role, name):
        encoded = text.encode()
        info += struct.pack("<I", len(encoded)) + encoded
    return _MAGIC + key.key_id + _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(key.public_key), info)


def _text(sealed: bytes) -> str:
    return "sealed1." + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


@dataclass(frozen=True)
class _Shown:
    """A parameter that `Sealer.execute` seals when it sends it. Never shows its secret."""

    argument: str
    name: str
    secret: bytes | str

    def __repr__(self) -> str:
        return f"<{self.argument} of {self.name!r}>"


class Sealer:
    """Seals for the statements of one connection, and remembers the server's key. For one thread at a time, as is a
    cursor; it follows no SET ROLE: make another after one."""

    def __init__(self, connection: psycopg.Connection):
        self.connection = connection
        self._key: Optional[PublicKey] = None

    def ring(self, name: str, key: bytes) -> _Shown:
        """The key of a ring: argument `kek`."""
        return _Shown("kek", name, key)

    def new_ring_key(self, name: str, key: bytes) -> _Shown:
        """The next key of a ring: argument `new_kek`."""
        return _Shown("new_kek", name, key)

    def index(self, name: str, key: bytes) -> _Shown:
        """The key of an index or of one of its users: argument `index_key`."""
        return _Shown("index_key", name, key)

    def new_user(self, name: str, key: bytes) -> _Shown:
        """The key of a user to be: argument `user_key`."""
        return _Shown("user_key", name, key)

    def token(self, name: str, token: str) -> _Shown:
        """A user's token: argument `user_token`."""
        return _Shown("user_token", name, token)

    def execute(self, statement: Any, parameters: Any = None, **options: Any) -> psycopg.Cursor:
        """`connection.execute`, with what `ring`, `index` and the others gave sealed among the parameters."""
        status = self.connection.info.transaction_status
        for last in (False, True):
            if self._key is None or time.monotonic() >= self._key.until:
                self._key = ask(self.connection)
            try:
                return self.connection.execute(statement, self._sealed(parameters), **options)
            except psycopg.Error as error:
                if error.sqlstate != STALE or last:
                    raise
                self._key = None
                if status != psycopg.pq.TransactionStatus.IDLE:
                    raise  # the transaction is over: its caller begins it again
                if not self.connection.autocommit:
                    self.connection.rollback()
        raise AssertionError("the loop returns or raises")

    def _sealed(self, parameters: Any) -> Any:
        if isinstance(parameters, dict):
            return {name: self._seal(value) for name, value in parameters.items()}
        return parameters if parameters is None else [self._seal(value) for value in parameters]

    def _seal(self, value: Any) -> Any:
        if not isinstance(value, _Shown):
            return value
        sealed = seal(self._key, value.argument, value.name, value.secret)
        return _text(sealed) if value.argument == "user_token" else sealed
