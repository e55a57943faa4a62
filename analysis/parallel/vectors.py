"""The vectors of parallel sentences by language and layer, in files that disappear with the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from analysis.parallel.texts import ParallelText
from analysis.scratch import unnamed_map
from finetune.understanding.retrieval.embeddings import Embedder


@dataclass(frozen=True)
class ParallelVectors:
    """{language: float32 (layers, sentences, D)}: the mean states of sentences, of which row i translates row i."""

    layers: Sequence[int]
    by_language: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, embedder: Embedder, text: ParallelText, chosen: np.ndarray, scratch: Path) -> ParallelVectors:
        """The vectors of the rows `chosen` in all the embedder's layers, mapped from unnamed files in `scratch`.

        They take 4 bytes x sentences x D x layers of its disk for each language.
        """
        num_rows = int(chosen.sum())
        shape = len(embedder.layers), num_rows, int(embedder.model.config.hidden_size)
        by_language = {language: unnamed_map(shape, scratch) for language in text.languages}
        first = 0
        with tqdm(total=num_rows * len(by_language), desc="reading", unit=" sentences", disable=None) as progress:
            for block in text.blocks(chosen):
                for vectors, sentences in zip(by_language.values(), zip(*block, strict=True), strict=True):
                    vectors[:, first : first + len(block)] = embedder.embed(sentences)
                    progress.update(len(block))
                first += len(block)
        return cls(embedder.layers, by_language)

    @property
    def languages(self) -> list[str]:
        return list(self.by_language)

    @property
    def num_sentences(self) -> int:
        return next(iter(self.by_language.values())).shape[1]

    def of_layer(self, language: str, layer: int) -> np.ndarray:
        """float32 (sentences, D), still on disk."""
        return self.by_language[language][self.layers.index(layer)]

    def centre_of(self, language: str, layer: int) -> np.ndarray:
        """The mean of a language's vectors, float32 (D,)."""
        return self.of_layer(language, layer).mean(axis=0, dtype=np.float64).astype(np.float32)
