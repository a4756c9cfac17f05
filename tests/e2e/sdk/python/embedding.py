"""An index that embeds by itself: contents without vectors, queries by contents. Where the server has no model,
such an index is a 503 that says when to come again and which directory to fill."""
import os

import numpy as np

from setting import TYPED_ERRORS, client, new_key, refused, status_of

HAS_MODEL = os.environ.get("SEALVEC_HAS_MODEL") == "1"
NAMES = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "ALL-minilm-l6-V2")
TEXTS = {
    "fox": "A quick brown fox jumps over a dog.",
    "bread": "To bake bread, mix flour, water, salt and yeast.",
    "rows": "A relational database keeps rows in tables.",
}
QUESTIONS = {"an animal leaps": "fox", "how do I make a loaf": "bread", "SQL storage": "rows"}


def contents_become_vectors():
    for name in NAMES:
        if not HAS_MODEL:
            error = refused(503, "no-models.*Put them there", client().create_index, "embeds", new_key(), embedding_model=name)
            if TYPED_ERRORS:
                assert error.retry_after and error.retryable
            continue
        index = client().create_index("embeds", new_key(), embedding_model=name, metric="cosine")
        assert index.dimension == 384, "the model's, without being asked"
        index.upsert([{"id": key, "contents": text, "metadata": {"key": key}} for key, text in TEXTS.items()])
        for question, expected in QUESTIONS.items():
            rows = index.query(query_contents=question, top_k=3, include=["distance", "metadata"])
            assert [row["id"] for row in rows][0] == expected and len(rows) == 3, (question, rows)
        for row in index.get(list(TEXTS)):
            assert abs(np.linalg.norm(row["vector"]) - 1) < 1e-4 and row["contents"] == TEXTS[row["id"]]
        # Given vectors win, and both kinds lie in one index.
        index.upsert([{"id": "given", "vector": [1.0] + [0.0] * 383, "contents": "anything"}])
        assert index.get(["given"])[0]["vector"][0] == 1.0
        assert index.query([1.0] + [0.0] * 383, query_contents="bread", top_k=1)[0]["id"] == "given"
        assert len(index.query(query_contents="bread", filters={"key": "fox"})) == 1
        refused(400, "vector", index.upsert, [{"id": "neither"}])
        refused(400, "expected 384", index.upsert, [{"id": "short", "vector": [1.0]}, {"id": "text", "contents": "fine"}])
        assert sorted(index.list_ids()) == ["bread", "fox", "given", "rows"], "a refused batch leaves nothing"
        index.delete_index()


def a_dimension_must_be_the_models():
    if not HAS_MODEL:
        return
    mine = client()
    refused(400, "dimension 10 does not match", mine.create_index, "clash", new_key(), dimension=10, embedding_model=NAMES[0])
    refused(400, "not a supported model", mine.create_index, "unknown", new_key(), embedding_model="no-such-model")
    index = mine.create_index("fits", new_key(), dimension=384, embedding_model=NAMES[0])
    index.delete_index()
    assert mine.list_indexes() == []


def calls():
    assert status_of(ValueError("no status")) is None
    return contents_become_vectors, a_dimension_must_be_the_models
