"""Views that show where the words of a pair are, and which of them go together by a lexicon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.masking import IGNORED, MaskedSequence
from pretrain.views.clean import unlabelled
from pretrain.views.pair import Pair


def numbered_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [numbered(pair, 0, 0) for pair in pairs]


def numbered_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [numbered(pair, 1, len(pair.words.numbers[0])) for pair in pairs]


def numbered(pair: Pair, side: int, first: int) -> MaskedSequence:
    """x (side 0) or y (side 1) as it is, each piece with the number of its word, counted from `first`."""
    ids, words = pair.words.ids[side], pair.words.words[side]
    labels = unlabelled(ids)
    for number, (start, end) in enumerate(zip(words.starts.tolist(), words.ends.tolist(), strict=True), first):
        labels[start:end] = number
    return ids, labels


def links(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """`<s>` and the first piece of each word of x and then of y, with the groups of those that are in one."""
    return [(first_pieces(pair), grouped(pair)) for pair in pairs]


def first_pieces(pair: Pair) -> np.ndarray:
    firsts = [ids[words.starts] for ids, words in zip(pair.words.ids, pair.words.words, strict=True)]
    return np.concatenate([[pair.special.bos], *firsts]).astype(np.int64)


def grouped(pair: Pair) -> np.ndarray:
    groups = pair.words.groups
    return np.concatenate([[IGNORED], np.where(groups < 0, IGNORED, groups)]).astype(np.int64)
