"""Client: health, create, load, list, describe, delete; who is let in; a KMS-backed index."""
import os
import tempfile

import cyborgdb

from setting import ROOT_KEY, SLOT, TYPED_ERRORS, URL, VERSION, client, new_key, refused, refused_by_sdk

METRICS = ("euclidean", "squared_euclidean", "cosine")
PRECISIONS = ("float32", "float16", "tq12", "tq8", "tq6", "tq4")


def health_needs_no_key():
    for who in (client(), client(None), client("wrong")):
        health = who.get_health()
        assert health["status"] == "healthy", health
        assert set(health) >= {"status", "api_version", "version"}, health
        assert health["api_version"] == "v1", health


def everything_else_needs_one():
    key = new_key()
    mine = client()
    mine.create_index("door", key, dimension=2)
    for api_key, words in (
        (None, "API Key is required"),
        ("wrong", "Invalid API Key"),
        (ROOT_KEY[:-1], "Invalid API Key"),
        (ROOT_KEY + "0", "Invalid API Key"),
        ("cdbk_1_abc", "Invalid user API key"),
        ("cdbk_1_" + "A" * 75, "Invalid user API key"),
    ):
        stranger = client(api_key)
        refused(401, words, stranger.list_indexes)
        refused(401, words, stranger.load_index, "door", key)
        refused(401, words, stranger.create_index, "another", key, dimension=2)
        index = cyborgdb.EncryptedIndex("door", key, stranger.api, stranger.api_client)
        refused(401, words, index.upsert, [{"id": "a", "vector": [1.0, 2.0]}])
        refused(401, words, index.query, [1.0, 2.0])
        refused(401, words, index.get, ["a"])
        refused(401, words, index.delete, ["a"])
        refused(401, words, index.delete_index)
        refused(401, words, index.create_user, ["read"])
    assert mine.list_indexes() == ["door"]
    mine.load_index("door", key).delete_index()


def keys_are_made():
    first, second = cyborgdb.Client.generate_key(), cyborgdb.Client.generate_key(save=False)
    assert len(first) == len(second) == 32 and first != second
    with tempfile.TemporaryDirectory() as home:
        before = os.environ.get("HOME")
        os.environ["HOME"] = home
        try:
            assert cyborgdb.Client.generate_key(save=True) == cyborgdb.Client.generate_key(save=True)
        finally:
            os.environ["HOME"] = before or "/"


def create_describe_list_delete():
    mine = client()
    assert mine.list_indexes() == []
    made = {}
    for metric in METRICS:
        made[f"metric {metric}"] = dict(dimension=5, metric=metric)
    for precision in PRECISIONS if TYPED_ERRORS else PRECISIONS[:2]:
        made[f"precision {precision}"] = dict(dimension=8, storage_precision=precision)
    made["plain"] = {}
    made["grüße, ☃ und ein 'Leerzeichen'"] = dict(dimension=2)
    keys = {name: new_key() for name in made}
    for name, options in made.items():
        index = mine.create_index(index_name=name, index_key=keys[name], **options)
        assert index.index_name == name
        assert index.metric == options.get("metric", "euclidean")
        assert index.dimension == options.get("dimension", 0), "0 until the first upsert"
        assert index.n_lists == 1
        assert index.is_trained() is False
        assert index.is_training() is False
    assert mine.list_indexes() == sorted(made)
    for name, options in made.items():
        index = mine.load_index(index_name=name, index_key=keys[name])
        assert (index.metric, index.dimension) == (options.get("metric", "euclidean"), options.get("dimension", 0))
        if TYPED_ERRORS:
            assert index.metadata_schema == {} and index.bm25 is None

    plain = mine.load_index("plain", keys["plain"])
    refused(400, "dimension is not set", plain.query, [1.0, 2.0, 3.0])
    plain.upsert([{"id": "first", "vector": [1.0, 2.0, 3.0]}])
    plain = mine.load_index("plain", keys["plain"])  # 0.17 remembers the 0
    assert plain.dimension == 3, "learned from the first upsert"
    refused(400, "expected 3", plain.upsert, [{"id": "second", "vector": [1.0, 2.0]}])

    for name in made:
        mine.load_index(name, keys[name]).delete_index()
    assert mine.list_indexes() == []
    refused(404, "plain|index", mine.load_index, "plain", keys["plain"])
    # The name is free again, for another key and dimension.
    other = new_key()
    mine.create_index("plain", other, dimension=2).upsert([{"id": "x", "vector": [1.0, 2.0]}])
    again = mine.load_index("plain", other)
    assert again.get(["first", "x"])[0]["id"] == "x", "nothing of the deleted index is left"
    again.delete_index()


