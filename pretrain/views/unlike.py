"""Hard negatives: x with a sentence of its group that is like y but does not translate x."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.masking import MaskedSequence
from pretrain.views.clean import unlabelled
from pretrain.views.pair import Pair, concatenated, framed


def unlike(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    """`<s> x </s> </s> z </s>` for each pair (x, y) of a group, z as `most_similar_others` finds it.

    Where the group has no such sentence, z is empty.
    """
    rows = []
    for pair, other in zip(pairs, most_similar_others(pairs), strict=True):
        z = pair.y[:0] if other is None else pairs[other].sample.y
        z = framed(z, pair.special)
        rows.append(concatenated((pair.x, unlabelled(pair.x)), (z, unlabelled(z)), pair.special))
    return rows


def most_similar_others(pairs: Sequence[Pair]) -> list[int | None]:
    """For each pair that one of the others whose y is most like its own, but not the same, nor of the same x.

    By the cosine of TF-IDF vectors of pieces, whose frequencies are those of the group: the light model that Unicoder
    (Huang et al., 2019) leaves open, in our reading. Those of the same languages come first. The first of equals is
    taken, so the choice depends on the group alone.
    """
    similarities = cosines_of_pieces([pair.sample.y for pair in pairs])
    of_languages = np.array([pair.sample.name for pair in pairs])
    similarities += 2.0 * (of_languages[:, None] == of_languages)  # more than cosines differ by
    for side in ("x", "y"):  # what is equal on one side is a translation of the other
        sentences = [vars(pair.sample)[side].tolist() for pair in pairs]
        for row, sentence in enumerate(sentences):
            similarities[row, [other == sentence for other in sentences]] = -np.inf
    best = similarities.argmax(1)
    return [int(other) if similarities[row, other] > -np.inf else None for row, other in enumerate(best)]


def cosines_of_pieces(sentences: Sequence[np.ndarray]) -> np.ndarray:
    """Cosines (n, n) of the TF-IDF vectors of sentences, given as ids of pieces."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes a second to import

    if not sum(map(len, sentences)):  # scikit-learn refuses sentences without any piece
        return np.zeros((len(sentences), len(sentences)))
    vectors = TfidfVectorizer(analyzer=np.ndarray.tolist).fit_transform(sentences)
    return (vectors @ vectors.T).toarray()
