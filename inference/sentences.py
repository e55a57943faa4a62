"""Sentences as vectors: one interface for models of transformers and for exported encoders."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune.exported.settings import ExportedSettings, Pooling, is_exported
from finetune.placement import Placement
from finetune.understanding.flags import encoder_directory
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import unit_rows
from veco.sentence_transformers_files import settings_with_recorded

BLOCK_SENTENCES = 1 << 16  # whose pieces are in memory at once, and which are sorted by length


class Encoded(NamedTuple):
    """Vectors of sentences, float32 (sentences, width), and which of these were cut to be read, bool (sentences,)."""

    vectors: np.ndarray
    is_truncated: np.ndarray


class SentenceEncoder:
    """An encoder of sentences: a run, a checkpoint, a model directory, or what `inference.export_encoder` made of one.

    A vector is the mean of a layer's states over the tokens of a sentence, or the state of the first, of length 1
    unless `normalise` is False. What is None is as the directory records it, in files of sentence-transformers too, or
    else as usual: layer 0.6 of the depth, the mean, length 1, as long sentences as the model takes. Models compute in
    float32, on a card if there is one, unless `placement` says otherwise; exported encoders on the CPU, in a precision
    of their own. `max_tokens` is the largest batch, with padding, by default 1,024 on a CPU and 8,192 on a card.

    Raises ValueError for anything else at that path, for a layer, a length, a precision or a device that the encoder
    does not have, where the library of an exported encoder is not installed, and where files of sentence-transformers
    make vectors in another way.
    """

    def __init__(
        self,
        path: str | Path,
        layer: int | None = None,
        pooling: Pooling | str | None = None,
        normalise: bool | None = None,
        max_length: int | None = None,
        max_tokens: int | None = None,
        placement: Placement | None = None,
    ) -> None:
        directory = encoder_directory(Path(path))
        if is_exported(directory):
            settings = ExportedSettings.read(directory)
            pooling, normalise = pooling or settings.pooling, settings.normalise if normalise is None else normalise
        else:
            layer, pooling, max_length = settings_with_recorded(directory, layer, pooling, max_length)
        self.normalise = normalise is not False
        self._embedder = Embedder.load(directory, layer, max_length, max_tokens, placement)
        self._embedder.pooling = Pooling(pooling or Pooling.MEAN)

    @property
    def width(self) -> int:
        """The width of a vector."""
        return int(self._embedder.model.config.hidden_size)

    @property
    def num_truncated(self) -> int:
        """The sentences so far that were longer than the longest that the encoder takes, and were cut."""
        return self._embedder.num_truncated

    def encode(self, sentences: Iterable[str]) -> np.ndarray:
        """The vectors of sentences, float32 (sentences, width), in their order."""
        return self.encode_and_tell(sentences).vectors

    def encode_and_tell(self, sentences: Iterable[str]) -> Encoded:
        """The vectors of sentences, in their order, and which of these are longer than the encoder takes."""
        blocks = list(self._blocks([sentences] if isinstance(sentences, str) else sentences, BLOCK_SENTENCES))
        if not blocks:
            return Encoded(np.zeros((0, self.width), dtype=np.float32), np.zeros(0, dtype=bool))
        return Encoded(*map(np.concatenate, zip(*blocks, strict=True)))

    def encode_in_blocks(self, sentences: Iterable[str], size: int = BLOCK_SENTENCES) -> Iterator[np.ndarray]:
        """The vectors of `size` sentences at a time, for more of them than memory holds."""
        return (block.vectors for block in self._blocks(sentences, size))

    def _blocks(self, sentences: Iterable[str], size: int) -> Iterator[Encoded]:
        remaining = iter(sentences)
        while block := list(itertools.islice(remaining, size)):
            rows, is_truncated = self._embedder.rows_and_cuts(block)
            (vectors,) = self._embedder.embed_rows(rows)
            yield Encoded(unit_rows(vectors) if self.normalise else vectors, is_truncated)
