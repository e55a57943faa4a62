"""HICTL (Wei et al., ICLR 2021): contrast of sentences with interpolated negatives, and of a pair with words.

Sentences. For a pair (x, y) of a group and another sentence y' of the group, with distances d+ = |x - y| and
d- = |x - y'|, the negative is not y' but, where it is farther than y, a point on the way to it:

    y~ = x + l (y' - x) with l = (d+ / d-) ^ (zeta p) if d- > d+, else y'
    -log exp(c(x, y) / t) / (exp(c(x, y) / t) + sum over y' of exp(c(x, y~) / t))

for cosines c and a temperature t, and the same with x and y exchanged; the loss is the mean of both. The published p is
the mean of exp(-loss) over the last 100 batches, as far as we know it; here it is that of the plain loss, with y' for
y~, over the pair's own group. So nothing is carried from one batch to the next, and the loss does not depend on the
number of ranks. l is a constant for the gradient. The published t is 1, and zeta 0.9 (both unverified).

Words. q is the state of `<s>` of both sentences joined, W the pieces of these, and S those `negatives` pieces that are
most similar to q of all in the group's sentences, but not in W; e are embeddings:

    -1/|W| sum over w in W of log exp(c(q, e(w)) / t) / (exp(c(q, e(w)) / t) + sum over v in S of exp(c(q, e(v)) / t))

Shape suffixes: R pairs of a group; N tokens of their joined rows; V vocabulary; D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from veco.config import VecoConfig
from veco.objectives.objective import BILINGUAL, Count, ItemLosses, Objective, Route, Term
from veco.objectives.shared.pooling import POOLINGS, groups, pooled, products
from veco.objectives.states import LAST, States
from veco.views import CLEAN_PAIR, CLEAN_X, CLEAN_Y


@dataclass(frozen=True)
class HierarchicalContrast(Objective):
    """Contrast of the sentences of a group, plus `word_weight` times that of each pair with its pieces.

    Sentences are pooled on path H after `layer` (-1: the last) from states without masks.
    """

    name = "hictl"
    kinds = (BILINGUAL,)
    contrasts_pairs = True
    views = (CLEAN_X, CLEAN_Y, CLEAN_PAIR)
    routes = (Route(CLEAN_X), Route(CLEAN_Y), Route(CLEAN_PAIR))

    temperature: float = 1.0
    zeta: float = 0.9
    negatives: int = 64
    word_temperature: float = 1.0
    word_weight: float = 1.0
    layer: int = LAST
    pooling: str = "cls"

    def problems(self) -> list[str]:
        above_zero = ("temperature", "word_temperature", "word_weight")
        return [
            *(f"{name} {vars(self)[name]} must be above 0" for name in above_zero if not vars(self)[name] > 0),
            *([] if self.zeta >= 0 else [f"zeta {self.zeta} must not be negative"]),
            *([] if self.negatives >= 1 else [f"negatives {self.negatives} must be at least 1"]),
            *([] if self.pooling in POOLINGS else [f"pooling {self.pooling!r} must be one of {', '.join(POOLINGS)}"]),
        ]

    @property
    def terms(self) -> tuple[Term, ...]:
        counts = (Count(CLEAN_X, of_rows=True),)
        return (
            Term("hictl_sentences", counts, is_of_tokens=False),
            Term("hictl_words", counts, is_of_tokens=False, weight=self.word_weight),
        )

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return () if self.layer == LAST else (self.layer,)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        batch, packed = states.batch, states.batch.packed
        of_x, of_y, of_both = self.routes
        x, y = (pooled(states.of(route, self.layer), packed, route.view, self.pooling) for route in (of_x, of_y))
        q = pooled(states.of(of_both), packed, CLEAN_PAIR, "cls")
        ids, rows = batch.ids_of(CLEAN_PAIR), batch.rows_of(CLEAN_PAIR)
        # Through the module, so that ZeRO-3 gathers its weights; the same call on every rank.
        embedded = batch.encoder.embeddings.word_embeddings(ids).to(q.dtype)
        lengths = packed.sizes.lengths[CLEAN_PAIR]
        of_groups = [sum(lengths[i : i + packed.group_pairs]) for i in range(0, len(lengths), packed.group_pairs)]
        of_sentences, of_words = [], []
        tokens = zip(ids.split(of_groups), rows.split(of_groups), embedded.split(of_groups), strict=True)
        for (x_RD, y_RD, q_RD), (ids_N, rows_N, embedded_ND) in zip(groups(packed, x, y, q), tokens, strict=True):
            of_sentences.append(sentence_losses(x_RD, y_RD, self.temperature, self.zeta))
            bags = Bags.of(ids_N, rows_N - rows_N[0], len(q_RD), batch.encoder.config)
            of_words.append(word_losses(q_RD, embedded_ND, bags, self.negatives, self.word_temperature))
        all_rows = torch.arange(len(x), device=x.device)
        return [
            ItemLosses(term.name, torch.cat(values), all_rows, torch.cat(is_right), term.counts[0])
            for term, (values, is_right) in zip(
                self.terms, (zip(*of_sentences, strict=True), zip(*of_words, strict=True)), strict=True
            )
        ]


def sentence_losses(x_RD: Tensor, y_RD: Tensor, temperature: float, zeta: float) -> tuple[Tensor, Tensor]:
    """The loss of each pair (R,), and whether x's translation is more similar than its negatives: the formula above."""
    (of_x, is_right), (of_y, _) = (directed_losses(a, b, temperature, zeta) for a, b in ((x_RD, y_RD), (y_RD, x_RD)))
    return (of_x + of_y) / 2, is_right


