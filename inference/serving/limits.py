"""What a request may ask for at most."""

from __future__ import annotations

from dataclasses import dataclass

MOST_BYTES = 1 << 25


@dataclass(frozen=True)
class Limits:
    """Texts of a request, characters of a text, texts that are computed at once and that wait, results for a text.

    `pieces` are those that a request for masks has in its answer, masks x count; `body_seconds` how long a client may
    take to send a request; `connections` those at the same time; `hosts` the names that requests may call the server
    by, in lower case, any if None.
    """

    texts: int = 256
    characters: int = 10_000
    batch_texts: int = 256
    waiting_texts: int = 10_000
    results: int = 100
    pieces: int = 10_000
    body_seconds: float = 30
    connections: int = 256
    hosts: frozenset[str] | None = None

    @property
    def body_bytes(self) -> int:
        """Of a request: two lists of texts, of whose characters JSON may escape each by twelve bytes (an emoji).

        Never more than MOST_BYTES, which is enough for what is usual: six bytes for each of two million characters.
        """
        return min(2 * self.texts * self.characters * 12, MOST_BYTES)
