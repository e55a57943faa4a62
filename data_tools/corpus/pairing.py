"""Whether the files of two globs belong together, as their names tell: `a.de` and `a.en`, `de/1.txt` and `en/1.txt`."""

import re
from collections import Counter
from collections.abc import Sequence

WORDS = re.compile(r"[^\W_]+")


def odd_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of paths that differ in other words than most of them do.

    The words that differ are a language's or `src` and `tgt` in all pairs; where one differs in more, as `a.de` and
    `b.en` do, its files come from two texts.
    """
    differences = [_difference(*pair) for pair in pairs]
    if not differences:
        return []
    # In a tie the smaller difference is the usual one.
    counts = Counter(differences)
    usual = max(counts, key=lambda difference: (counts[difference], -sum(map(len, difference))))
    return [pair for pair, difference in zip(pairs, differences, strict=True) if difference != usual]


def _difference(source: str, target: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words that only one of two paths has, or has more often."""
    ours, theirs = Counter(WORDS.findall(source)), Counter(WORDS.findall(target))
    return frozenset(ours - theirs), frozenset(theirs - ours)
