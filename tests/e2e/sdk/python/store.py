"""The SDK's LangChain vector store, with an embedding of LangChain's interface and with one that is named."""
import asyncio

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from sentence_transformers import SentenceTransformer

import cyborgdb
from cyborgdb.integrations.langchain import CyborgVectorStore
from setting import ROOT_KEY, SECRETS, URL, client, refused_by_sdk

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "a quick brown dog jumps over a lazy fox",
    "postgres stores rows in pages",
    "vectors are stored encrypted in postgres pages",
    "bread is made of flour and water",
]
METADATAS = [{"kind": "animals", "n": 0}, {"kind": "animals", "n": 1}, {"kind": "data", "n": 2}, {"kind": "data", "n": 3}, {}]


class Words(Embeddings):
    """LangChain's interface over the stand-in: no network, the same vectors each time."""

    def __init__(self):
        self.inner = SentenceTransformer("words")

    def embed_documents(self, texts):
        return self.inner.encode(texts).tolist()

    def embed_query(self, text):
        return self.inner.encode([text])[0].tolist()


def key():
    made = CyborgVectorStore.generate_key()
    SECRETS.add(made.hex())
    return made


def cosine(query):
    vectors = SentenceTransformer("words").encode(TEXTS + [query]).astype(np.float64)
    return 1 - vectors[:-1] @ vectors[-1]


def with_texts():
    store = CyborgVectorStore("chain", key(), ROOT_KEY, URL, Words())
    assert store.index.dimension == SentenceTransformer.DIMENSION and store.index.metric == "cosine"
    ids = store.add_texts(TEXTS, METADATAS, ids=[f"t{n}" for n in range(5)])
    assert ids == [f"t{n}" for n in range(5)] and sorted(store.list_ids()) == ids
    assert store.add_texts([]) == []
    (drawn,) = store.add_texts(["drawn id"])
    assert drawn in store.list_ids()
    assert store.delete([drawn]) is True and store.delete() is False and store.delete([]) is False

    for query in (TEXTS[3], "encrypted postgres", "lazy fox"):
        truth = cosine(query)
        order = np.argsort(truth, kind="stable")
        found = store.similarity_search(query=query, k=3)
        assert [document.page_content for document in found] == [TEXTS[n] for n in order[:3]]
        assert [document.metadata for document in found] == [METADATAS[n] for n in order[:3]]
        for (document, score), n in zip(store.similarity_search_with_score(query, k=5), order):
            assert document.page_content == TEXTS[n] and abs(score - (1 - truth[n] / 2)) < 1e-5
        by_vector = store.similarity_search_by_vector(Words().embed_query(query), k=2, n_probes=4)
        assert [document.page_content for document in by_vector] == [TEXTS[n] for n in order[:2]]

    animals = store.similarity_search("postgres", k=5, filter={"kind": "animals"})
    assert {document.metadata["n"] for document in animals} == {0, 1}
    for filter in ({"kind": "data", "n": 3}, {"$and": [{"kind": "data"}, {"n": {"$gt": 2}}]}, {"n": {"$in": [3]}}):
        assert [document.metadata["n"] for document in store.similarity_search("fox", filter=filter)] == [3], filter
    scored = store.similarity_search_with_score("fox", k=1, filter={"n": 2})
    assert [document.page_content for document, _ in scored] == [TEXTS[2]]

    assert [document.page_content for document in store.get(["t4", "nobody", "t0"])] == [TEXTS[4], TEXTS[0]]
    assert store.get(["t1"])[0].metadata == METADATAS[1]
    retriever = store.as_retriever(search_type="similarity", search_kwargs={"k": 2, "filter": {"kind": "data"}})
    assert {document.metadata["n"] for document in retriever.invoke("rows in pages")} == {2, 3}

    # A second store on the same index, and documents that replace.
    again = CyborgVectorStore("chain", store.index_key, ROOT_KEY, URL, Words())
    again.add_documents([Document(page_content="replaced", metadata={"kind": "new"})], ids=["t4"])
    assert store.get(["t4"])[0].page_content == "replaced"
    assert store.delete(ids=["t4"]) and len(store.list_ids()) == 4
    assert store.get_embeddings("one").shape == (SentenceTransformer.DIMENSION,)
    assert store.get_embeddings(texts=["one", "two"]).shape == (2, SentenceTransformer.DIMENSION)
    assert store.delete(delete_index=True) is True
    assert client().list_indexes() == []


