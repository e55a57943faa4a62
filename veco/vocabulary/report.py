"""What a change of vocabulary does to a text and to a model, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from torch import nn

from veco.vocabulary.agreement import Agreement
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.text import Counts


@dataclass(frozen=True)
class Side:
    """A vocabulary before or after; `unknown_share` of the pieces of a text and `pieces_per_word` (None: no text).

    `bytes` are those of the model's weights.
    """

    pieces: int
    parameters: int
    bytes: int
    unknown_share: float | None
    pieces_per_word: float | None

    @classmethod
    def of(cls, pieces: Pieces, model: nn.Module, counts: Counts | None) -> Side:
        """That of a tokenizer and a model, with counts of a text."""
        weights = list(model.parameters())  # tied ones once
        sizes = sum(weight.numel() for weight in weights), sum(weight.nbytes for weight in weights)
        if counts is None:
            return cls(len(pieces), *sizes, None, None)
        unknown = [pieces.roles["unk"]] if "unk" in pieces.roles else []
        return cls(len(pieces), *sizes, counts.share(unknown), counts.fertility)


@dataclass(frozen=True)
class Overlap:
    """Ordinary pieces that both vocabularies have, and their share of the new vocabulary and of a text in it."""

    pieces: int
    share_of_vocabulary: float
    share_of_text: float | None


@dataclass(frozen=True)
class RowCounts:
    """How many rows of the new vocabulary are copied, combined from several, and drawn."""

    copied: int
    combined: int
    drawn: int

    @classmethod
    def of(cls, weights: csr_array) -> RowCounts:
        """Those of weights (V new, V old)."""
        num_sources = np.diff(weights.indptr)
        return cls(*(int(which.sum()) for which in (num_sources == 1, num_sources > 1, num_sources == 0)))


@dataclass(frozen=True)
class Report:
    """What became of a vocabulary.

    `overlap`, `rows` and the `seconds` that these took are there only where it was changed, `agreement` where it was
    cut by text.
    """

    before: Side
    after: Side
    overlap: Overlap | None = None
    rows: RowCounts | None = None
    seconds: float | None = None
    agreement: Agreement | None = None

    def table(self) -> str:
        """Lines for people."""
        sides = (self.before, self.after)
        lines = [
            f"{'':16} {'before':>12} {'after':>12}",
            _row("pieces", [f"{side.pieces:,}" for side in sides]),
            _row("parameters", [f"{side.parameters:,}" for side in sides]),
            _row("memory, MB", [f"{side.bytes / 1e6:,.1f}" for side in sides]),
        ]
        if self.after.unknown_share is not None:
            lines += [
                _row("unknown pieces", [_percent(side.unknown_share) for side in sides]),
                _row("pieces per word", ["" if (n := side.pieces_per_word) is None else f"{n:.3f}" for side in sides]),
            ]
        if self.overlap is not None:
            share = self.overlap.share_of_text
            of_text = "" if share is None else f" and {share:.2%} of the text"
            lines.append(
                f"overlap          {self.overlap.pieces:,} pieces, {self.overlap.share_of_vocabulary:.2%} of the new "
                f"vocabulary{of_text}"
            )
        if self.rows is not None:
            kinds = f"{self.rows.copied:,} copied, {self.rows.combined:,} combined, {self.rows.drawn:,} drawn"
            lines.append(f"rows             {kinds}, in {self.seconds:.1f} s")
        if self.agreement is not None:
            found = self.agreement
            lines.append(
                f"states           of {found.lines} lines differ by at most {found.largest_difference:.1g}; "
                f"{found.other_pieces} lines are cut into other pieces"
            )
        return "\n".join(lines)


def _row(name: str, values: list[str]) -> str:
    return f"{name:16} " + " ".join(f"{value:>12}" for value in values)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
