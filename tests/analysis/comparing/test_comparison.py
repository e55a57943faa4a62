"""What is compared of languages, on planted vectors."""

from __future__ import annotations

import numpy as np

from analysis.comparing.comparison import PROCRUSTES, Plan, compare_languages
from analysis.parallel.vectors import ParallelVectors


def vectors_of(x: np.ndarray, y: np.ndarray) -> ParallelVectors:
    return ParallelVectors([3], {"en": x[None].astype(np.float32), "de": y[None].astype(np.float32)})


def test_a_rotation_learned_from_words_is_tested_on_sentences_of_other_means() -> None:
    """Planted: y is x rotated and moved, by other means for words than for sentences."""
    drawn = np.random.default_rng(0)
    planted = np.linalg.qr(drawn.normal(size=(6, 6)))[0]
    words, sentences = drawn.normal(size=(50, 6)), drawn.normal(size=(40, 6))
    plan = Plan(
        parts=[PROCRUSTES],
        pairs=[("en", "de")],
        batches=[np.arange(40)],
        classified=np.zeros(40, dtype=int),
        is_train=np.zeros(40, dtype=bool),
        dictionaries=[vectors_of(words + 9, words @ planted - 7)],
    )
    numbers = compare_languages(vectors_of(sentences - 4, sentences @ planted + 5), plan).by_layer[3]["en", "de"]
    assert numbers["held_out_rotated"] == 1
    assert numbers["held_out"] < 0.3 and numbers["held_out_centred"] < 0.3
