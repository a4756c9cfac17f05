"""0.18: metadata without a vector, full text by BM25, hybrid queries, and the schema that they need."""
import math
import re

from setting import SLOT, TYPED_ERRORS, client, new_key, refused, refused_by_sdk

TEXTS = {
    "1": {"body": "quick brown fox", "head": "fox", "views": 9, "when": 5},
    "2": {"body": "the lazy dogs and another fox sleep quietly together", "head": "dogs", "views": 3},
    "3": {"body": "fox fox fox", "views": 1, "kind": "x"},
    "4": {"body": "nothing of that kind", "head": "quick", "views": "many"},
    "5": {"views": 7, "kind": "y"},
}
STOP = {"the", "and", "of", "that"}
WORDS = {"dogs": "dog", "quietly": "quiet"}  # what Porter's second stemmer makes of these


def terms(text):
    return [WORDS.get(word, word) for word in re.findall(r"\w+", text.lower()) if word not in STOP]


def bm25(query, field, k1=1.2, b=0.75):
    """Scores of the ids whose field holds a word of the query."""
    documents = {name: terms(item[field]) for name, item in TEXTS.items() if field in item}
    mean = sum(map(len, documents.values())) / len(documents)
    scores = {}
    for word in set(terms(query)):
        holding = [name for name, words in documents.items() if word in words]
        idf = math.log(1 + (len(documents) - len(holding) + 0.5) / (len(holding) + 0.5))
        for name in holding:
            count = documents[name].count(word)
            norm = k1 * (1 - b + b * len(documents[name]) / mean)
            scores[name] = scores.get(name, 0) + idf * count * (k1 + 1) / (count + norm)
    return scores


def filled(name, **options):
    index = client().create_index(name, new_key(), dimension=2, **options)
    index.upsert([{"id": n, "vector": [float(n), 0.0], "metadata": item} for n, item in TEXTS.items()])
    return index


def ids(rows):
    return [row["id"] for row in rows]


def ranked(rows, scores):
    expected = sorted(scores, key=lambda name: -scores[name])
    assert ids(rows) == expected, (rows, scores)
    for row in rows:
        assert abs(row["score"] - scores[row["id"]]) < 1e-5 * max(1, scores[row["id"]]), (row, scores)


def metadata_without_a_vector():
    index = filled("metadata")
    assert sorted(ids(index.query_metadata())) == list("12345")
    assert all(set(row) == {"id"} for row in index.query_metadata())
    assert ids(index.query_metadata(filters={"kind": "x"})) == ["3"]
    assert index.query_metadata(filters={"kind": "nobody"}) == []
    for order_by, ascending, expected in (
        ("views", True, "32514"),
        ("views", False, "41523"),
        ({"views": 1}, True, "32514"),
        ({"views": -1}, True, "41523"),
    ):
        assert ids(index.query_metadata(order_by=order_by, ascending=ascending)) == list(expected), (order_by, ascending)
    assert ids(index.query_metadata({"views": {"$gt": 1}}, top_k=2, order_by="views")) == ["2", "5"]
    assert len(index.query_metadata(top_k=3)) == 3
    assert len(index.query_metadata(top_k=0)) == 5, "0 is all of them"
    assert ids(index.query_metadata(order_by="kind"))[:2] == ["3", "5"], "missing comes last"
    refused_by_sdk(index.query_metadata, order_by={"a": 1, "b": 1})
    refused(400, "top_k", index.query_metadata, top_k=-1)
    refused(400, "full_text", index.query_metadata, text="fox")
    refused(400, r"\$gt requires", index.query_metadata, {"views": {"$gt": "x"}})
    index.delete_index()


