"""Stands in for the package of this name, which `cyborgdb.integrations.langchain` imports and which weighs gigabytes.

One class, as far as that module uses it: texts become vectors by hashing their words, the same each time.
"""
import hashlib

import numpy as np


class SentenceTransformer:
    DIMENSION = 48

    def __init__(self, name):
        self.name = name

    def get_sentence_embedding_dimension(self):
        return self.DIMENSION

    def encode(self, texts, convert_to_numpy=True):
        assert convert_to_numpy
        rows = np.zeros((len(texts), self.DIMENSION), dtype=np.float32)
        for row, text in zip(rows, texts):
            for word in text.lower().split():
                digest = hashlib.sha256(word.encode()).digest()
                row += np.frombuffer(digest + hashlib.sha256(digest).digest()[:16], dtype=np.uint8).astype(np.float32) - 127.5
            row /= max(np.linalg.norm(row), 1e-6)
        return rows
