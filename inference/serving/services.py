"""What a server can compute: the models that it was started with, each with a queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from data_tools.cli import warn
from data_tools.text.lines import open_prose
from finetune.mt.decoding.translator import Translator
from finetune.understanding.retrieval.matching import unit_rows
from inference.fill_mask import Filling, MaskFiller
from inference.search import SentenceIndex
from inference.sentences import SentenceEncoder
from inference.serving.batching import Batcher
from inference.serving.limits import Limits
from inference.unfit_text import UnfitTextError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Masked:
    """A text with masks, and one of the same meaning or None, and how many pieces are asked for."""

    text: str
    other: str | None
    count: int


@dataclass(frozen=True)
class Query:
    """A vector (D,), and how many lines are asked for."""

    vector: np.ndarray
    count: int


class TextVector(NamedTuple):
    """The vector (D,) of a text, and whether the text was cut, as it is longer than the encoder takes."""

    vector: np.ndarray
    is_truncated: bool


class Nearest(NamedTuple):
    """The number of a line, from 0, and its cosine."""

    line: int
    similarity: float


@dataclass(frozen=True)
class Corpus:
    """The lines that are searched, and their vectors."""

    lines: list[str]
    index: SentenceIndex

    @classmethod
    def of(cls, path: Path, encoder: SentenceEncoder) -> Corpus:
        """The lines of a file, embedded; those that are cut are told. Raises ValueError for a file without any."""
        with open_prose(path) as file:
            lines = [line.rstrip("\n") for line in file]
        if not lines:
            raise ValueError(f"{path}: has no line to search")
        found = encoder.encode_and_tell(lines)
        if num_cut := int(found.is_truncated.sum()):
            warn(
                f"{path}: {num_cut:,} of {len(lines):,} lines are longer than the model takes; their ends are not found"
            )
        return cls(lines, SentenceIndex(unit_rows(found.vectors)))


@dataclass(frozen=True)
class Models:
    """What a server was started with; `corpus` needs `encoder`."""

    encoder: SentenceEncoder | None = None
    corpus: Corpus | None = None
    masks: MaskFiller | None = None
    translator: Translator | None = None


class Services:
    """The queues of a server. `observe(service, size)` is told each batch."""

    def __init__(self, models: Models, limits: Limits, observe: Callable[[str, int], None]) -> None:
        self.models, self.limits = models, limits
        # One thread: models that compute at the same time would only take the processors from one another.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="models")

        def batcher(name: str, work: Callable[[Sequence[Item]], Sequence[Result]]) -> Batcher[Item, Result]:
            return Batcher(
                work, self._executor, limits.batch_texts, limits.waiting_texts, lambda size: observe(name, size)
            )

        self.embed: Batcher[str, TextVector] = batcher("embed", self._embed)
        self.fill_mask: Batcher[Masked, list[list[Filling]]] = batcher("fill-mask", self._fill_mask)
        self.translate: Batcher[str, str] = batcher("translate", self._translate)
        self.nearest: Batcher[Query, list[Nearest]] = batcher("search", self._nearest)

    @property
    def names(self) -> list[str]:
        """The services that its models allow."""
        has = {
            "embed": self.models.encoder,
            "similarity": self.models.encoder,
            "search": self.models.corpus,
            "fill-mask": self.models.masks,
            "translate": self.models.translator,
        }
        return [name for name, model in has.items() if model is not None]

    @property
    def queues(self) -> dict[str, Batcher[Any, Any]]:
        """Name -> queue."""
        return {"embed": self.embed, "search": self.nearest, "fill-mask": self.fill_mask, "translate": self.translate}

    def close(self) -> None:
        """End the thread once what it computes is done."""
        self._executor.shutdown()

    def _embed(self, texts: Sequence[str]) -> list[TextVector]:
        assert self.models.encoder is not None
        found = self.models.encoder.encode_and_tell(texts)
        if not np.isfinite(found.vectors).all():  # which JSON cannot write, and whose neighbours are anything
            raise FloatingPointError(
                "a vector is not finite: the model's weights are damaged, or too large for --dtype"
            )
        return list(map(TextVector, found.vectors, found.is_truncated.tolist()))

    def _nearest(self, queries: Sequence[Query]) -> list[list[Nearest]]:
        """The most similar lines for each query, by cosine."""
        assert self.models.corpus is not None
        vectors = unit_rows(np.stack([query.vector for query in queries]))
        found = self.models.corpus.index.search(vectors, max(query.count for query in queries))
        return [
            list(islice(map(Nearest, *of_query), query.count))
            for query, *of_query in zip(queries, found.indices.tolist(), found.scores.tolist(), strict=True)
        ]

    def _fill_mask(self, items: Sequence[Masked]) -> list[list[list[Filling]]]:
        """Those with another sentence and those without are computed apart: they are plugged in and out."""
        assert self.models.masks is not None
        found: dict[int, list[list[Filling]]] = {}
        for plugged_in in (False, True):
            own = [number for number, item in enumerate(items) if (item.other is not None) == plugged_in]
            if own:
                others = [str(items[number].other) for number in own] if plugged_in else None
                most = max(items[number].count for number in own)
                filled = self.models.masks.fill([items[number].text for number in own], others, most)
                found |= dict(zip(own, filled, strict=True))
        return [[list(islice(pieces, item.count)) for pieces in found[number]] for number, item in enumerate(items)]

    def _translate(self, texts: Sequence[str]) -> list[str]:
        assert self.models.translator is not None
        num_cut = self.models.translator.num_cut_lines
        self.models.translator.source_ids(texts)  # which counts those whose ends would silently be missing
        if self.models.translator.num_cut_lines > num_cut:
            most = self.models.translator.generator.max_tokens
            raise UnfitTextError(f"a text has more tokens than the model takes, {most}; send sentences")
        return [hypotheses[0].text for hypotheses in self.models.translator.translate(texts, with_scores=False)]
