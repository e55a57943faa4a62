"""Whether the names of paired files belong together, as `a.de` and `a.en` or `de/1.txt` and `en/1.txt` do."""

import re
from collections import Counter
from collections.abc import Sequence

WORDS = re.compile(r"[^\W_]+")


def odd_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs whose two paths differ in other words than those of most pairs.

    In all pairs the words that differ name the languages, or are `src` and `tgt`; the files of a pair that differs in
    more words, as `a.de` and `b.en`, come from two texts.
    """
    differences = [_difference(*pair) for pair in pairs]
    if not differences:
        return []
    # In a tie the smaller difference counts as the usual one.
    counts = Counter(differences)
    usual = max(counts, key=lambda difference: (counts[difference], -sum(map(len, difference))))
    return [pair for pair, difference in zip(pairs, differences, strict=True) if difference != usual]


def _difference(source: str, target: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words that only one of the two paths has, or has more often."""
    ours, theirs = Counter(WORDS.findall(source)), Counter(WORDS.findall(target))
    return frozenset(ours - theirs), frozenset(theirs - ours)