def a_schema_is_kept_and_enforced():
    schema = {"title": {"filterable": True, "pattern": True}, "blob": {"filterable": False}, "body": {"full_text": True}}
    index = filled("schema", metadata_schema=schema)
    assert index.metadata_schema == {
        "title": {"filterable": True, "pattern": True, "full_text": False},
        "blob": {"filterable": False, "pattern": False, "full_text": False},
        "body": {"filterable": False, "pattern": False, "full_text": True},
    }
    assert (index.bm25["k1"], index.bm25["b"]) == (1.2, 0.75) and index.bm25["analyzer_version"], index.bm25
    index.upsert([{"id": "t", "vector": [1.0, 1.0], "metadata": {"title": "Some title", "blob": "x", "views": 0}}])
    assert ids(index.query_metadata({"title": {"$regex": "^Some"}})) == ["t"]
    assert ids(index.query_metadata({"title": {"$contains": "tit"}})) == ["t"]
    refused(400, "non-indexed metadata field", index.query_metadata, {"blob": "x"})
    refused(400, "non-indexed metadata field", index.query_metadata, {"body": "fox"})
    refused(400, r"requires a regex-indexed \(pattern\) field", index.query_metadata, {"kind": {"$regex": "x"}})
    assert ids(index.query([0.0, 0.0], filters={"blob": "x"})) == ["t"], "with a vector the schema only advises"
    index.delete_index()

    mine, key = client(), new_key()
    for name, words, options in (
        ("p", "pattern=true requires filterable=true", {"metadata_schema": {"f": {"pattern": True, "filterable": False}}}),
        ("f", "full_text=true is incompatible", {"metadata_schema": {"f": {"full_text": True, "filterable": True}}}),
        ("e", "field names must be non-empty", {"metadata_schema": {"": {"filterable": True}}}),
    ):
        refused(422, words, mine.create_index, name, key, dimension=2, **options)
    for words, options in (
        ("full_text field", {"bm25_k1": 1.5}),
        ("full_text field", {"bm25_b": 0.5}),
        ("BM25 b must be in", {"text_fields": ["body"], "bm25_b": 1.5}),
        ("BM25 k1 must be finite", {"text_fields": ["body"], "bm25_k1": -1.0}),
    ):
        refused(400, words, mine.create_index, "bm25", key, dimension=2, **options)
    assert mine.list_indexes() == []


def full_text():
    index = filled("text", text_fields=["body", "head"])
    for query in ("fox", "quick fox", "FOX!", "dog", "quick dogs"):
        body, head = bm25(query, "body"), bm25(query, "head")
        ranked(index.query_metadata(text=query, text_fields=["body"]), body)
        both = {name: body.get(name, 0) + head.get(name, 0) for name in {**body, **head}}
        ranked(index.query_metadata(text=query), both)
        weighed = {name: 2 * body.get(name, 0) + 0.5 * head.get(name, 0) for name in {**body, **head}}
        ranked(index.query_metadata(text=query, text_fields=["body", "head"], text_field_weights=[2.0, 0.5]), weighed)
    assert ids(index.query_metadata(text="quick fox", text_fields=["body"], require_all_terms=True)) == ["1"]
    assert index.query_metadata(text="zebra") == [] and index.query_metadata(text="the") == []
    assert ids(index.query_metadata(text="fox", filters={"views": {"$gte": 5}})) == ["1"]
    assert len(index.query_metadata(text="fox", top_k=1)) == 1
    for words, options in (
        ("not a full_text field", {"text": "fox", "text_fields": ["views"]}),
        ("text_field_weights has 2 entries", {"text": "fox", "text_fields": ["body"], "text_field_weights": [1.0, 2.0]}),
        ("order_by is not supported together with query text", {"text": "fox", "order_by": "views"}),
        ("require non-empty query text", {"text_fields": ["body"]}),
    ):
        refused(400, words, index.query_metadata, **options)
    # What is upserted and deleted counts at once.
    index.upsert([{"id": "1", "vector": [1.0, 0.0], "metadata": {"body": "zebra"}}])
    assert ids(index.query_metadata(text="zebra")) == ["1"]
    index.delete(["1"])
    assert index.query_metadata(text="zebra") == []
    index.delete_index()

    tuned = filled("tuned", text_fields=["body"], bm25_k1=2.0, bm25_b=0.25)
    ranked(tuned.query_metadata(text="quick fox"), bm25("quick fox", "body", k1=2.0, b=0.25))
    assert (tuned.bm25["k1"], tuned.bm25["b"]) == (2.0, 0.25)
    tuned.delete_index()

    kms = client().create_index("text in a KMS-backed index", kms_name=SLOT, dimension=2, text_fields=["body"])
    kms.upsert([{"id": "1", "vector": [1.0, 0.0], "metadata": {"body": "only one"}}])
    assert ids(kms.query_metadata(text="one")) == ["1"]
    kms.delete_index()


