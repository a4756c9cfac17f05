"""EncryptedIndex.query and query_binary: orders and distances against numpy, each form of input, each knob."""
import numpy as np

from items import vectors
from setting import client, new_key, refused, refused_by_sdk

ROWS, DIMENSION = 400, 24
DATA = vectors(ROWS, DIMENSION)
QUERIES = vectors(6, DIMENSION)


def distances(metric, query, data=DATA):
    data, query = data.astype(np.float64), query.astype(np.float64)
    if metric == "cosine":
        return 1 - data @ query / (np.linalg.norm(data, axis=1) * np.linalg.norm(query))
    squared = ((data - query) ** 2).sum(1)
    return np.sqrt(squared) if metric == "euclidean" else squared


def filled(name, **options):
    index = client().create_index(name, new_key(), dimension=DIMENSION, **options)
    index.upsert_binary(
        [str(n) for n in range(ROWS)], DATA, metadata=[{"n": n, "kind": "even" if n % 2 == 0 else "odd"} for n in range(ROWS)]
    )
    return index


def exact(rows, metric, query, top_k, only=None):
    """The rows are the `top_k` nearest in order, with true distances."""
    truth = distances(metric, query)
    order = [n for n in np.argsort(truth, kind="stable") if only is None or only(n)][:top_k]
    assert [row["id"] for row in rows] == [str(n) for n in order], (metric, [row["id"] for row in rows], order)
    for row, n in zip(rows, order):
        if "distance" in row:
            assert abs(row["distance"] - truth[n]) <= 2e-5 * max(1.0, truth[n]), (metric, row, truth[n])


def answers_are_exact():
    for metric in ("euclidean", "squared_euclidean", "cosine"):
        for precision in ("float32", "float16"):
            index = filled(f"{metric} {precision}", metric=metric, storage_precision=precision)
            include = ["distance"]
            for query in QUERIES:
                exact(index.query(query.tolist(), top_k=10, include=include), metric, query, 10)
                exact(index.query(query, top_k=10, include=include), metric, query, 10)
                exact(index.query_binary(query, top_k=10, include=include), metric, query, 10)
            for batch in (QUERIES, QUERIES.tolist(), list(QUERIES)):
                came = index.query(query_vectors=batch, top_k=7, include=include)
                assert len(came) == len(QUERIES)
                for rows, query in zip(came, QUERIES):
                    exact(rows, metric, query, 7)
            index.delete_index()


def shapes_of_answers():
    index = filled("shapes")
    one = QUERIES[0]
    for single in (one.tolist(), one):
        assert all(isinstance(row, dict) for row in index.query(single))
    # A batch of one row comes back flat, as the original sends it, and the SDK gives it on.
    assert all(isinstance(row, dict) for row in index.query([one.tolist()], top_k=3))
    two = index.query([one.tolist(), one.tolist()], top_k=3)
    assert [len(rows) for rows in two] == [3, 3] and two[0] == two[1]
    assert len(index.query(one.tolist())) == 100, "top_k is 100 unless asked otherwise"
    assert len(index.query(one, top_k=ROWS + 50)) == ROWS

    assert set(index.query(one.tolist(), top_k=1)[0]) == {"id"}
    for include, keys in (
        ([], {"id"}),
        (["distance"], {"id", "distance"}),
        (["metadata"], {"id", "metadata"}),
        (["metadata", "distance"], {"id", "distance", "metadata"}),
        (["distance", "vector", "contents", "nonsense"], {"id", "distance"}),
    ):
        for query in (one.tolist(), one, [one.tolist()] * 2):
            came = index.query(query, top_k=2, include=include)
            for row in came[0] if isinstance(came[0], list) else came:
                row = {key: value for key, value in row.items() if value is not None}
                assert set(row) == keys, (include, row)
    row = index.query(one.tolist(), top_k=1, include=["metadata"])[0]
    assert row["metadata"] == {"n": int(row["id"]), "kind": "odd" if int(row["id"]) % 2 else "even"}
    index.delete_index()


