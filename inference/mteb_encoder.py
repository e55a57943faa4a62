"""A `SentenceEncoder` as MTEB's tasks take models: `mteb.evaluate(MtebEncoder(encoder, "me/mine"), tasks)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from finetune.understanding.retrieval.matching import unit_rows
from inference.sentences import SentenceEncoder


class MtebEncoder:
    """An encoder of sentences under MTEB's protocol of encoders; prompts are not used.

    `name` is how MTEB's results call the model, as ORGANISATION/MODEL. Raises ValueError for another form, and where
    mteb is not installed.
    """

    def __init__(self, encoder: SentenceEncoder, name: str) -> None:
        if name.count("/") != 1 or not all(name.split("/")):
            raise ValueError(f"name {name!r}: expected ORGANISATION/MODEL")
        try:
            from mteb.models.model_meta import ModelMeta
        except ImportError:
            raise ValueError("mteb is not installed: pip install 'veco[mteb]'") from None
        self.encoder = encoder
        self.mteb_model_meta: Any = ModelMeta.create_empty({"name": name, "embed_dim": encoder.width})

    def encode(self, inputs: Iterable[Mapping[str, Sequence[str]]], **_: Any) -> np.ndarray:
        """The vectors float32 (texts, width) of batches with their texts under `text`; MTEB also says which task."""
        return self.encoder.encode(text for batch in inputs for text in batch["text"])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """The cosines (N, M) of vectors (N, D) and (M, D), or of a single vector (D,)."""
        x, y = (unit_rows(np.atleast_2d(np.asarray(side))) for side in (embeddings1, embeddings2))
        products: np.ndarray = x @ y.T
        return products

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """The cosines (N,) of vectors (N, D) and (N, D), one by one."""
        x, y = (unit_rows(np.atleast_2d(np.asarray(side))) for side in (embeddings1, embeddings2))
        products: np.ndarray = (x * y).sum(axis=1)
        return products