def with_a_named_model():
    """`embedding` is a name: the client embeds by the package of that name, the index keeps the name."""
    index_key = key()
    for metric, score in (("euclidean", lambda d: np.exp(-d)), ("squared_euclidean", lambda d: np.exp(-np.sqrt(d)))):
        store = CyborgVectorStore.from_texts(
            TEXTS, Words(), METADATAS, embeddings=Words().embed_documents(TEXTS), index_name="named", index_key=index_key,
            api_key=ROOT_KEY, base_url=URL, metric=metric, ids=[f"t{n}" for n in range(5)],
        )
        rows = store.similarity_search_with_score("lazy fox", k=5)
        chord = 2 * cosine("lazy fox")  # of unit vectors
        truth = sorted(score(d if metric == "squared_euclidean" else np.sqrt(d)) for d in chord)[::-1]
        assert np.allclose([value for _, value in rows], truth, atol=1e-5), (rows, truth)
        assert store.delete(delete_index=True)
    documents = [Document(page_content=text, metadata=metadata) for text, metadata in zip(TEXTS, METADATAS)]
    store = CyborgVectorStore.from_documents(
        documents=documents, embedding=SentenceTransformer("any"), index_name="named", index_key=index_key, api_key=ROOT_KEY, base_url=URL
    )
    assert store.similarity_search(TEXTS[2], k=1)[0].page_content == TEXTS[2]
    store.add_documents(documents[:1], embeddings=np.ones((1, SentenceTransformer.DIMENSION), dtype=np.float32), ids=["ones"])
    assert np.allclose(store.index.get(["ones"])[0]["vector"], 1)
    assert store.delete(delete_index=True)
    # verify_ssl, dimension and metric as arguments.
    store = CyborgVectorStore(
        index_name="named", index_key=index_key, api_key=ROOT_KEY, base_url=URL, embedding=Words(),
        dimension=SentenceTransformer.DIMENSION, metric="cosine", verify_ssl=False,
    )
    assert store.index.dimension == SentenceTransformer.DIMENSION
    store.delete(delete_index=True)


def the_models_name_goes_to_the_server():
    """A model's name makes the store ask for an index that embeds by itself, of that model's dimension; what the
    server embeds and what the store embeds lie in one index."""
    store = CyborgVectorStore("by name", key(), ROOT_KEY, URL, "all-MiniLM-L6-v2", dimension=384)
    assert store.index.dimension == 384
    store.add_texts(["given vectors"], embeddings=[[1.0] * 384], ids=["v"])
    assert store.similarity_search_by_vector([1.0] * 384, k=1)[0].page_content == "given vectors"
    store.index.upsert([{"id": "s", "contents": "embedded by the server", "metadata": {"_content": "embedded by the server"}}])
    assert store.index.query(query_contents="embedded by the server", top_k=1) == [{"id": "s"}]
    assert [document.page_content for document in store.get(["s", "v"])] == ["embedded by the server", "given vectors"]
    store.delete(delete_index=True)


async def asynchronous():
    store = CyborgVectorStore("async", key(), ROOT_KEY, URL, Words())
    ids = await store.aadd_texts(texts=TEXTS, metadatas=METADATAS, ids=[f"t{n}" for n in range(5)])
    await store.aadd_documents(documents=[Document(page_content="one more")], ids=["more"])
    both = await asyncio.gather(*(store.asimilarity_search(text, k=1) for text in TEXTS))
    assert [documents[0].page_content for documents in both] == TEXTS
    scored = await store.asimilarity_search_with_score(TEXTS[0], k=2, filter={"kind": "animals"})
    assert [document.page_content for document, _ in scored] == TEXTS[:2] and scored[0][1] > 0.999
    vector = Words().embed_query("bread")
    assert (await store.asimilarity_search_by_vector(vector, k=1, filter=None))[0].page_content == TEXTS[4]
    assert (await store.asimilarity_search("bread", k=2, filter={"kind": "data"}))[0].metadata["kind"] == "data"
    assert await store.adelete(ids=ids) is True
    assert store.list_ids() == ["more"]
    assert await store.adelete(delete_index=True) is True


def asynchronous_calls():
    asyncio.run(asynchronous())


def stores_that_are_refused():
    for bad in (b"short", "k" * 32):
        refused_by_sdk(CyborgVectorStore, "bad", bad, ROOT_KEY, URL, Words())
    refused_by_sdk(CyborgVectorStore.from_texts, TEXTS, Words(), index_key=key(), api_key=None, base_url=URL)
    store = CyborgVectorStore("lengths", key(), ROOT_KEY, URL, Words())
    refused_by_sdk(store.add_texts, TEXTS, METADATAS[:2])
    refused_by_sdk(store.add_texts, TEXTS, ids=["one"])
    refused_by_sdk(store.add_texts, TEXTS, embeddings=[[1.0] * 48])
    stranger = CyborgVectorStore("lengths", key(), ROOT_KEY, URL, Words())
    try:
        stranger.add_texts(["x"])
    except ValueError as error:
        assert "encryption key" in str(error), error
    else:
        raise AssertionError("a wrong key wrote")
    assert stranger.delete(["x"]) is False, "the store turns an error into a warning and a no"
    assert store.delete(delete_index=True)


def calls():
    assert cyborgdb.CyborgVectorStore is CyborgVectorStore
    return (
        with_texts,
        with_a_named_model,
        the_models_name_goes_to_the_server,
        asynchronous_calls,
        stores_that_are_refused,
    )
