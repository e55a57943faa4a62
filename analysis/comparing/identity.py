"""How well a linear classifier tells the languages of sentences, before and after the languages are centred."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_ITERATIONS = 1_000
CENTRE, TRAIN, TEST = range(3)  # the parts of the sentences


def told_languages(by_language: Mapping[str, np.ndarray], parts: np.ndarray) -> dict[str, float]:
    """The accuracy of a logistic regression before and after centring languages (Libovický et al., 2019).

    `by_language` has the vectors (N, D) of each, `parts` (N,) the part of each sentence and its translations, so that
    its content tells nothing. Means are those of CENTRE: if they were those of TRAIN, languages would have equal means
    there, from which logistic regression never learns anything.
    """
    centred = {language: own - own[parts == CENTRE].mean(axis=0) for language, own in by_language.items()}
    return {"before": accuracy(by_language, parts), "centred": accuracy(centred, parts)}


def accuracy(by_language: Mapping[str, np.ndarray], parts: np.ndarray) -> float:
    """The share of the rows of TEST whose language is told."""
    languages = np.arange(len(by_language))
    (train, right), (test, to_tell) = (
        (
            np.concatenate([own[parts == part] for own in by_language.values()]).astype(np.float64),
            np.repeat(languages, (parts == part).sum()),
        )
        for part in (TRAIN, TEST)
    )
    # Dimensions have the same scale, so that none is penalised more than others.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    return float(classifier.fit(train, right).score(test, to_tell))


def drawn_parts(num_rows: int, seed: int) -> np.ndarray:
    """The part of each row, int64 (rows,): a third each."""
    return np.random.default_rng(seed).permutation(num_rows) % 3
