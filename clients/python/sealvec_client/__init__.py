"""Seals keys for sealvec, so that no SQL statement carries one.

    import psycopg, sealvec_client

    with psycopg.connect("dbname=app") as connection:
        keys = sealvec_client.Sealer(connection)
        keys.execute("SELECT sealvec.unlock('notes', %s)", [keys.ring("notes", key)])

A user of a ring, whom its owner made one with `sealvec.grant_user(ring, role, permissions, public_key)`, keeps a secret key that
no server ever holds. It opens what the database has for him, and that is what he shows:

    secret, public = sealvec_client.generate()          # once; the owner gets `public`
    sealvec_client.unlock(connection, "notes", secret, ring_uuid)

`ring_uuid` is the ring's, as its owner told it (`sealvec.key_rings`). With it only a wrap of that ring is opened: a server
can show one of another server's ring, and learns the key that was in it. For the same reason, one key pair for each server.

What is sealed opens only in that server, in the connection's database and for its role, for that ring or index, as that
argument, and within the hour. `Sealer.execute` seals anew and sends the statement again if the server has made another
key meanwhile; inside a transaction block the error ends the transaction, so there the caller begins again.
"""

from __future__ import annotations

import base64
import struct
import time
import uuid
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import psycopg
import psycopg.rows
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

__all__ = ["STALE", "PublicKey", "Sealer", "Wrap", "ask", "ask_async", "generate", "seal", "unlock"]

#: SQLSTATE of a key that was sealed to a server's key that is gone: ask, seal again, retry once.
STALE = "SV001"

_MAGIC = b"\x9esealed\x01"
_LABEL = b"sealvec v1 transport"
_WRAP_LABEL = b"sealvec v1 user wrap"
_ARGUMENTS = {
    "kek": 1,
    "new_kek": 2,
    "index_key": 3,
    "user_key": 4,
    "user_token": 5,
    "ring_user_key": 6,
    "ring_user_token": 7,
}
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
    user_key (32 bytes each) or user_token (text). The last two are an index's; a ring's are called ring_user_key and
    ring_user_token here. A token travels in an argument that takes text: see `Sealer.token`."""
    if argument.endswith("user_token"):
        secret = secret.encode() if isinstance(secret, str) else secret
    elif not isinstance(secret, (bytes, bytearray, memoryview)) or len(secret) != 32:
        raise ValueError("a key has 32 bytes")
    info = _LABEL + key.key_id + bytes([_ARGUMENTS[argument]])
    for text in (key.database, key.role, name):
        encoded = text.encode()
        info += struct.pack("<I", len(encoded)) + encoded
    return _MAGIC + key.key_id + _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(key.public_key), info)


def generate() -> tuple[bytes, bytes]:
    """An X25519 secret key and its public key, 32 bytes each."""
    secret = X25519PrivateKey.generate()
    return secret.private_bytes_raw(), secret.public_key().public_bytes_raw()


@dataclass(frozen=True)
class Wrap:
    """A row of `sealvec.my_wraps()`: a key of a ring's user, wrapped to his public key."""

    ring: uuid.UUID
    role: str
    permissions: tuple[str, ...]
    dek_version: int
    public_key: bytes
    _head: bytes
    _sealed: bytes

    @classmethod
    def read(cls, wrap: bytes) -> "Wrap":
        """Of the bytes; `ValueError` for what is no wrap of version 1."""
        if len(wrap) < 76 or wrap[:5] != b"SVUW\x01":
            raise ValueError("this is no wrap that this client knows")
        (length,) = struct.unpack_from("<H", wrap, 6)
        end = 76 + length
        if len(wrap) != end + 80 or not 1 <= wrap[5] <= 3:
            raise ValueError("this is no wrap that this client knows")
        permissions = tuple(name for bit, name in ((1, "read"), (2, "write")) if wrap[5] & bit)
        (version,) = struct.unpack_from("<I", wrap, 40)
        ring = uuid.UUID(bytes=wrap[8:24])
        return cls(ring, wrap[76:end].decode(), permissions, version, wrap[44:76], wrap[:end], wrap[end:])

    def open(self, secret: bytes) -> bytes:
        """The key, for whoever has the secret key; `ValueError` for another secret, or a wrap that was altered."""
        own = X25519PrivateKey.from_private_bytes(secret)
        if own.public_key().public_bytes_raw() != self.public_key:
            raise ValueError("the wrap was made for another public key than this secret key's")
        try:
            return _SUITE.decrypt(self._sealed, own, _WRAP_LABEL + self._head)
        except InvalidTag:
            raise ValueError("the wrap is not as it was written") from None


def unlock(
    connection: psycopg.Connection, ring: str, secret: bytes, ring_uuid: Optional[uuid.UUID | str] = None
) -> Wrap:
    """Opens a ring in the connection's session for the user whose X25519 secret key this is; returns the wrap that did.

    With `ring_uuid` it opens no wrap of another ring, whatever the server calls it (`ValueError`).

    Call it again when the ring was locked: after its time to live, a `rekey`, a rollback of this transaction."""
    with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        rows = cursor.execute("SELECT wrap FROM sealvec.my_wraps(%s)", [ring]).fetchall()
    if not rows:
        raise PermissionError(f"the database has no wrap of key ring {ring!r} for this role: its owner makes users")
    wraps = [Wrap.read(bytes(wrap)) for (wrap,) in rows]
    public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    wrap = next((wrap for wrap in wraps if wrap.public_key == public), wraps[0])
    if ring_uuid is not None and wrap.ring != uuid.UUID(str(ring_uuid)):
        raise ValueError(f"the database has a wrap of ring {wrap.ring} as {ring!r}, not of {ring_uuid}")
    keys = Sealer(connection)
    keys.execute("SELECT sealvec.unlock(%s, user_key => %s)", [ring, keys.ring_user(ring, wrap.open(secret))])
    return wrap


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
        """The token of a user of an index: argument `user_token`."""
        return _Shown("user_token", name, token)

    def ring_user(self, name: str, key: bytes) -> _Shown:
        """The key that a user's wrap holds: argument `user_key` of `sealvec.unlock`."""
        return _Shown("ring_user_key", name, key)

    def ring_token(self, name: str, token: str) -> _Shown:
        """The token of a user of a ring: argument `user_token` of `sealvec.unlock`."""
        return _Shown("ring_user_token", name, token)

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
        return _text(sealed) if value.argument.endswith("user_token") else sealed
