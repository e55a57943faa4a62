"""The views by name, in the order that a batch has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pretrain.masking import MaskedSequence
from pretrain.views.clean import clean_x, clean_y, next_x, next_y
from pretrain.views.masked import masked_x, masked_x_and_y, masked_y
from pretrain.views.pair import Pair
from veco.views import CLEAN_X, CLEAN_Y, NEXT_X, NEXT_Y, TLM, X, Y


@dataclass(frozen=True)
class ViewMaker:
    """How a view is made, and how large it is.

    `rows` makes it from the pairs of a micro-batch: ids and labels of each of its rows. For plans: `sequences` is how
    many sequences of a pair a row holds, and `predicted` how many tokens are predicted of each that has so many, if a
    share of them is masked.
    """

    rows: Callable[[Sequence[Pair]], list[MaskedSequence]]
    sequences: int
    predicted: Callable[[int, float], int]


def masked_ones(length: int, mask_rate: float) -> int:
    """Masked tokens of a sequence: `<s>` and `</s>` are never masked."""
    return round(mask_rate * (length - 2))


def all_but_the_first(length: int, mask_rate: float) -> int:
    return length - 1


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
}


def in_order(views: Sequence[str]) -> list[str]:
    """Views in the order that a batch has them."""
    return sorted(views, key=list(VIEWS).index)
