"""Translations as lines of text: those that scripts written for fairseq-generate parse, and plain ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from data_tools.files.atomic import atomic_path
from finetune.mt.decoding.input_lines import Block
from finetune.mt.decoding.translator import Hypothesis, Translator


@dataclass(frozen=True)
class OutputOptions:
    """The form of the output, and the file for plain lines."""

    plain_file: Path | None = None  # a line for each line of input
    is_quiet: bool = False  # no S-, T-, H-, D-, P-lines
    as_text: bool = False  # S-, T- and H-lines have text instead of pieces
    as_scores: bool = False  # plain lines are scores instead of translations

    def plain(self, hypotheses: Sequence[Hypothesis]) -> str:
        """The plain line of a sentence."""
        return f"{hypotheses[0].score}" if self.as_scores else hypotheses[0].text


class Writer:
    """A writer of finished blocks; the file of plain lines is renamed into place after the last one."""

    def __init__(self, options: OutputOptions, translator: Translator) -> None:
        self.options = options
        self._translator = translator
        self._open_file: TextIO | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.options.plain_file is not None:
                path = stack.enter_context(atomic_path(self.options.plain_file))
                self._open_file = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def write(self, block: Block, found: Sequence[Sequence[Hypothesis]]) -> None:
        """Write the hypotheses of each sentence of the block."""
        if self._open_file is not None:
            self._open_file.writelines(f"{self.options.plain(hypotheses)}\n" for hypotheses in found)
        if not self.options.is_quiet:
            for i, hypotheses in enumerate(found):
                reference = None if block.references is None else block.references[i]
                lines = self._lines(block.first + i, block.sources[i], reference, hypotheses)
                sys.stdout.writelines(f"{line}\n" for line in lines)
        elif self._open_file is None:
            sys.stdout.writelines(f"{self.options.plain(hypotheses)}\n" for hypotheses in found)
        sys.stdout.flush()  # for interactive use

    def _lines(
        self, number: int, source: str, reference: str | None, hypotheses: Sequence[Hypothesis]
    ) -> Iterator[str]:
        as_text = self.options.as_text
        shown_source = source if as_text else self._translator.source_as_pieces(source)
        shown_reference = None if reference is None else self._translator.reference(reference, as_text)
        return fairseq_lines(number, shown_source, shown_reference, hypotheses, as_text)


def fairseq_lines(
    number: int, source: str, reference: str | None, hypotheses: Sequence[Hypothesis], as_text: bool
) -> Iterator[str]:
    """The S-, T-, H-, D- and P-lines of a sentence; H-lines have pieces, or text as with fairseq's --remove-bpe."""
    yield f"S-{number}\t{source}"
    if reference is not None:
        yield f"T-{number}\t{reference}"
    for hypothesis in hypotheses:
        yield f"H-{number}\t{hypothesis.score}\t{hypothesis.text if as_text else hypothesis.pieces}"
        yield f"D-{number}\t{hypothesis.score}\t{hypothesis.text}"
        yield f"P-{number}\t{' '.join(f'{score:.4f}' for score in hypothesis.positional_scores)}"
