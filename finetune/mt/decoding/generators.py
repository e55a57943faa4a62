"""The interface of sequence generators, which turn source ids into target ids, and its implementation in torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from finetune.batch_by_tokens import cut_by_tokens
from finetune.mt.decoding.beam_search import BeamSearch, Found, SearchOptions, TargetIds
from veco import VecoForConditionalGeneration

# Limit on the logits of one search step for all beams, or of one scored chunk: 256 MB in float32 on a CPU; on a GPU a
# fraction of the free memory, since a step needs about three times as much.
MAX_LOGITS = 1 << 26
LOGITS_SHARE = 1 / 16


def max_logits(device: torch.device) -> int:
    """Maximum number of logits in memory at once."""
    if device.type != "cuda":
        return MAX_LOGITS
    free, _ = torch.cuda.mem_get_info(device)
    return max(MAX_LOGITS, int(free * LOGITS_SHARE / torch.float32.itemsize))


@dataclass(frozen=True)
class SourceBatch:
    """Sentences to translate, as the model reads them, and the maximum length of each translation in pieces."""

    sources: list[list[int]]
    limits: list[int]


@dataclass(frozen=True)
class PairBatch:
    """Sentences and their translations to score, as the model reads and predicts them."""

    sources: list[list[int]]
    targets: list[list[int]]


class SequenceGenerator(Protocol):
    """A translation model that searches for translations and scores given ones."""

    target: TargetIds

    @property
    def max_tokens(self) -> int:
        """Maximum length of a source or target in tokens, special ones included."""

    def cut(self, sizes: np.ndarray, limits: np.ndarray) -> list[np.ndarray]:
        """The numbers of the sentences in each batch, given their sizes in tokens and limits; longest first."""

    def search(self, batches: Sequence[SourceBatch], with_scores: bool) -> Iterator[list[list[Found]]]:
        """For each batch in turn, at most `nbest` hypotheses of each source, best first.

        `with_scores` asks for the probability of each piece; a generator may return them anyway.
        """

    def score(self, batches: Iterable[PairBatch]) -> Iterator[list[list[float]]]:
        """For each batch in turn, the log-probability (natural logarithm) of each id of the targets."""


class TorchGenerator:
    """A model in torch, on any device."""

    def __init__(
        self, model: VecoForConditionalGeneration, target: TargetIds, options: SearchOptions, pad_token_id: int
    ) -> None:
        self.model = model.eval()
        self.target = target
        self.options = options
        self.pad_token_id = pad_token_id

    @property
    def max_tokens(self) -> int:
        return self.model.config.max_tokens

    def cut(self, sizes: np.ndarray, limits: np.ndarray) -> list[np.ndarray]:
        order = np.argsort(-sizes, kind="stable")  # longest first: a batch that does not fit in memory fails at once
        max_items = max(1, max_logits(self.model.device) // (self.options.beam * self.model.config.vocab_size))
        max_tokens = max(self.options.max_tokens, int(sizes.max(initial=0)))
        bounds = cut_by_tokens(sizes[order], max_tokens, max_items)
        return [order[start:end] for start, end in itertools.pairwise(bounds)]

    def search(self, batches: Sequence[SourceBatch], with_scores: bool) -> Iterator[list[list[Found]]]:
        for batch in batches:
            with torch.inference_mode():
                input_ids, mask = self._padded(batch.sources)
                yield BeamSearch(self.model, self.target, self.options, input_ids, mask, batch.limits).run()

    def score(self, batches: Iterable[PairBatch]) -> Iterator[list[list[float]]]:
        for batch in batches:
            longest = max(map(len, batch.targets))
            chunk_size = max(1, max_logits(self.model.device) // (longest * self.model.config.vocab_size))
            scores: list[list[float]] = []
            for first in range(0, len(batch.targets), chunk_size):
                chunk = slice(first, first + chunk_size)
                scores += self._score(batch.sources[chunk], batch.targets[chunk])
            yield scores

    def _score(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of each id of the targets, computed in one forward pass."""
        with torch.inference_mode():
            input_ids, mask = self._padded(sources)
            labels, _ = self._padded(targets)
            starts = labels.new_full((len(targets), 1), self.target.start)
            logits = self.model(
                input_ids=input_ids,
                attention_mask=mask,
                decoder_input_ids=torch.cat([starts, labels[:, :-1]], dim=1),
                use_cache=False,
            ).logits
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            chosen = logits.gather(2, labels.unsqueeze(2)).squeeze(2) - logits.logsumexp(dim=2)
        return [row[: len(target)] for row, target in zip(chosen.tolist(), targets, strict=True)]

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids (batch, longest) padded on the right, and the attention mask, which is true = may be attended to."""
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        ids = torch.full(mask.shape, self.pad_token_id)
        ids[mask] = torch.tensor([i for row in rows for i in row])
        return ids.to(self.model.device), mask.to(self.model.device)