def directed_losses(x_RD: Tensor, y_RD: Tensor, temperature: float, zeta: float) -> tuple[Tensor, Tensor]:
    """`sentence_losses` of x's own direction: which y is its translation."""
    targets = torch.arange(len(x_RD), device=x_RD.device)
    products_RR = products(x_RD, y_RD)
    x_R, y_R = x_RD.square().sum(1), y_RD.square().sum(1)
    shares_RR = interpolation(products_RR.detach(), x_R.detach(), y_R.detach(), temperature, zeta)
    # Of z = (1 - l) x + l y', a vector for each pair of sentences, only <x, z> and |z| are needed.
    rest_RR, x_R1 = 1 - shares_RR, x_R.unsqueeze(1)
    with_x_RR = rest_RR * x_R1 + shares_RR * products_RR
    squares_RR = rest_RR.square() * x_R1 + 2 * rest_RR * shares_RR * products_RR + shares_RR.square() * y_R
    cosines_RR = with_x_RR / (x_R1 * squares_RR).clamp(min=torch.finfo(x_RD.dtype).tiny).sqrt()
    values = cross_entropy(cosines_RR / temperature, targets, reduction="none")
    return values, cosines_RR.argmax(1) == targets


def interpolation(products_RR: Tensor, x_R: Tensor, y_R: Tensor, temperature: float, zeta: float) -> Tensor:
    """l (R, R) from the products of all x and y, and the squares of their norms; 1 where y' itself is the negative."""
    distances_RR = (x_R.unsqueeze(1) + y_R - 2 * products_RR).clamp(min=0).sqrt()
    nearest_R1 = distances_RR.diagonal().unsqueeze(1)
    cosines_RR = products_RR / (x_R.unsqueeze(1) * y_R).clamp(min=torch.finfo(x_R.dtype).tiny).sqrt()
    p = (cosines_RR / temperature).softmax(1).diagonal().mean()  # exp(-loss) of the plain loss
    ratios_RR = nearest_R1 / distances_RR.clamp(min=torch.finfo(x_R.dtype).tiny)
    return torch.where(distances_RR > nearest_R1, ratios_RR ** (zeta * p), 1.0)


@dataclass(frozen=True)
class Bags:
    """The tokens of a group's joined rows as bags of pieces.

    `in_row_RN`: token n's piece is in row i. `weights_RN`: its share of row i's loss; these add up to 1, alike for each
    different piece of the row. `is_first_N`: it is the first token of its piece, and the piece is no special one.
    """

    in_row_RN: Tensor
    weights_RN: Tensor
    is_first_N: Tensor

    @classmethod
    def of(cls, ids_N: Tensor, rows_N: Tensor, num_rows: int, config: VecoConfig) -> Bags:
        """Those of tokens with these ids and rows."""
        places_N = torch.arange(len(ids_N), device=ids_N.device)
        special = [found for found in (config.bos_token_id, config.eos_token_id) if isinstance(found, int)]
        is_word_N = torch.stack([ids_N.ne(found) for found in special]).all(0)
        # Pieces are told apart by their first tokens rather than by ids, of which there are many more.
        firsts_V = places_N.new_full((config.vocab_size,), len(ids_N)).scatter_reduce(0, ids_N, places_N, "amin")
        firsts_N = firsts_V[ids_N]
        counts_RN = places_N.new_zeros(num_rows, len(ids_N))
        counts_RN = counts_RN.index_put((rows_N, firsts_N), is_word_N.long(), accumulate=True).index_select(1, firsts_N)
        is_of_row_RN = rows_N == torch.arange(num_rows, device=ids_N.device).unsqueeze(1)
        weights_RN = (is_of_row_RN & is_word_N) / counts_RN.clamp(min=1)
        weights_RN = weights_RN / weights_RN.sum(1, keepdim=True).clamp(min=1)
        return cls(counts_RN > 0, weights_RN, is_word_N & (firsts_N == places_N))


def word_losses(
    q_RD: Tensor, embedded_ND: Tensor, bags: Bags, negatives: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """The loss of each row (R,), and whether the piece most similar to q is one of the row's: the formula above."""
    logits_RN = products(normalize(q_RD, dim=1), normalize(embedded_ND, dim=1)) / temperature
    lowest = torch.finfo(logits_RN.dtype).min
    is_negative_RN = bags.is_first_N & ~bags.in_row_RN
    hardest = logits_RN.masked_fill(~is_negative_RN, lowest).topk(min(negatives, logits_RN.shape[1])).values
    outside_R1 = hardest.logsumexp(1, keepdim=True)
    of_each_RN = torch.logaddexp(logits_RN, outside_R1) - logits_RN
    best_of_row = logits_RN.masked_fill(bags.weights_RN == 0, lowest).amax(1)
    return (of_each_RN * bags.weights_RN).sum(1), best_of_row > hardest[:, 0]
