"""Hard negatives: scikit-learn's cosines over texts, and what may be chosen at all."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from random_pairs import MASKING, random_samples
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from pretrain.micro_batch import make_batch
from pretrain.views.pair import Pair, Sample
from pretrain.views.unlike import most_similar_others, unlike
from veco.views import UNLIKE


def pairs_of(*sentences: list[int], names: str = "", x: Sequence[int] = ()) -> list[Pair]:
    """Pairs with these y; `names` has a letter for the languages of each, `x` the last piece of its x."""
    names = names or "a" * len(sentences)
    samples = [
        Sample(0, name, number, np.array([5, last]), np.array(y, dtype=np.int64), 0, key=1)
        for number, (name, y, last) in enumerate(zip(names, sentences, x or itertools.count(6)))  # noqa: B905
    ]
    return [Pair(sample, MASKING) for sample in samples]


def test_most_similar_is_that_of_texts() -> None:
    rng = np.random.default_rng(1)
    pairs = pairs_of(*(rng.integers(4, 14, size=6).tolist() for _ in range(9)))
    texts = [" ".join(f"piece{piece}" for piece in pair.sample.y) for pair in pairs]
    similarities = cosine_similarity(TfidfVectorizer().fit_transform(texts)) - 2 * np.eye(9)
    assert most_similar_others(pairs) == similarities.argmax(1).tolist()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (pairs_of([5, 6, 7], [8, 9, 6], [5, 6, 8]), [2, 2, 0]),
        (pairs_of([5, 6], [5, 6], [7, 8]), [2, 2, 0]),  # the same sentence is no negative
        (pairs_of([5, 6], [5, 6]), [None, None]),
        (pairs_of([5, 6, 7], [5, 6, 8], [9, 10], names="aba"), [2, 0, 0]),  # languages before pieces
        (pairs_of([5, 6, 7], [5, 6, 8], [9, 10], x=(6, 6, 7)), [2, 2, 0]),  # another translation of x is none
        (pairs_of([5, 6]), [None]),
        (pairs_of([], []), [None, None]),
        (pairs_of([], [5]), [1, 0]),
    ],
)
def test_other_sentence_of_the_same_languages(pairs: list[Pair], expected: list[int | None]) -> None:
    assert most_similar_others(pairs) == expected


def test_row_has_x_and_the_other_sentence() -> None:
    found = [ids.tolist() for ids, _ in unlike(pairs_of([7, 8], [8, 9, 9]))]
    assert found == [[0, 5, 6, 2, 2, 8, 9, 9, 2], [0, 5, 7, 2, 2, 7, 8, 2]]
    ((alone, labels),) = unlike(pairs_of([7, 8]))
    assert alone.tolist() == [0, 5, 6, 2, 2, 2] and set(labels) == {-100}


def test_negatives_come_from_the_group_alone() -> None:
    """However many groups a micro-batch has."""
    rng = np.random.default_rng(3)
    samples = [dataclasses.replace(sample, y=rng.integers(4, 9, size=4)) for sample in random_samples([(3, 4)] * 8)]
    name = f"{UNLIKE}_input_ids"
    whole = make_batch(samples, (UNLIKE,), MASKING, group_pairs=4)[name].tolist()
    parts = [make_batch(samples[i : i + 4], (UNLIKE,), MASKING, group_pairs=4)[name].tolist() for i in (0, 4)]
    assert whole == [row for part in parts for row in part]
    assert whole != make_batch(samples, (UNLIKE,), MASKING)[name].tolist()