def every_knob():
    index = filled("knobs")
    index.train(n_lists=4)
    for form in (lambda query: query.tolist(), lambda query: query, lambda query: np.vstack([query] * 2), lambda query: [query.tolist()] * 2):
        for n_probes in (None, 1, 4, 1_000):
            for greedy in (None, False, True):
                for rerank_mult in (None, 1, 50):
                    came = index.query(
                        query_vectors=form(QUERIES[0]),
                        top_k=5,
                        n_probes=n_probes,
                        filters={"kind": "odd"},
                        include=["distance", "metadata"],
                        greedy=greedy,
                        rerank_mult=rerank_mult,
                    )
                    rows = came[0] if isinstance(came[0], list) else came
                    assert len(rows) == 5 and all(row["metadata"]["kind"] == "odd" for row in rows), rows
                    if n_probes == 1_000:
                        exact(rows, "euclidean", QUERIES[0], 5, only=lambda n: n % 2 == 1)
    came = index.query_binary(
        query_vectors=QUERIES[:2], top_k=3, n_probes=4, filters={"n": {"$lt": 100}}, include=["distance"], greedy=True, rerank_mult=2
    )
    for rows, query in zip(came, QUERIES):
        exact(rows, "euclidean", query, 3, only=lambda n: n < 100)
    index.delete_index()


def a_filter_never_starves_a_query():
    index = filled("selective")
    for query in QUERIES:
        farthest = int(np.argmax(distances("euclidean", query)))
        for top_k in (1, 10):
            came = index.query(query, top_k=top_k, filters={"n": farthest}, include=["distance"])
            assert [row["id"] for row in came] == [str(farthest)], came
        exact(index.query(query, top_k=60, filters={"n": {"$gte": 350}}), "euclidean", query, 50, only=lambda n: n >= 350)
    assert index.query(QUERIES[0], filters={"n": -1}) == []
    assert index.query(QUERIES, filters={"n": -1}) == [[]] * len(QUERIES)
    index.delete_index()


def edges_of_metrics():
    data = np.array([[0, 0], [3, 4], [-3, -4], [6, 8], [4, -3]], dtype=np.float32)
    expected = {
        "euclidean": {"0": 5, "1": 0, "2": 10, "3": 5, "4": 50**0.5},
        "squared_euclidean": {"0": 25, "1": 0, "2": 100, "3": 25, "4": 50},
        "cosine": {"0": 1, "1": 0, "2": 2, "3": 0, "4": 1},
    }
    for metric, truth in expected.items():
        index = client().create_index(metric, new_key(), dimension=2, metric=metric)
        index.upsert(list("01234"), data)
        rows = index.query([3.0, 4.0], include=["distance"])
        assert {row["id"] for row in rows} == set(truth), "a zero vector is found as well"
        came = [row["distance"] for row in rows]
        assert came == sorted(came)
        for row in rows:
            assert abs(row["distance"] - truth[row["id"]]) < 1e-5, (metric, row)
        index.delete_index()


def queries_that_are_refused():
    index = filled("asked wrongly")
    good = QUERIES[0].tolist()
    refused_by_sdk(index.query, [])
    refused_by_sdk(index.query, "text")
    refused_by_sdk(index.query, np.zeros((2, 2, 2)))
    refused_by_sdk(index.query_binary, good)
    for wrong in ([1.0, 2.0], [[1.0, 2.0]] * 2, np.zeros(3, dtype=np.float32), np.zeros((2, 3), dtype=np.float32)):
        refused(400, "dimension", index.query, wrong)
    # Each row of a batch counts: the SDK sends ragged batches as they are.
    refused(400, "", index.query, [good, good[:-1]])
    for top_k in (0, -1):
        refused(400, "top_k", index.query, good, top_k=top_k)
        refused(400, "top_k", index.query, QUERIES, top_k=top_k)
    refused(400, "n_probes", index.query, good, n_probes=-1)
    for bad in (np.nan, np.inf):
        query = QUERIES[0].copy()
        query[1] = bad
        refused(400, "finite|NaN|nan|infinity", index.query, query)
        refused(400, "finite|NaN|nan|infinity", index.query, np.vstack([QUERIES[1], query]))
    refused(400, "embedding", index.query, query_contents="text and no model")
    refused(400, "query_vectors", index.query, query_contents="")
    index.delete_index()


def calls():
    return (
        answers_are_exact,
        shapes_of_answers,
        every_knob,
        a_filter_never_starves_a_query,
        edges_of_metrics,
        queries_that_are_refused,
    )
