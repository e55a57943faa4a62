"""Which rows of two tables translate each other, where rows are missing from either.

PAWS-X's tables keep the order of the English one, but each leaves out what was not translated into its language.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

ANY_PARTNER = 0.01  # a little in common for all, so that a row stays alone only if there is no room for a partner


def align_rows(originals: Sequence[str], translations: Sequence[str]) -> list[int | None]:
    """For each translation the number of its original, None if there is none; the numbers rise.

    Of all ways to keep the order, the one whose partners have most in common: cosines of weighted character 4-grams, by
    which names and numbers are found again. O(N M) in memory and time for N and M rows.
    """
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 4)).fit([*originals, *translations])
    common = (grams.transform(originals) @ grams.transform(translations).T).toarray() + ANY_PARTNER
    num_originals, num_translations = common.shape
    # best[n, m] is what the first n originals and the first m translations can have in common.
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