def fused(near, text, alpha=0.5, k=60):
    """Reciprocal rank fusion of two rankings."""
    scores = {}
    for ranking, weight in ((near, alpha), (text, 1 - alpha)):
        for rank, name in enumerate(ranking, 1):
            if weight:
                scores[name] = scores.get(name, 0) + weight / (k + rank)
    return scores


def hybrid():
    index = filled("hybrid", text_fields=["body"])
    near = ["2", "1", "3", "4", "5"]  # from 1.9, 0
    words = sorted(bm25("quick fox", "body").items(), key=lambda pair: -pair[1])
    text = [name for name, _ in words]
    import numpy as np

    for query in ([1.9, 0.0], np.array([1.9, 0.0], dtype=np.float32), [[1.9, 0.0]] * 2, np.array([[1.9, 0.0]] * 2, dtype=np.float32)):
        for alpha, k in ((None, None), (0.3, 60.0), (0.9, 10.0), (1.0, 60.0), (0.0, 60.0)):
            came = index.query(query, top_k=5, text="quick fox", alpha=alpha, rrf_k=k, window_mult=3)
            expected = fused(near, text, 0.5 if alpha is None else alpha, 60 if k is None else k)
            for rows in came if isinstance(came[0], list) else [came]:
                assert all(row.get("distance") is None for row in rows)
                assert {row["id"] for row in rows} == set(expected), (alpha, rows, expected)
                scores = [row["score"] for row in rows]
                assert scores == sorted(scores, reverse=True)
                for row in rows:
                    assert abs(row["score"] - expected[row["id"]]) < 1e-6, (alpha, k, row, expected)
    rows = index.query([1.9, 0.0], text="fox", text_fields=["body"], text_field_weights=[2.0], require_all_terms=True, filters={"views": {"$gt": 1}})
    assert {row["id"] for row in rows} == {"1", "2", "5"}, rows
    rows = index.query_binary(
        np.array([1.9, 0.0], dtype=np.float32), text="fox", text_fields=["body"], text_field_weights=[1.0],
        require_all_terms=False, alpha=0.5, rrf_k=60.0, window_mult=2, top_k=2,
    )
    assert len(rows) == 2 and all(row["score"] > 0 for row in rows)
    for words, options in (
        (r"alpha must be in \[0, 1\]", {"text": "fox", "alpha": 2.0}),
        ("rrf_k must be > 0", {"text": "fox", "rrf_k": 0.0}),
        ("window_mult must be >= 1", {"text": "fox", "window_mult": 0}),
        ("require non-empty `text`", {"alpha": 0.5}),
        ("require non-empty query text", {"text_fields": ["body"]}),
        ("not a full_text field", {"text": "fox", "text_fields": ["kind"]}),
        ("non-indexed metadata field", {"text": "fox", "filters": {"body": "fox"}}),
    ):
        refused(400, words, index.query, [1.9, 0.0], **options)
    index.delete_index()
    none = client().create_index("no text", new_key(), dimension=2)
    refused(400, "at least one full_text field", none.query, [1.9, 0.0], text="fox")
    none.delete_index()


def calls():
    if not TYPED_ERRORS:
        return ()  # 0.17 has none of it
    return (metadata_without_a_vector, a_schema_is_kept_and_enforced, full_text, hybrid)
