"""Rows of two sentences, of which one or both are masked."""

from __future__ import annotations

import numpy as np
import pytest
from random_pairs import MASKING, VOCAB_SIZE, random_samples

from pretrain.masking import IGNORED, MaskedSequence
from pretrain.views.masked import masked_x_and_y
from pretrain.views.pair import Pair
from pretrain.views.resources import Resources
from pretrain.views.table import VIEWS
from pretrain.words.lexicons import Lexicons
from pretrain.words.pieces import WordPieces
from veco.objectives.objective_sum import ObjectiveSum
from veco.views import (
    JOINED_X,
    JOINED_Y,
    LINKS,
    MASK_ONLY,
    NOISED_X,
    NOISED_Y,
    NUMBERED_X,
    NUMBERED_Y,
    PSEUDO_X,
    PSEUDO_Y,
    WORDS_X,
    WORDS_Y,
)


def rows_of(view: str) -> tuple[list[Pair], list[MaskedSequence]]:
    pairs = [Pair(sample, MASKING) for sample in random_samples()]
    return pairs, VIEWS[view].rows(pairs)


def test_predicted_places_show_mask_alone() -> None:
    pairs, rows = rows_of(MASK_ONLY)
    shown = []
    for (ids, labels), (tlm_ids, tlm_labels) in zip(rows, masked_x_and_y(pairs), strict=True):
        np.testing.assert_array_equal(labels, tlm_labels)
        is_hidden = labels != IGNORED
        assert (ids[is_hidden] == MASKING.special.mask).all()
        np.testing.assert_array_equal(ids[~is_hidden], tlm_ids[~is_hidden])
        shown += tlm_ids[is_hidden].tolist()
    assert set(shown) != {MASKING.special.mask}  # TLM's show others too, or this could not fail


@pytest.mark.parametrize(("view", "side"), [(PSEUDO_X, 0), (PSEUDO_Y, 1)])
def test_as_many_placeholders_as_words(view: str, side: int) -> None:
    pairs, rows = rows_of(view)
    for pair, (ids, labels) in zip(pairs, rows, strict=True):
        masked_ids, masked_labels = pair.masked[side]
        words = len(masked_ids) - 2
        assert ids.tolist() == [*masked_ids, 2, *[MASKING.special.mask] * words, 2]
        assert labels.tolist() == [*masked_labels, *[IGNORED] * (words + 2)]


@pytest.mark.parametrize(("view", "side"), [(WORDS_X, 0), (WORDS_Y, 1)])
def test_words_are_their_own_labels(view: str, side: int) -> None:
    pairs, rows = rows_of(view)
    for pair, (ids, labels) in zip(pairs, rows, strict=True):
        words = [pair.sample.x, pair.sample.y][side].tolist()
        assert ids.tolist() == [0, *words, 2] and labels.tolist() == [IGNORED, *words, IGNORED]


# Noise takes random tokens away, joined sentences share a frame; of words there may be any number.
OF_ANY_SIZE = {JOINED_X, JOINED_Y, NOISED_X, NOISED_Y, NUMBERED_X, NUMBERED_Y, LINKS}


@pytest.mark.parametrize("view", sorted(VIEWS.keys() - OF_ANY_SIZE))
def test_plans_know_the_sizes(view: str) -> None:
    """Of sequences all of one length: the tokens of a row, and how many of them are predicted."""
    length = 12
    every_piece = WordPieces(np.ones(VOCAB_SIZE, bool), np.zeros(VOCAB_SIZE, bool))
    resources = Resources(ObjectiveSum.of("alm"), Lexicons(every_piece))
    pairs = [Pair(sample, MASKING, resources) for sample in random_samples([(length - 2, length - 2)] * 2)]
    maker = VIEWS[view]
    for ids, labels in maker.rows(pairs):
        assert len(ids) == maker.sequences * length
        assert (labels != IGNORED).sum() == maker.sequences * maker.predicted(length, MASKING.rate)
