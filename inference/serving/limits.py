"""What a request may ask for at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Texts of a request, characters of a text, texts that are computed at once and that wait, results for a text."""

    texts: int = 256
    characters: int = 10_000
    batch_texts: int = 256
    waiting_texts: int = 10_000
    results: int = 100

    @property
    def body_bytes(self) -> int:
        """Of a request: two lists of texts, of whose characters JSON may escape each by twelve bytes (an emoji)."""
        return min(2 * self.texts * self.characters * 12, 1 << 26)
