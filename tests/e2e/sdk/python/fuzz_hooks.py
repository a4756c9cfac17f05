"""schemathesis thinks of bodies; most of them are given the name and key of an index that is there, so that they get
further than 404. One in four stays as it is."""
import os
import zlib

import schemathesis

CLIENT, KMS = "my_index", "kms_index"


def lucky(value):
    return zlib.crc32(repr(value).encode()) % 4


@schemathesis.hook
def map_body(context, body):
    path = getattr(context.operation, "path", "")
    if not isinstance(body, dict) or "/indexes/create" in path or "/indexes/delete" in path:
        return body
    choice = lucky(body)
    if "index_name" in body or "index_key" in body or path.endswith("/users"):
        if choice in (0, 1):
            return {**body, "index_name": CLIENT, "index_key": os.environ["SEALVEC_INDEX_KEY"]}
        if choice == 2:
            return {**{name: value for name, value in body.items() if name != "index_key"}, "index_name": KMS}
    return body


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if isinstance(path_parameters, dict) and "index_name" in path_parameters and lucky(path_parameters):
        return {**path_parameters, "index_name": CLIENT}
    return path_parameters


@schemathesis.hook
def map_headers(context, headers):
    if headers is not None and lucky(dict(headers)):
        return {**dict(headers), "X-Index-Key": os.environ["SEALVEC_INDEX_KEY"]}
    return headers
