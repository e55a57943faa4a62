"""VECO 2.0 (Zhang et al., 2023): contrast of sentences, and of the words inside a pair of sentences.

Its abstract says what is contrasted; temperatures, layer and weights are our choices, and so is the reading that
follows. The words of a pair (x, y) that translate each other by a lexicon, or are synonyms by a thesaurus, form groups.
A word i of a group has the others of its group as positives P, and all words of both sentences outside the group as
negatives N. With cosines c of word vectors and temperature t its loss is the mean over j in P of

    -log exp(c(i, j) / t) / (exp(c(i, j) / t) + sum_{n in N} exp(c(i, n) / t))

The sentences' loss is that of `veco.objectives.contrast`. Masked language modelling, the third part of VECO 2.0, is an
objective of its own: `mlm + veco2`.

Shape suffixes: N tokens of x and y, packed end to end; R pairs; W words of x and y together; D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from veco.config import VecoConfig
from veco.labels import IGNORED
from veco.objectives.contrast import contrasted
from veco.objectives.objective import BILINGUAL, LEXICON, THESAURUS, Count, ItemLosses, Objective, Route, Term
from veco.objectives.shared.pooling import POOLINGS, pooled, products
from veco.objectives.states import LAST, Batch, States
from veco.views import LINKS, NUMBERED_X, NUMBERED_Y

WORD_VECTORS = ("mean", "first")


@dataclass(frozen=True)
class SentenceAndWordContrast(Objective):
    """InfoNCE over the sentences of a group of pairs, plus `word_weight` times that over the words of each pair.

    Both read the states after `layer` (-1: the last) on path H of sentences without masks. `pooling` makes a
    sentence's vector of these, `word` a word's: the mean of its pieces, or the first.
    """

    name = "veco2"
    kinds = (BILINGUAL,)
    contrasts_pairs = True
    needs = (LEXICON,)
    uses = (THESAURUS,)
    views = (NUMBERED_X, NUMBERED_Y, LINKS)
    routes = (Route(NUMBERED_X), Route(NUMBERED_Y))

    temperature: float = 0.05
    word_temperature: float = 0.1
    word_weight: float = 1.0
    layer: int = LAST
    pooling: str = "mean"
    word: str = "mean"

    def problems(self) -> list[str]:
        above_zero = ("temperature", "word_temperature", "word_weight")
        return [
            *(f"{name} {vars(self)[name]} must be above 0" for name in above_zero if not vars(self)[name] > 0),
            *([] if self.pooling in POOLINGS else [f"pooling {self.pooling!r} must be one of {', '.join(POOLINGS)}"]),
            *([] if self.word in WORD_VECTORS else [f"word {self.word!r} must be one of {', '.join(WORD_VECTORS)}"]),
        ]

    @property
    def terms(self) -> tuple[Term, ...]:
        return (
            Term("veco2_sentences", (Count(NUMBERED_X, of_rows=True),), is_of_tokens=False),
            Term("veco2_words", (Count(LINKS),), is_of_tokens=False, weight=self.word_weight),
        )

    @property
    def deepest_layer(self) -> int | None:
        return None if self.layer == LAST else self.layer

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return () if self.layer == LAST else (self.layer,)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        batch, packed = states.batch, states.batch.packed
        of_sentences, of_words = self.terms
        of_views = [states.of(route, self.layer) for route in self.routes]
        x, y = (pooled(found, packed, view, self.pooling) for found, view in zip(of_views, self.views, strict=False))
        sentences = contrasted(of_sentences, packed, x, y, self.temperature)

        words = linked_words(batch, torch.cat(of_views), self.word)
        values_RW, is_right_RW = word_losses(words, self.word_temperature)
        anchors = words.places[packed.predicted[packed.predictions(LINKS)] - packed.tokens(LINKS).start]
        values, is_right = (found.flatten().index_select(0, anchors) for found in (values_RW, is_right_RW))
        rows = packed.rows[packed.predictions(LINKS)]
        return [sentences, ItemLosses(of_words.name, values, rows, is_right, of_words.counts[0])]


class LinkedWords(NamedTuple):
    """The words of pairs, padded: their vectors (R, W, D), which of them there are, and their groups, both (R, W).

    The group of a word by itself, and of no word, is negative. `places` are those of LINKS' tokens in flattened (R, W),
    that of `<s>` is one behind it.
    """

    vectors_RWD: Tensor
    is_word_RW: Tensor
    groups_RW: Tensor
    places: Tensor


def linked_words(batch: Batch, states_ND: Tensor, word: str) -> LinkedWords:
    """The words of a batch of pairs, from the states of NUMBERED_X and then NUMBERED_Y."""
    packed = batch.packed
    lengths = packed.sizes.lengths[LINKS]
    num_rows, num_words = len(lengths), max(1, *lengths) - 1 or 1  # `<s>` is not a word
    behind = num_rows * num_words
    numbers_N = torch.cat([batch.labels_of(view) for view in (NUMBERED_X, NUMBERED_Y)])
    rows_N = torch.cat([batch.rows_of(view) for view in (NUMBERED_X, NUMBERED_Y)])
    shape = num_rows, num_words
    vectors_RWD = word_vectors(states_ND, numbers_N, rows_N, shape, word)

    in_row = packed.positions[packed.tokens(LINKS)] - 2  # positions count from 1, and `<s>` is the first
    places = torch.where(in_row < 0, behind, batch.rows_of(LINKS) * num_words + in_row)
    groups = places.new_full((behind + 1,), IGNORED).index_copy(0, places, batch.labels_of(LINKS))
    is_word = torch.zeros_like(groups, dtype=torch.bool).index_fill(0, places, True)
    return LinkedWords(vectors_RWD, is_word[:-1].unflatten(0, shape), groups[:-1].unflatten(0, shape), places)


def word_vectors(states_ND: Tensor, numbers_N: Tensor, rows_N: Tensor, shape: tuple[int, int], word: str) -> Tensor:
    """Vectors (*shape, D), in float32 at least, of words: the mean of a word's states, or the first; zeros for none.

    Token i belongs to word `numbers_N[i]` of row `rows_N[i]`, or to none where that is negative.
    """
    is_piece = numbers_N >= 0
    if word == "first":
        is_piece = is_piece & (numbers_N != numbers_N.roll(1))  # before the first word of a row comes `<s>`, of none
    behind = shape[0] * shape[1]
    places = torch.where(is_piece, rows_N * shape[1] + numbers_N, behind)
    states_ND = states_ND.to(torch.promote_types(states_ND.dtype, torch.float32))
    sums = states_ND.new_zeros(behind + 1, states_ND.shape[1]).index_add(0, places, states_ND)
    counts = states_ND.new_zeros(behind + 1).index_add(0, places, is_piece.to(states_ND.dtype))
    return (sums / counts.clamp(min=1).unsqueeze(1))[:-1].unflatten(0, shape)


def word_losses(words: LinkedWords, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss (R, W) of each word of a group, and whether the most similar word is of its group; 0 for other words."""
    directions_RWD = normalize(words.vectors_RWD, dim=2)
    logits_RWW = products(directions_RWD, directions_RWD) / temperature
    itself = torch.eye(logits_RWW.shape[1], dtype=torch.bool, device=logits_RWW.device)
    is_other = words.is_word_RW.unsqueeze(1) & ~itself
    is_grouped_RW = words.groups_RW >= 0
    is_same_group = (words.groups_RW.unsqueeze(2) == words.groups_RW.unsqueeze(1)) & is_grouped_RW.unsqueeze(2)
    is_positive = is_other & is_same_group
    # Not minus infinity: of a word without any negative the gradient would not be a number.
    lowest = torch.finfo(logits_RWW.dtype).min
    negatives_RW = logits_RWW.masked_fill(~is_other | is_same_group, lowest).logsumexp(2)
    of_each_RWW = torch.logaddexp(logits_RWW, negatives_RW.unsqueeze(2)) - logits_RWW
    values_RW = (of_each_RWW * is_positive).sum(2) / is_positive.sum(2).clamp(min=1)
    nearest_RW = logits_RWW.masked_fill(~is_other, lowest).argmax(2, keepdim=True)
    return values_RW, is_positive.gather(2, nearest_RW).squeeze(2)
