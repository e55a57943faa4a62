"""What predicts for a retrieval task: an encoder, and how its embeddings are compared. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.understanding.readers import read_retrieval
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Similarity, mine_set, named, prepare, search, tuned_threshold
from finetune.understanding.tasks.examples import RetrievalSet
from finetune.understanding.tasks.table import Head, Split, Task


@dataclass
class Retriever:
    """What finds translations, with each of the embedder's layers."""

    task: Task
    embedder: Embedder
    similarity: Similarity
    centre: bool = False  # see `prepare`
    whiten: bool = False

    def predictions(self, test: RetrievalSet, data: str) -> list[Any]:
        """For each layer what it predicts, in the form that `score` and the prediction files take.

        BUCC's threshold is tuned on the dev set that `data` has in the language of `test`, for each layer anew. Every
        sentence is encoded once, whatever the number of layers.
        """
        if self.task.head is Head.SEARCH:
            # XTREME's script asks with the English sentences, and looks among those of the language.
            return [[test.source_ids[row] for row in search(y, x, self.similarity)] for x, y in self._layers_of(test)]
        dev = read_retrieval(self.task, Split.DEV, test.language, data)
        thresholds = [tuned_threshold(mine_set(dev, x, y, self.similarity), dev) for x, y in self._layers_of(dev)]
        return [
            named(mine_set(test, x, y, self.similarity), test, threshold)
            for (x, y), threshold in zip(self._layers_of(test), thresholds, strict=True)
        ]

    def _layers_of(self, sentences: RetrievalSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Both sides' embeddings as `prepare` makes them, one layer after the other."""
        name = f"{self.task.name} {sentences.language}"
        own = self.embedder.embed(sentences.source_sentences, name)
        english = self.embedder.embed(sentences.target_sentences, name)
        for x, y in zip(own, english, strict=True):
            yield prepare(x, y, centre=self.centre, whiten=self.whiten)