def creations_that_are_refused():
    mine = client()
    key = new_key()
    refused_by_sdk(mine.create_index, "neither")
    refused_by_sdk(mine.create_index, "short", b"k" * 16)
    refused_by_sdk(mine.create_index, "text", "k" * 32)
    refused(400, "index_key must not be supplied alongside kms_name", mine.create_index, "both", key, kms_name=SLOT)
    refused(400, "Unknown KMS registry entry", mine.create_index, "slot", kms_name="no-such-slot")
    refused(400, "index_name cannot be empty", mine.create_index, "", key, dimension=2)
    refused(400, "[Mm]etric", mine.create_index, "metric", key, dimension=2, metric="manhattan")
    refused(400, "[Mm]etric", mine.create_index, "metric", key, dimension=2, metric="Cosine")
    refused(400, "dimension", mine.create_index, "less than nothing", key, dimension=-1)
    refused(400, "dimension", mine.create_index, "too wide", key, dimension=70_000)
    refused_by_sdk(mine.create_index, "precision", key, dimension=2, storage_precision="int8") if TYPED_ERRORS else None
    mine.create_index("taken", key, dimension=2)
    refused(409, "taken", mine.create_index, "taken", key, dimension=2)
    refused(409, "taken", mine.create_index, "taken", new_key(), dimension=3, metric="cosine")
    refused(409, "taken", mine.create_index, "taken", kms_name=SLOT)
    assert mine.list_indexes() == ["taken"], "what was refused left nothing"
    mine.load_index("taken", key).delete_index()


def wrong_index_keys_open_nothing():
    mine = client()
    key, wrong = new_key(), new_key()
    mine.create_index("locked", key, dimension=2).upsert([{"id": "a", "vector": [1.0, 2.0], "contents": "c"}])
    refused(401, "[Ww]rong encryption key|Invalid encryption key", mine.load_index, "locked", wrong)
    refused(401, "client_kek required", mine.load_index, "locked")
    refused(404, "nowhere", mine.load_index, "nowhere", key)
    refused(404, "nowhere", mine.load_index, "nowhere")
    for bad, words in ((wrong, "encryption key"), (None, "client_kek required")):
        index = cyborgdb.EncryptedIndex("locked", bad, mine.api, mine.api_client)
        refused(401, words, index.upsert, [{"id": "b", "vector": [1.0, 2.0]}])
        refused(401, words, index.query, [1.0, 2.0])
        refused(401, words, index.get, ["a"])
        refused(401, words, index.list_ids)
        refused(401, words, index.delete, ["a"])
        refused(401, words, index.train)
        refused(401, words, index.create_user, ["read"])
        refused(401, words, index.list_users)
        refused(401, words, index.delete_user, "00" * 16)
        refused(401, words, index.delete_index)
    gone = cyborgdb.EncryptedIndex("nowhere", key, mine.api, mine.api_client)
    for call, *arguments in (
        (gone.upsert, [{"id": "b", "vector": [1.0, 2.0]}]),
        (gone.query, [1.0, 2.0]),
        (gone.get, ["a"]),
        (gone.list_ids,),
        (gone.delete, ["a"]),
        (gone.train,),
        (gone.create_user, ["read"]),
        (gone.list_users,),
        (gone.delete_index,),
    ):
        refused(404, "nowhere", call, *arguments)
    index = mine.load_index("locked", key)
    assert index.list_ids() == ["a"], "neither a wrong key nor none changed anything"
    index.delete_index()


def the_service_keeps_the_key_of_a_kms_backed_index():
    mine = client()
    index = mine.create_index("kms", kms_name=SLOT, dimension=3)
    index.upsert([{"id": str(n), "vector": [float(n), 1.0, 0.0], "contents": f"text {n}"} for n in range(5)])
    loaded = client().load_index("kms")
    assert sorted(loaded.list_ids()) == list("01234")
    assert [row["id"] for row in loaded.query([3.1, 1.0, 0.0], top_k=2)] == ["3", "4"]
    assert loaded.get(["2"], include=["contents"]) == [{"id": "2", "contents": "text 2"}]
    refused(400, "KMS-backed; do not supply index_key", mine.load_index, "kms", new_key())
    given = cyborgdb.EncryptedIndex("kms", new_key(), mine.api, mine.api_client)
    refused(400, "KMS-backed; do not supply index_key", given.query, [3.1, 1.0, 0.0])
    refused(400, "KMS-backed; do not supply index_key", given.delete_index)
    loaded.train()
    loaded.delete(["1"])
    assert sorted(loaded.list_ids()) == list("0234")
    loaded.delete_index()
    refused(404, "kms", mine.load_index, "kms")


def nobody_listens():
    nowhere = cyborgdb.Client("http://127.0.0.1:9", ROOT_KEY)
    if TYPED_ERRORS:
        try:
            nowhere.list_indexes()
        except cyborgdb.TransportError as error:
            assert error.retryable and error.status_code is None
        else:
            raise AssertionError("expected no answer")
    verified = cyborgdb.Client(base_url=URL, api_key=ROOT_KEY, verify_ssl=True)
    assert verified.list_indexes() == []


def calls():
    assert VERSION in ((0, 17, 0), (0, 18, 0)), VERSION
    return (
        health_needs_no_key,
        everything_else_needs_one,
        keys_are_made,
        create_describe_list_delete,
        creations_that_are_refused,
        wrong_index_keys_open_nothing,
        the_service_keeps_the_key_of_a_kms_backed_index,
        nobody_listens,
    )
