"""Bytes: what the project's own vectors say, opened by `cryptography`'s receiver; no server."""

import contextlib
import json
import pathlib
import types
import uuid

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

import sealvec_client

VECTORS = json.loads(
    (pathlib.Path(__file__).parents[3] / "tests/vectors/sealed_key_v1.json").read_text(encoding="utf-8")
)
SECRET = X25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["secret_key"]))
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def argument_of(case):
    """What `seal` calls it: a ring's user is told from an index's."""
    return "ring_" * (case["of"] == "ring" and case["argument"].startswith("user")) + case["argument"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=argument_of)
def test_opens_with_the_info_of_the_vectors(case):
    key = sealvec_client.PublicKey(
        bytes.fromhex(VECTORS["key_id"]), bytes.fromhex(VECTORS["public_key"]), case["database"], case["role"]
    )
    secret = bytes.fromhex(case["secret"])
    sealed = sealvec_client.seal(key, argument_of(case), case["name"], secret)
    assert sealed[:8] == b"\x9esealed\x01" and sealed[8:24] == key.key_id and len(sealed) == 72 + len(secret)
    assert SUITE.decrypt(sealed[24:], SECRET, bytes.fromhex(case["info"])) == secret


@pytest.mark.parametrize("secret", [b"", b"x" * 31, b"x" * 33, "x" * 32, None])
def test_a_key_has_32_bytes(secret):
    key = sealvec_client.PublicKey(b"i" * 16, SECRET.public_key().public_bytes_raw(), "app", "me")
    with pytest.raises(ValueError):
        sealvec_client.seal(key, "kek", "notes", secret)


WRAPS = json.loads(
    (pathlib.Path(__file__).parents[3] / "tests/vectors/user_wrap_v1.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", WRAPS["cases"], ids=lambda case: "+".join(case["permissions"]))
def test_a_secret_opens_its_wrap(case):
    secret, sealed = bytes.fromhex(WRAPS["secret_key"]), bytes.fromhex(case["wrap"])
    wrap = sealvec_client.Wrap.read(sealed)
    assert wrap.open(secret) == bytes.fromhex(case["user_key"])
    assert (wrap.ring.hex, wrap.role, list(wrap.permissions), wrap.dek_version) == (
        case["ring"],
        case["role"],
        case["permissions"],
        case["dek_version"],
    )
    with pytest.raises(ValueError):
        wrap.open(sealvec_client.generate()[0])
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(ValueError):
            sealvec_client.Wrap.read(bytes(altered)).open(secret)
    for length in range(len(sealed)):
        with pytest.raises(ValueError):
            sealvec_client.Wrap.read(sealed[:length]).open(secret)


class Server:
    """Has one wrap, whatever ring is asked for, and remembers what it is told."""

    def __init__(self, wrap):
        self.wrap, self.told, self.autocommit = wrap, [], True
        self.info = types.SimpleNamespace(transaction_status=psycopg.pq.TransactionStatus.IDLE)

    def cursor(self, **_):
        return contextlib.nullcontext(self)

    def execute(self, statement, parameters=None):
        if "unlock" in statement:
            self.told.append(parameters)
        key = (b"i" * 16, SECRET.public_key().public_bytes_raw(), 60.0, "app", "me")
        answer = key if "transport_key" in statement else (self.wrap,)
        return types.SimpleNamespace(fetchall=lambda: [answer], fetchone=lambda: answer)


def test_a_wrap_of_another_ring_is_not_opened():
    case, secret = WRAPS["cases"][0], bytes.fromhex(WRAPS["secret_key"])
    server = Server(bytes.fromhex(case["wrap"]))
    for other in (str(uuid.uuid4()), uuid.uuid4(), "no UUID"):
        with pytest.raises(ValueError):
            sealvec_client.unlock(server, "notes", secret, other)
    assert server.told == []
    for own in (case["ring"], uuid.UUID(case["ring"]), None):
        sealvec_client.unlock(server, "notes", secret, own)
    assert len(server.told) == 3


def test_nothing_shows_a_secret():
    shown = sealvec_client.Sealer(None).ring("notes", b"\x41" * 32)
    assert "A" * 4 not in repr(shown) and "41" not in repr(shown)
