"""Views without masks: without labels, or with the next tokens or a sentence's own words as labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.masking import IGNORED, MaskedSequence, next_tokens
from pretrain.views.pair import Pair, concatenated


def clean_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [(pair.x, unlabelled(pair.x)) for pair in pairs]


def clean_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [(pair.y, unlabelled(pair.y)) for pair in pairs]


def next_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [(pair.x, next_tokens(pair.x)) for pair in pairs]


def next_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [(pair.y, next_tokens(pair.y)) for pair in pairs]


def words_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [(pair.x, own_words(pair.x)) for pair in pairs]


def words_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [(pair.y, own_words(pair.y)) for pair in pairs]


def clean_pair(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """`<s> x </s> </s> y </s>`."""
    rows = zip(clean_x(pairs), clean_y(pairs), strict=True)
    return [concatenated(x, y, pair.special) for pair, (x, y) in zip(pairs, rows, strict=True)]


def own_words(ids: np.ndarray) -> np.ndarray:
    """Labels int64 (T,): the ids themselves, but for `<s>` and `</s>`."""
    labels = ids.copy()
    labels[[0, -1]] = IGNORED
    return labels


def unlabelled(ids: np.ndarray) -> np.ndarray:
    """Labels int64 (T,) of ids of which none is predicted."""
    return np.full(len(ids), IGNORED, dtype=np.int64)
