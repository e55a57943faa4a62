"""Masked views: x and y by themselves, and one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.masking import IGNORED, MaskedSequence
from pretrain.views.clean import unlabelled
from pretrain.views.pair import Pair, concatenated, framed


def masked_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [pair.masked[0] for pair in pairs]


def masked_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [pair.masked[1] for pair in pairs]


def masked_x_and_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """TLM's `<s> x </s> </s> y </s>`, with the masks that x and y have by themselves."""
    return [concatenated(*pair.masked, pair.special) for pair in pairs]


def mask_only(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """TLM's rows with `<mask>` at all places that are predicted: none shows its own token, or a random one."""
    return [
        (np.where(labels == IGNORED, ids, pair.special.mask), labels)
        for pair, (ids, labels) in zip(pairs, masked_x_and_y(pairs), strict=True)
    ]


def pseudo_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [with_placeholders(pair.masked[0], pair.special) for pair in pairs]


def pseudo_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [with_placeholders(pair.masked[1], pair.special) for pair in pairs]


def with_placeholders(masked: MaskedSequence, special: SpecialIds) -> MaskedSequence:
    """`<s> x </s> </s> <mask> … <mask> </s>` with as many `<mask>` as x has words; they are not predicted."""
    placeholders = framed(np.full(len(masked[0]) - 2, special.mask), special)
    return concatenated(masked, (placeholders, unlabelled(placeholders)), special)
