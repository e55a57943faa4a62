"""Sums by language and language pair: tokens, and how well they were predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrain.micro_batch import SAMPLES
from training.step import Batch
from veco.objectives.objective import MONO, Term

PREFIXES = {True: "language", False: "pair"}  # of monolingual groups, and of bilingual ones


@dataclass(frozen=True)
class Summary:
    """Totals over all ranks.

    `totals` (groups, terms, 3) has sums of losses, items (predicted tokens, as a rule) and right ones; `tokens`
    (groups, 2) those that the model saw and those that were cut off before; `flops` are of forward passes.
    """

    groups: Sequence[tuple[str, str]]
    terms: Sequence[Term]
    totals: np.ndarray
    tokens: np.ndarray
    flops: float
    digest: int

    def by_group(self) -> dict[str, float]:
        """{"de/mlm": nats a predicted token, "de/mlm_accuracy": share of them that is right, "de-en/tlm": …}."""
        return {
            f"{name}/{metric}": value
            for group, (_, name) in enumerate(self.groups)
            for metric, value in self._means(self.totals[group]).items()
        }

    def by_kind(self) -> dict[str, float]:
        """Nats a predicted token and perplexity, over all that is of a kind: in training and validation the same.

        {"mono_loss": over all terms of tokens, "mono_perplexity": e to that, "mono_mlm": …, "mono_mlm_perplexity": …,
        "mono_mlm_accuracy": share predicted right, …, "bilingual_tlm": …}. Terms of other items have no perplexity.
        """
        found: dict[str, float] = {}
        of_tokens = [term.is_of_tokens for term in self.terms]
        with_perplexity = {"loss", *(term.name for term in self.terms if term.is_of_tokens)}
        for kind in dict.fromkeys(kind for kind, _ in self.groups):
            totals = self.totals[[of == kind for of, _ in self.groups]].sum(0)
            loss, predicted, _ = totals[of_tokens].sum(0).tolist()
            means = {"loss": loss / predicted} if predicted else {}
            for name, value in {**means, **self._means(totals)}.items():
                found[f"{kind}_{name}"] = value
                if name in with_perplexity:
                    found[f"{kind}_{'' if name == 'loss' else f'{name}_'}perplexity"] = perplexity(value)
        return found

    def tokens_by_group(self) -> dict[str, tuple[float, float]]:
        """{"de-en": (tokens that were seen, tokens that were cut off), …} of the groups that were there."""
        return {
            name: (seen, cut) for (_, name), (seen, cut) in zip(self.groups, self.tokens.tolist(), strict=True) if seen
        }

    def _means(self, totals: np.ndarray) -> dict[str, float]:
        means: dict[str, float] = {}
        for term, (loss, num_items, right) in zip(self.terms, totals.tolist(), strict=True):
            if num_items:
                means |= {term.name: loss / num_items}
                means |= {f"{term.name}_accuracy": right / num_items} if term.is_judged else {}
        return means


def perplexity(nats: float) -> float:
    """e to the power of a loss, within what a float can be."""
    return math.exp(min(nats, 100.0))


class Totals:
    """Running sums over the batches of `make_batch` on this rank, on their device, without waiting for it."""

    def __init__(self, groups: Sequence[tuple[str, str]], terms: Sequence[Term], device: torch.device) -> None:
        self.groups = groups
        self.terms = terms
        self.numbers = {term.name: number for number, term in enumerate(terms)}
        self.device = device
        self.clear()

    def clear(self) -> None:
        size = len(self.groups)
        # float64 counts tokens exactly; in one tensor, so that one reduction does.
        self.sums = torch.zeros(size * (3 * len(self.terms) + 2) + 1, dtype=torch.float64, device=self.device)
        self.digest = torch.zeros((), dtype=torch.int64, device=self.device)

    def _views(self, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(terms (groups, terms, 3), tokens (groups, 2), operations ()) inside `sums`."""
        size = len(self.groups)
        terms, tokens, flops = sums.split([size * 3 * len(self.terms), size * 2, 1])
        return terms.view(size, len(self.terms), 3), tokens.view(size, 2), flops[0]

    def add(self, batch: Batch, row_totals: Mapping[str, Tensor], flops: float = 0.0) -> None:
        """Add a batch, the model's `row_totals` of it and the operations of training on it."""
        group, num_cut, digest, num_tokens = batch[SAMPLES].unbind(1)
        terms, tokens, all_flops = self._views(self.sums)
        for name, totals in row_totals.items():
            terms[:, self.numbers[name]].index_add_(0, group, totals.double())
        # `<s>` and `</s>`, which every sequence has, are no text.
        tokens.index_add_(0, group, torch.stack([num_tokens - 4, num_cut], dim=1).double())
        all_flops += flops
        self.digest += digest.sum()

    def read(self, sum_over_ranks: Callable[[Tensor], Tensor]) -> Summary:
        """The totals of all ranks, which begin again; every rank calls it."""
        terms, tokens, flops = self._views(sum_over_ranks(self.sums).cpu())
        digest = int(sum_over_ranks(self.digest)) % 2**64
        self.clear()
        return Summary(self.groups, self.terms, terms.numpy(), tokens.numpy(), float(flops), digest)


def training_line(
    summary: Summary, seconds: float, num_devices: int, peak_tflops: float | None
) -> dict[str, float | str]:
    """The values for a line of metrics, from a summary over so many seconds of training.

    `tflops_per_second` is what each device achieved, `utilisation` its share of `peak_tflops`. `samples` is a digest of
    the samples and masks since the line before: the same on any number of ranks.
    """
    line: dict[str, float | str] = {}
    kind_of = {name: kind for kind, name in summary.groups}
    for name, value in summary.by_group().items():
        line[f"{PREFIXES[kind_of[name.split('/')[0]] == MONO]}/{name}"] = value
    line |= {f"train/{name}": value for name, value in summary.by_kind().items()}
    line |= {f"cut_share/{name}": cut / (seen + cut) for name, (seen, cut) in summary.tokens_by_group().items() if cut}
    if summary.flops:
        achieved = summary.flops / seconds / num_devices / 1e12
        line["tflops_per_second"] = achieved
        line |= {"utilisation": achieved / peak_tflops} if peak_tflops else {}
    line["samples"] = f"{summary.digest:016x}"
    return line
