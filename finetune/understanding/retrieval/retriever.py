"""Predictions for retrieval: an encoder and the comparison of its embeddings, without training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.understanding.metrics.pools import TOP
from finetune.understanding.metrics.scoring import Predictions
from finetune.understanding.readers.examples_of_task import read_retrieval
from finetune.understanding.readers.pooled import read_pooled
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import (
    Similarity,
    best_matches,
    centred_by,
    mine_set,
    named,
    prepare,
    ranked_matches,
    tuned_threshold,
)
from finetune.understanding.tasks.examples import PooledSet, RetrievalSet
from finetune.understanding.tasks.task import Head, Split, Task

OVER_ALL = "map"  # the metric of a pool that needs the order of all candidates


@dataclass
class Retriever:
    """An embedder and the similarity by which its embeddings are compared."""

    task: Task
    embedder: Embedder
    similarity: Similarity
    centre: bool = False  # see `prepare`
    whiten: bool = False

    def predictions_in(
        self, languages: Sequence[str], data: str, split: Split = Split.TEST
    ) -> Iterator[tuple[RetrievalSet | PooledSet, list[Predictions]]]:
        """The set of each language with the predictions of each layer, from the files of a split below `data`."""
        if self.task.pool:
            yield from self.pooled_predictions(read_pooled(self.task, split, languages, data).values())
            return
        for language in languages:
            test = read_retrieval(self.task, split, language, data)
            yield test, self.predictions(test, data)

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

    def pooled_predictions(self, tests: Iterable[PooledSet]) -> Iterator[tuple[PooledSet, list[Predictions]]]:
        """The test sets, which share a pool, with the predictions of each layer; the pool is encoded once.

        They name the best 20 candidates, or all if the task has a metric over all of them.
        """
        pool: tuple[Sequence[str], np.ndarray] | None = None
        for test in tests:
            if pool is None or pool[0] is not test.candidates:
                pool = test.candidates, self.embedder.embed(test.candidates, f"{self.task.name} candidates")
            count = len(test.candidates) if OVER_ALL in self.task.metrics else TOP
            found: list[Predictions] = []
            for x, y in zip(
                self.embedder.embed(test.queries, f"{self.task.name} {test.language}"), pool[1], strict=True
            ):
                if self.centre or self.whiten:
                    y = centred_by(y, test.candidate_languages)
                x, y = prepare(x, y, centre=self.centre, whiten=self.whiten)
                rows = ranked_matches(x, y, self.similarity, count).tolist()
                names = ([test.candidate_ids[row] for row in own] for own in rows)
                found.append(dict(zip(test.query_ids, names, strict=True)))
            yield test, found

    def _layers_of(self, sentences: RetrievalSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The prepared embeddings of both languages, one layer after the other."""
        name = f"{self.task.name} {sentences.language}"
        own = self.embedder.embed(sentences.source_sentences, name)
        english = self.embedder.embed(sentences.target_sentences, name)
        for x, y in zip(own, english, strict=True):
            yield prepare(x, y, centre=self.centre, whiten=self.whiten)
