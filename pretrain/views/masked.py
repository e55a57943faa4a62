"""Masked views: x and y by themselves, and one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from pretrain.masking import MaskedSequence
from pretrain.views.pair import Pair, concatenated


def masked_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [pair.masked[0] for pair in pairs]


def masked_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [pair.masked[1] for pair in pairs]


def masked_x_and_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """TLM's `<s> x </s> </s> y </s>`, with the masks that x and y have by themselves."""
    return [concatenated(*pair.masked) for pair in pairs]
