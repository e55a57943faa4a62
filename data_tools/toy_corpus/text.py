"""Joining tokens into a sentence, for all four realisers."""

import re
from collections.abc import Iterable

_COMMAS = re.compile(r"(?: ?,)+")


def words(tokens: Iterable[str]) -> list[str]:
    """The words of `tokens`: tokens of several words are split, empty ones dropped."""
    return [word for token in tokens for word in token.split()]


def finish(tokens: Iterable[str], end: str) -> str:
    """The sentence of `tokens` with its end mark: commas attached, repeated ones dropped, first letter capitalised."""
    text = " ".join(words(tokens))
    text = _COMMAS.sub(",", text)
    text = text.strip(", ") + end
    return text[0].upper() + text[1:]
