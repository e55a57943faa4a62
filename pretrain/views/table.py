"""The views by name, in the order that a batch has them, and the pairs that they need together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pretrain.masking import MaskedSequence
from pretrain.views.clean import clean_pair, clean_x, clean_y, next_x, next_y, words_x, words_y
from pretrain.views.code_mixed import code_mixed
from pretrain.views.joined import JOINED_PAIRS, joined_x, joined_y
from pretrain.views.masked import mask_only, masked_x, masked_x_and_y, masked_y, pseudo_x, pseudo_y
from pretrain.views.noised import noised_x, noised_y, target_x, target_y
from pretrain.views.pair import Pair
from pretrain.views.unlike import unlike
from pretrain.views.words import links, numbered_x, numbered_y
from veco.objectives.objective_sum import ObjectiveSum
from veco.views import (
    CLEAN_PAIR,
    CLEAN_X,
    CLEAN_Y,
    CODE_MIXED,
    JOINED_X,
    JOINED_Y,
    LINKS,
    MASK_ONLY,
    NEXT_X,
    NEXT_Y,
    NOISED_X,
    NOISED_Y,
    NUMBERED_X,
    NUMBERED_Y,
    PSEUDO_X,
    PSEUDO_Y,
    TARGET_X,
    TARGET_Y,
    TLM,
    UNLIKE,
    WORDS_X,
    WORDS_Y,
    X,
    Y,
)


@dataclass(frozen=True)
class ViewMaker:
    """How a view is made, and how large it is.

    `rows` makes it from the pairs of a group: ids and labels of each of its rows, each row from so many
    consecutive `pairs`. For plans: `sequences` is how many sequences of a pair a row holds, and `predicted` how many
    tokens are predicted of each that has so many, if a share of them is masked.
    """

    rows: Callable[[Sequence[Pair]], list[MaskedSequence]]
    sequences: int
    predicted: Callable[[int, float], int]
    pairs: int = 1


def masked_ones(length: int, mask_rate: float) -> int:
    """Masked tokens of a sequence: `<s>` and `</s>` are never masked."""
    return round(mask_rate * (length - 2))


def all_but_the_first(length: int, mask_rate: float) -> int:
    return length - 1


def masked_ones_of_the_first(length: int, mask_rate: float) -> int:
    """As `masked_ones`, where only the first of two sequences is masked."""
    return masked_ones(length, mask_rate / 2)


def all_words(length: int, mask_rate: float) -> int:
    return length - 2


def none_of_them(length: int, mask_rate: float) -> int:
    return 0


VIEWS: dict[str, ViewMaker] = {
    X: ViewMaker(masked_x, 1, masked_ones),
    Y: ViewMaker(masked_y, 1, masked_ones),
    TLM: ViewMaker(masked_x_and_y, 2, masked_ones),
    NEXT_X: ViewMaker(next_x, 1, all_but_the_first),
    NEXT_Y: ViewMaker(next_y, 1, all_but_the_first),
    CLEAN_X: ViewMaker(clean_x, 1, none_of_them),
    CLEAN_Y: ViewMaker(clean_y, 1, none_of_them),
    NOISED_X: ViewMaker(noised_x, 1, none_of_them),
    NOISED_Y: ViewMaker(noised_y, 1, none_of_them),
    TARGET_X: ViewMaker(target_x, 1, all_but_the_first),
    TARGET_Y: ViewMaker(target_y, 1, all_but_the_first),
    JOINED_X: ViewMaker(joined_x, 1, none_of_them, JOINED_PAIRS),
    JOINED_Y: ViewMaker(joined_y, 1, none_of_them, JOINED_PAIRS),
    WORDS_X: ViewMaker(words_x, 1, all_words),
    WORDS_Y: ViewMaker(words_y, 1, all_words),
    MASK_ONLY: ViewMaker(mask_only, 2, masked_ones),
    CLEAN_PAIR: ViewMaker(clean_pair, 2, none_of_them),
    UNLIKE: ViewMaker(unlike, 2, none_of_them),
    PSEUDO_X: ViewMaker(pseudo_x, 2, masked_ones_of_the_first),
    PSEUDO_Y: ViewMaker(pseudo_y, 2, masked_ones_of_the_first),
    CODE_MIXED: ViewMaker(code_mixed, 1, masked_ones),
    NUMBERED_X: ViewMaker(numbered_x, 1, none_of_them),
    NUMBERED_Y: ViewMaker(numbered_y, 1, none_of_them),
    LINKS: ViewMaker(links, 2, none_of_them),
}


def in_order(views: Sequence[str]) -> list[str]:
    """Views in the order that a batch has them."""
    return sorted(views, key=list(VIEWS).index)


def pairs_together(objective: ObjectiveSum, kind: str, contrast_pairs: int) -> int:
    """The number of consecutive pairs of which a micro-batch of a kind must hold a multiple.

    What contrasts pairs does so in groups of `contrast_pairs`, and a row of a view may join several pairs.
    """
    parts = objective.of_kind(kind)
    in_a_group = contrast_pairs if any(part.contrasts_pairs for part in parts) else 1
    return math.lcm(in_a_group, *(VIEWS[view].pairs for view in parts.views))
