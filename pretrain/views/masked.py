"""Masked views: x and y by themselves, and one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.masking import IGNORED, MaskedSequence
from pretrain.views.clean import unlabelled
from pretrain.views.pair import Pair, concatenated, framed


def masked_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [pair.masked[0] for pair in pairs]


def masked_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [pair.masked[1] for pair in pairs]


def masked_x_and_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """TLM's `<s> x </s> </s> y </s>`, with the masks that x and y have by themselves."""
    return [concatenated(*pair.masked) for pair in pairs]


def mask_only(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """TLM's rows with `<mask>` at all places that are predicted: none shows its own token, or a random one."""
    return [
        (np.where(labels == IGNORED, ids, pair.masking.mask_id), labels)
        for pair, (ids, labels) in zip(pairs, masked_x_and_y(pairs), strict=True)
    ]


def pseudo_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [with_placeholders(pair.masked[0], pair.masking.mask_id) for pair in pairs]


def pseudo_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [with_placeholders(pair.masked[1], pair.masking.mask_id) for pair in pairs]


def with_placeholders(masked: MaskedSequence, mask_id: int) -> MaskedSequence:
    """`<s> x </s> </s> <mask> … <mask> </s>` with as many `<mask>` as x has words; they are not predicted."""
    placeholders = framed(np.full(len(masked[0]) - 2, mask_id))
    return concatenated(masked, (placeholders, unlabelled(placeholders)))
