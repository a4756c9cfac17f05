"""EncryptedIndex: upsert in each form, get, delete, list, train."""
import base64
import datetime
import json

import numpy as np
from cyborgdb.openapi_client.models import (
    BinaryUpsertRequest,
    BinaryVectorBatch,
    BinaryVectorBatchContentsInner,
    IndexOperationRequest,
)

from setting import TYPED_ERRORS, client, new_key, refused, refused_by_sdk

RANDOM = np.random.default_rng(20261121)
DIMENSION = 24


def vectors(rows, dimension=DIMENSION):
    return RANDOM.standard_normal((rows, dimension)).astype(np.float32)


def made(name, **options):
    return client().create_index(name, new_key(), **{"dimension": DIMENSION, **options})


def count(index):
    """The SDK has no method for this route, and what it generated for it reads another route's answer."""
    request = IndexOperationRequest(index_name=index.index_name, index_key=index._key_to_hex())
    answer = index._api.get_index_size_v1_vectors_num_vectors_post_without_preload_content(request)
    assert answer.status == 200, answer.status
    return json.loads(answer.data)["result"]


def same(row, vector):
    assert np.array_equal(np.asarray(row["vector"], dtype=np.float32), np.asarray(vector, dtype=np.float32)), row["id"]


def items_as_dictionaries():
    index = made("dictionaries")
    rows = vectors(6)
    deep = {"a": {"b": {"c": [1, 2.5, None, True, "x", {"d": []}]}}, "dotted.key": 1, "$dollar": 2, "big": 12345678901234567890}
    index.upsert(
        [
            {"id": "all", "vector": rows[0].tolist(), "contents": "grüße ☃\n\t\"'", "metadata": deep},
            {"id": "array", "vector": rows[1]},
            {"id": "doubles", "vector": rows[2].astype(np.float64)},
            {"id": "bytes", "vector": rows[3].tolist(), "contents": b"\x00\xff\x10"},
            {"id": "bytearray", "vector": rows[4].tolist(), "contents": bytearray(b"\x01\x02")},
            {"id": "ein 'Name' mit / und ☃", "vector": rows[5].tolist(), "metadata": {}},
        ]
    )
    names = ["all", "array", "doubles", "bytes", "bytearray", "ein 'Name' mit / und ☃"]
    assert sorted(index.list_ids()) == sorted(names) and count(index) == 6
    came = index.get(ids=names)
    assert [row["id"] for row in came] == names, "in the order asked for"
    for row, vector in zip(came, rows):
        same(row, vector)
    assert came[0]["contents"] == "grüße ☃\n\t\"'" and came[0]["metadata"] == deep
    assert came[1]["contents"] == "" and came[1]["metadata"] == {}
    assert came[3]["contents"] == base64.b64encode(b"\x00\xff\x10").decode()
    assert came[4]["contents"] == base64.b64encode(b"\x01\x02").decode()
    if TYPED_ERRORS:
        moment = datetime.datetime(2026, 11, 21, 12, 30, tzinfo=datetime.timezone.utc)
        index.upsert([{"id": "when", "vector": rows[0].tolist(), "metadata": {"at": moment, "day": moment.date()}}])
        metadata = index.get(["when"])[0]["metadata"]
        assert metadata == {"at": 1795264200000, "day": 1795219200000}, metadata
    index.delete_index()


def ids_with_vectors():
    index = made("pairs")
    rows = vectors(9)
    index.upsert(["0", "1", "2"], rows[:3])
    index.upsert([3, 4], rows[3:5].astype(np.float64))  # numbers become strings in the SDK
    index.upsert(arg1=["5", "6"], arg2=rows[5:7].tolist())
    index.upsert(["7", "8"], list(rows[7:9]))
    came = index.get([str(n) for n in range(9)], include=["vector"])
    assert len(came) == 9
    for row, vector in zip(came, rows):
        same(row, vector)
        assert set(row) == {"id", "vector"}, row
    index.delete_index()


