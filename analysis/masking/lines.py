"""Lines of a text as the models to be compared read them, with the words to mask: the same for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from analysis.masking.units import units_of
from data_tools.text.lines import open_prose
from finetune.understanding.rows.encoding import LocatedPieces, TextEncoder, in_blocks


@dataclass(frozen=True)
class MaskableLine:
    """A line that fits into all models; for each model the ids of its pieces, and the number of each piece's unit.

    `is_asked` (U,): whether every model has pieces for the unit, so that it can be predicted. `is_drawn` (U,): whether
    it is among those that are masked together.
    """

    number: int  # of the line in its file, from 0
    pieces: Sequence[np.ndarray]
    units: Sequence[np.ndarray]
    characters: np.ndarray  # (U,), without spaces
    is_asked: np.ndarray
    is_drawn: np.ndarray


@dataclass
class Counts:
    """What was found in a text: lines with words, those left out, words, and whether all models cut them alike."""

    lines: int = 0
    too_long: int = 0  # lines that do not fit into some model
    words: int = 0  # in the other lines
    unknown: int = 0  # words for which some model has no pieces
    same_pieces: bool = True


@dataclass
class MaskedText:
    """A file with a sentence a line, and the words of it that are masked; reading it counts anew.

    A word is drawn by a number from the seed, the number of its line and its own, whatever the tokenizers.
    """

    path: Path
    encoders: Sequence[TextEncoder]
    longest: Sequence[int]  # pieces of a line that each model takes
    share: float  # of the words, that is drawn
    seed: int
    most_lines: int | None
    counts: Counts = field(default_factory=Counts, init=False)

    def __iter__(self) -> Iterator[MaskableLine]:
        """The lines that fit. Raises ValueError for what is not text."""
        self.counts = Counts()
        with closing(open_prose(self.path)) as lines:
            own = ((number, line) for number, line in enumerate(lines) if line.strip())
            for block in in_blocks(islice(own, self.most_lines)):
                texts = [line for _, line in block]
                located = [encoder.locate(texts) for encoder in self.encoders]
                for (number, text), *pieces in zip(block, *located, strict=True):
                    line = self.maskable(number, text, pieces)
                    if line is not None:
                        yield line

    def maskable(self, number: int, text: str, located: Sequence[LocatedPieces]) -> MaskableLine | None:
        """A line, if it fits into all models; it is counted."""
        self.counts.lines += 1
        if any(len(pieces.ids) > longest for pieces, longest in zip(located, self.longest, strict=True)):
            self.counts.too_long += 1
            return None
        units = units_of(text, located)
        is_asked = np.ones(len(units), dtype=bool)
        for encoder, pieces, of_pieces in zip(self.encoders, located, units.of_pieces, strict=True):
            is_asked &= np.bincount(of_pieces, minlength=len(units)) > 0
            is_asked[of_pieces[pieces.ids == encoder.unknown]] = False
        self.counts.words += len(units)
        self.counts.unknown += int((~is_asked).sum())
        self.counts.same_pieces &= all(is_cut_alike(located[0], other) for other in located[1:])
        num_words = int(units.first_words[-1]) + 1 if len(units) else 0
        drawn = np.random.default_rng([self.seed, number]).random(num_words)
        return MaskableLine(
            number,
            [pieces.ids for pieces in located],
            units.of_pieces,
            units.characters,
            is_asked,
            is_asked & (drawn[units.first_words] < self.share),
        )


def is_cut_alike(one: LocatedPieces, other: LocatedPieces) -> bool:
    """Whether two tokenizers cut a line at the same places."""
    return np.array_equal(one.ends, other.ends)
