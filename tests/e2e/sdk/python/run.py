"""Every call of the Python SDK and of its LangChain vector store against a running sidecar that holds no index.

Takes SEALVEC_URL, SEALVEC_API_KEY (the root key) and SEALVEC_KMS_SLOT from the environment; prints one line a group,
`ok` at the end, and exits non-zero at the first failure. Names of groups as arguments run only these.
"""
import logging
import sys
import time
import warnings

import cyborgdb

from setting import TYPED_ERRORS, Recorder, client

# The SDK logs each error before it raises it; here most are wanted.
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

import client_calls, embedding, filters, items, queries, store, text, users  # noqa: E402

GROUPS = {module.__name__: module for module in (client_calls, items, queries, filters, text, users, embedding, store)}
# 0.17's own LangChain module and 0.18's are the same file; these belong to LangChain or need a browser's patience.
NOT_OURS = {
    "CyborgVectorStore.generate_key(save)",  # writes to the home directory; Client.generate_key(save) is called
}


def main(names):
    recorder = Recorder(cyborgdb.Client, cyborgdb.EncryptedIndex, store.CyborgVectorStore)
    for name, module in GROUPS.items():
        if names and name not in names:
            continue
        begun = time.monotonic()
        calls = module.calls()
        for call in calls:
            call()
            left = client().list_indexes()
            assert left == [], f"{name}.{call.__name__} left {left}"
        print(f"{name}: {len(calls)} groups of calls in {time.monotonic() - begun:.1f} s", flush=True)
    if not names:
        missing = [key for key in recorder.missing() if key not in NOT_OURS]
        assert not missing, f"never called or passed: {missing}"
        assert TYPED_ERRORS or not hasattr(cyborgdb.EncryptedIndex, "query_metadata")
        print(f"{len(recorder.seen)} methods, every parameter of each")
    print("ok")


main(sys.argv[1:])