def binary_batches():
    index = made("binary")
    rows = vectors(4)
    ids = [f"b{n}" for n in range(4)]
    contents = ["one", b"two", None, ""] if TYPED_ERRORS else [BinaryVectorBatchContentsInner(word) for word in ("one", "dHdv", "", "")]
    metadata = [{"n": 1}, None, {}, {"n": 4, "tags": ["x"]}]
    index.upsert_binary(ids=ids, vectors=rows, metadata=metadata, contents=contents)
    came = index.get(ids)
    for row, vector in zip(came, rows):
        same(row, vector)
    assert [row["contents"] for row in came] == ["one", "dHdv", "", ""], came
    assert [row["metadata"] for row in came] == [{"n": 1}, {}, {}, {"n": 4, "tags": ["x"]}]
    index.upsert_binary(ids[:2], np.asfortranarray(rows[2:4].astype(">f8")))
    came = index.get(ids[:2])
    for row, vector in zip(came, rows[2:4]):
        same(row, vector)
        assert row["contents"] == "" and row["metadata"] == {}, "an upsert replaces the whole item"
    index.delete_index()


def an_upsert_replaces():
    index = made("replaced")
    rows = vectors(3)
    index.upsert([{"id": "a", "vector": rows[0], "contents": "old", "metadata": {"kind": "old"}}])
    index.upsert([{"id": "a", "vector": rows[1], "metadata": {"other": 1}}])
    (row,) = index.get(["a"])
    same(row, rows[1])
    assert row["contents"] == "" and row["metadata"] == {"other": 1}
    assert index.query(rows[0].tolist(), filters={"kind": "old"}) == []
    index.upsert([{"id": "a", "vector": rows[0]}, {"id": "b", "vector": rows[1]}, {"id": "a", "vector": rows[2]}])
    assert count(index) == 2
    same(index.get(["a"])[0], rows[2])
    index.delete_index()


def get_keeps_order_and_says_nothing_of_the_unknown():
    index = made("order")
    rows = vectors(3)
    index.upsert(["x", "y", "z"], rows)
    came = index.get(["z", "nobody", "x", "z", ""], include=["vector"])
    assert [row["id"] for row in came] == ["z", "x", "z"]
    assert index.get(["nobody"]) == [] and index.get([]) == []
    index.upsert([{"id": "c", "vector": rows[0], "contents": "text", "metadata": {"m": 1}}])
    for include, expected in (
        (["contents", "metadata"], {"id": "c", "contents": "text", "metadata": {"m": 1}}),
        (["contents"], {"id": "c", "contents": "text"}),
        (["metadata"], {"id": "c", "metadata": {"m": 1}}),
        ([], {"id": "c"}),
    ):
        assert index.get(["c"], include=include) == [expected]
    index.delete_index()


def delete_removes():
    index = made("deleted")
    rows = vectors(5)
    index.upsert([str(n) for n in range(5)], rows)
    index.delete(["1", "3", "nobody", "1"])
    assert sorted(index.list_ids()) == ["0", "2", "4"] and count(index) == 3
    assert [row["id"] for row in index.get([str(n) for n in range(5)])] == ["0", "2", "4"]
    assert sorted(row["id"] for row in index.query(rows[1], top_k=5)) == ["0", "2", "4"]
    index.delete(["nobody"])
    index.delete(ids=[])
    index.upsert(["1"], rows[1:2])
    assert index.query(rows[1].tolist(), top_k=1)[0]["id"] == "1"
    index.delete([str(n) for n in range(5)])
    assert index.list_ids() == [] and count(index) == 0 and index.query(rows[0].tolist()) == []
    index.delete_index()


