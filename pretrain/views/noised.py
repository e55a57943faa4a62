"""Noised views, and what is to be written from them: infilled text of permuted sentences (mBART, Liu et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.masking import MaskedSequence, laid, places_of
from pretrain.views.clean import next_x, next_y, unlabelled
from pretrain.views.pair import Pair, framed
from veco.views import NOISED_X, NOISED_Y

# mBART's, section 2.2.
INFILLED_SHARE = 0.35
MEAN_SPAN = 3.5


def noised_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [noised(pair.sample.x, pair.sample.x_borders, pair.rng(NOISED_X), pair.special) for pair in pairs]


def noised_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [noised(pair.sample.y, pair.sample.y_borders, pair.rng(NOISED_Y), pair.special) for pair in pairs]


def target_x(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """What is written from x: its translation if the pair is one, else x itself."""
    return [(next_y if pair.sample.is_translation else next_x)([pair])[0] for pair in pairs]


def target_y(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """What is written from y: its translation if the pair is one, else y itself."""
    return [(next_x if pair.sample.is_translation else next_y)([pair])[0] for pair in pairs]


def noised(ids: np.ndarray, borders: Sequence[int], rng: np.random.Generator, special: SpecialIds) -> MaskedSequence:
    """`<s> ids </s>` with the sentences of `ids` in random order, then infilled, and labels that predict nothing."""
    sentences = np.split(ids, borders)
    permuted = np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])
    noised_ids = framed(infilled(permuted, rng, special.mask), special)
    return noised_ids, unlabelled(noised_ids)


def infilled(ids: np.ndarray, rng: np.random.Generator, mask_id: int) -> np.ndarray:
    """`ids` with each of some spans replaced by one `mask_id`: text infilling (BART, Lewis et al., 2020).

    The spans have Poisson lengths, the last cut so that they hold INFILLED_SHARE of all tokens, the fractional one with
    its probability, and at least one. One of length 0 inserts a `mask_id`. Where they lie is uniform among all ways.
    The result is not longer than `ids`: there are no more spans than tokens that they hold.
    """
    if not len(ids):
        return ids
    count = max(1, int(INFILLED_SHARE * len(ids) + rng.random()))
    starts, lengths = laid(len(ids), rng.poisson(MEAN_SPAN, size=count), rng)
    is_kept = np.ones(len(ids), dtype=bool)
    is_kept[places_of(starts, lengths)] = False
    return np.insert(ids, starts, mask_id)[np.insert(is_kept, starts, True)]
