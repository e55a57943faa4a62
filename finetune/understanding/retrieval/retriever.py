"""Predictions for retrieval: an encoder and the comparison of its embeddings, without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune.understanding.metrics.scoring import Predictions
from finetune.understanding.readers.examples_of_task import read_retrieval
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import (
    Similarity,
    best_matches,
    mine_set,
    named,
    prepare,
    tuned_threshold,
)
from finetune.understanding.tasks.examples import RetrievalSet
from finetune.understanding.tasks.task import Head, Split, Task


@dataclass
class Retriever:
    """An embedder and the similarity by which its embeddings are compared."""

    task: Task
    embedder: Embedder
    similarity: Similarity
    centre: bool = False  # see `prepare`
    whiten: bool = False

    def predictions(self, test: RetrievalSet, data: str) -> list[Predictions]:
        """The predictions of each layer, in the form that `score` and prediction files take.

        For mining, a threshold is tuned for each layer on the dev set in the language of `test` below `data`. Every
        sentence is encoded once, whatever the number of layers.
        """
        if self.task.head is Head.SEARCH:
            # XTREME's script searches for the English sentences among those of the language.
            return [
                [test.source_ids[row] for row in best_matches(y, x, self.similarity)] for x, y in self._layers_of(test)
            ]
        dev = read_retrieval(self.task, Split.DEV, test.language, data)
        thresholds = [tuned_threshold(mine_set(dev, x, y, self.similarity), dev) for x, y in self._layers_of(dev)]
        return [
            named(mine_set(test, x, y, self.similarity), test, threshold)
            for (x, y), threshold in zip(self._layers_of(test), thresholds, strict=True)
        ]

    def _layers_of(self, sentences: RetrievalSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The prepared embeddings of both languages, one layer after the other."""
        name = f"{self.task.name} {sentences.language}"
        own = self.embedder.embed(sentences.source_sentences, name)
        english = self.embedder.embed(sentences.target_sentences, name)
        for x, y in zip(own, english, strict=True):
            yield prepare(x, y, centre=self.centre, whiten=self.whiten)
