"""Metadata filters as the documents of 0.18 have them: each operator against the same condition in Python."""
import re

from setting import client, new_key, refused

ITEMS = [
    {"n": 0, "f": 0.5, "s": "alpha", "tags": ["red", "green"], "ok": True, "loc": {"city": "Kiel", "geo": {"lat": 54.3}}},
    {"n": 1, "f": 1.0, "s": "beta", "tags": ["green"], "ok": False, "loc": {"city": "Ulm"}},
    {"n": 2, "f": 2, "s": "Alpha", "tags": [], "ok": None, "dotted.key": "here"},
    {"n": "1", "s": "a.b(c", "tags": ["blue", 1], "ok": True, "nums": [1, 5, 9]},
    {"n": -3.25, "s": "", "tags": "red", "loc": {"city": "kiel"}},
    {"n": True, "s": "grüße ☃"},
    {"big": 12345678901234567890, "n": [2, 7]},
    {},
]
MISSING = object()


def values(item, path):
    """What a path names: the values to compare, arrays element by element."""
    if path in item:
        found = item[path]
    else:
        found = item
        for part in path.split("."):
            found = found.get(part, MISSING) if isinstance(found, dict) else MISSING
    return found if isinstance(found, list) else [] if found is MISSING or found is None else [found]


def same(a, b):
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    number = (int, float)
    return a == b if isinstance(a, number) == isinstance(b, number) else False


def number(a):
    return isinstance(a, (int, float)) and not isinstance(a, bool)


def equal(path, value):
    return lambda item: any(same(found, value) for found in values(item, path))


def compare(path, condition):
    return lambda item: any(number(found) and condition(found) for found in values(item, path))


def matches(path, pattern):
    return lambda item: any(isinstance(found, str) and re.search(pattern, found) for found in values(item, path))


TABLE = [
    ({}, lambda item: True),
    ({"n": 1}, equal("n", 1)),
    ({"n": "1"}, equal("n", "1")),
    ({"n": True}, equal("n", True)),
    ({"n": 2}, equal("n", 2)),
    ({"f": 2.0}, equal("f", 2)),
    ({"big": 12345678901234567890}, equal("big", 12345678901234567890)),
    ({"big": 12345678901234567891}, lambda item: False),
    ({"s": "alpha"}, equal("s", "alpha")),
    ({"s": {"$eq": "Alpha"}}, equal("s", "Alpha")),
    ({"s": {"$ne": "alpha"}}, lambda item: "s" in item and item["s"] != "alpha"),
    ({"tags": "green"}, equal("tags", "green")),
    ({"tags": {"$ne": "green"}}, lambda item: bool(values(item, "tags")) and not equal("tags", "green")(item)),
    ({"s": {"$in": ["alpha", "beta", 5]}}, lambda item: item.get("s") in ("alpha", "beta")),
    ({"s": {"$in": []}}, lambda item: False),
    ({"s": {"$nin": ["alpha", "beta"]}}, lambda item: item.get("s") not in ("alpha", "beta")),
    ({"s": {"$nin": []}}, lambda item: True),
    ({"n": {"$gt": 0}}, compare("n", lambda x: x > 0)),
    ({"n": {"$gte": 0, "$lt": 2}}, lambda item: compare("n", lambda x: x >= 0)(item) and compare("n", lambda x: x < 2)(item)),
    ({"n": {"$lte": -3.25}}, compare("n", lambda x: x <= -3.25)),
    ({"nums": {"$gt": 8}}, compare("nums", lambda x: x > 8)),
    ({"loc.city": "Kiel"}, equal("loc.city", "Kiel")),
    ({"loc.geo.lat": {"$gt": 50}}, compare("loc.geo.lat", lambda x: x > 50)),
    ({"dotted.key": "here"}, equal("dotted.key", "here")),
    ({"ok": {"$exists": True}}, lambda item: item.get("ok") is not None),
    ({"ok": {"$exists": False}}, lambda item: item.get("ok") is None),
    ({"tags": {"$exists": True}}, lambda item: bool(values(item, "tags"))),
    ({"s": {"$contains": "lph"}}, lambda item: "lph" in item.get("s", "")),
    ({"tags": {"$contains": "re"}}, lambda item: any(isinstance(t, str) and "re" in t for t in values(item, "tags"))),
    ({"s": {"$regex": "^[Aa]lpha$"}}, matches("s", "^[Aa]lpha$")),
    ({"s": {"$regex": "(?i)ALPHA"}}, matches("s", "(?i)ALPHA")),
    ({"s": {"$regex": "ü.*☃"}}, matches("s", "ü.*☃")),
    ({"$and": [{"s": "alpha"}, {"n": 0}]}, lambda item: item.get("s") == "alpha"),
    ({"$and": []}, lambda item: True),
    ({"$or": [{"s": "alpha"}, {"s": "beta"}]}, lambda item: item.get("s") in ("alpha", "beta")),
    ({"$or": []}, lambda item: False),
    ({"$nor": [{"s": "alpha"}, {"ok": False}]}, lambda item: item.get("s") != "alpha" and item.get("ok") is not False),
    ({"$not": {"s": "alpha"}}, lambda item: item.get("s") != "alpha"),
    ({"s": "alpha", "n": 0}, lambda item: item.get("s") == "alpha"),
    ({"s": "alpha", "n": 1}, lambda item: False),
    ({"$or": [{"$and": [{"n": {"$gte": 0}}, {"tags": "red"}]}, {"loc.city": "Ulm"}]}, lambda item: item.get("s") in ("alpha", "beta")),
    ({"nobody": "x"}, lambda item: False),
]
REFUSED = [
    ({"n": {"$in": 1}}, r"\$in requires an array"),
    ({"n": {"$nin": "x"}}, r"\$nin requires an array"),
    ({"n": {"$gt": "b"}}, r"\$gt requires a numeric value"),
    ({"n": {"$exists": 1}}, r"\$exists requires a boolean value"),
    ({"$and": {"n": 1}}, r"\$and requires an array"),
    ({"n": {"$not": {"$gt": 1}}}, r"Unsupported metadata operator: \$not"),
    ({"s": {"$regex": "("}}, r"\$regex has an invalid pattern"),
    ({"s": {"$like": "x"}}, r"Unsupported metadata operator: \$like"),
    ({"s": {"$elemMatch": {}}}, r"Unsupported metadata operator: \$elemMatch"),
    ({"loc": {"city": "Ulm"}}, "Unsupported metadata operator: city"),
]


def each_operator():
    index = client().create_index("filters", new_key(), dimension=2)
    index.upsert([{"id": str(n), "vector": [float(n), 1.0], "metadata": item} for n, item in enumerate(ITEMS)])
    for filters, condition in TABLE:
        expected = [str(n) for n, item in enumerate(ITEMS) if condition(item)]
        came = [row["id"] for row in index.query([0.0, 1.0], filters=filters)]
        assert came == expected, f"{filters}: expected {expected}, not {came}"
        if hasattr(index, "query_metadata") and not re.search("regex|contains", str(filters)):
            came = sorted(row["id"] for row in index.query_metadata(filters))
            assert came == expected, f"query_metadata {filters}: expected {expected}, not {came}"
    for filters, words in REFUSED:
        refused(400, words, index.query, [0.0, 1.0], filters=filters)
    index.delete_index()


def calls():
    return (each_operator,)