def upserts_that_are_refused():
    index = made("refused")
    good, short = vectors(1)[0].tolist(), [1.0, 2.0]
    index.upsert([{"id": "kept", "vector": good}])
    refused_by_sdk(index.upsert, [{"vector": good}])
    refused_by_sdk(index.upsert, "no list")
    refused_by_sdk(index.upsert, ["a", "b"], [good])
    refused_by_sdk(index.upsert_binary, ["a"], vectors(2))
    refused_by_sdk(index.upsert_binary, ["a"], vectors(1)[0])
    refused_by_sdk(index.upsert_binary, ["a"], [good])
    refused(400, "expected 24", index.upsert, [{"id": "a", "vector": short}])
    refused(400, "expected 24", index.upsert, [{"id": "a", "vector": good}, {"id": "b", "vector": short}])
    refused(400, "expected 24", index.upsert, ["a"], np.array([short]))
    refused(400, "vector", index.upsert, [{"id": "a"}])
    refused(400, "embedding", index.upsert, [{"id": "a", "contents": "text and no model"}])
    refused(400, "", index.upsert, [])
    for bad in (np.nan, np.inf, -np.inf):
        row = np.array([good], dtype=np.float32)
        row[0, 3] = bad
        refused(400, "finite|NaN|nan|infinity", index.upsert, ["a"], row)
        refused(400, "finite|NaN|nan|infinity", index.upsert_binary, ["b", "a"], np.vstack([[good], row]))
    # What the SDK itself never sends: fewer vectors than ids, half a float, no base64.
    key = index._key_to_hex()
    whole = base64.b64encode(np.array(good, dtype="<f4").tobytes()).decode()
    for ids, payload in ((["a", "b"], whole), ([], whole), (["a"], whole[:-8]), (["a"], "%%%"), (["a"], "")):
        request = BinaryUpsertRequest(
            index_name="refused", index_key=key, batch=BinaryVectorBatch(ids=ids, vectors_b64=payload, dimension=DIMENSION)
        )
        refused(400, "", index._api.upsert_vectors_binary_v1_vectors_upsert_binary_post, request)
    assert index.list_ids() == ["kept"], "a refused batch leaves nothing"
    index.delete_index()


def training():
    index = made("trained", dimension=16)
    rows = vectors(3_000, 16)
    for begin in range(0, len(rows), 1_000):
        index.upsert([str(n) for n in range(begin, begin + 1_000)], rows[begin : begin + 1_000])
    assert count(index) == 3_000
    queries = rows[:20] + 0.01
    more = {"max_memory": 0} if TYPED_ERRORS else {}  # new in 0.18
    index.train(n_lists=16, batch_size=2048, max_iters=10, tolerance=1e-5, **more)
    # Lists too large are split and starved ones fold away, so it is about as many as asked for.
    assert index.is_trained() is True and 8 <= index.n_lists <= 32, index.n_lists
    assert index.is_training() is False
    for query, expected in zip(queries, (rows[None, :] - queries[:, None]).__pow__(2).sum(2).argmin(1)):
        came = index.query(query, top_k=3, n_probes=16)
        assert came[0]["id"] == str(expected)
    # Everything stays visible that comes and goes after the training.
    index.upsert(["new"], queries[:1])
    assert index.query(queries[0], top_k=1)[0]["id"] == "new"
    index.delete(["new"])
    assert index.query(queries[0], top_k=1)[0]["id"] == "0"
    index.train()
    assert index.is_trained() is True and len(index.list_ids()) == 3_000
    # 10,000 rows asked of 3,000: all of them, also of a trained index.
    everything = index.query(queries[0], top_k=10_000, include=["distance"])
    assert len({row["id"] for row in everything}) == 3_000
    assert [row["distance"] for row in everything] == sorted(row["distance"] for row in everything)
    few = made("few", dimension=16)
    few.upsert(["a", "b"], rows[:2])
    few.train()
    assert few.is_trained() is False and few.n_lists == 1, "too few rows: a success that changes nothing"
    few.delete_index()
    index.delete_index()


def calls():
    return (
        items_as_dictionaries,
        ids_with_vectors,
        binary_batches,
        an_upsert_replaces,
        get_keeps_order_and_says_nothing_of_the_unknown,
        delete_removes,
        upserts_that_are_refused,
        training,
    )
