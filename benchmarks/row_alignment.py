"""Align the rows of two tables that are translations of each other, if rows are missing from either.

PAWS-X's tables keep the order of the English one, but each lacks the rows that were not translated into its language.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

ANY_PARTNER = 0.01  # least similarity of any two rows, so that a row stays unaligned only if no partner is left


def align_rows(originals: Sequence[str], translations: Sequence[str]) -> list[int | None]:
    """For each translation the index of its original, or None if there is none; the indices increase.

    Of all monotone alignments, the one with the largest total similarity: cosines of weighted character 4-grams, which
    recognise names and numbers. O(N M) in memory and time for N and M rows.
    """
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4)).fit([*originals, *translations])
    common = (grams.transform(originals) @ grams.transform(translations).T).toarray() + ANY_PARTNER
    num_originals, num_translations = common.shape
    # best[n, m] is the largest total similarity of the first n originals and the first m translations.
    best = np.zeros((num_originals + 1, num_translations + 1))
    for n in range(num_originals):
        best[n + 1, 1:] = np.maximum(best[n, 1:], best[n, :-1] + common[n])
        np.maximum.accumulate(best[n + 1], out=best[n + 1])
    partners: list[int | None] = [None] * num_translations
    n, m = num_originals, num_translations
    while n and m:
        if best[n, m] == best[n - 1, m]:
            n -= 1
        elif best[n, m] == best[n, m - 1]:
            m -= 1
        else:
            n, m = n - 1, m - 1
            partners[m] = n
    return partners
