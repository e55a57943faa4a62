"""Labelled pairs of sentences in tab-separated files: XNLI and PAWS-X."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.readers.labels import known_label
from finetune.understanding.tasks.examples import LabelledText
from finetune.understanding.tasks.task import Task

NUM_COLUMNS = (2, 3, 5)  # without label, with label, with label and original


def pairs_of_file(path: Path, task: Task, language: str, takes_empty: bool = False) -> Iterator[LabelledText]:
    """The pairs of a file: `sentence1 TAB sentence2 TAB label`, or without label as in XTREME's own test files.

    XTREME's translations have five columns: the English pair, the translated pair, the label. Rows that were not
    translated are yielded with `takes_empty`, see `LabelledText.is_complete`. Raises ValueError that names the line for
    another number of columns, a label that the task does not have and, without `takes_empty`, an empty sentence.
    """
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            fields = fields_of(line)
            original = None
            if len(fields) == 5:
                original, fields = (fields[0], fields[1]), fields[2:]
            elif len(fields) not in NUM_COLUMNS:
                raise ValueError(
                    f"{lines.place(number)}: {len(fields)} columns; expected sentence1 TAB sentence2 TAB label"
                )
            text_a, text_b, *labels = fields
            if not takes_empty:
                check_sentences(text_a, text_b, lines.place(number))
            label = known_label(labels[0], task, lines.place(number)) if labels else None
            yield LabelledText(text_a, text_b, label, language, original)


def check_sentences(text_a: str, text_b: str, where: str) -> None:
    """Raise ValueError if a sentence is empty."""
    if not text_a.strip() or not text_b.strip():
        raise ValueError(f"{where}: an empty sentence")


def fields_of(line: str) -> list[str]:
    """The columns of a line.

    XTREME's script writes them with Python's csv: a field with a double quote is quoted, and the quotes inside are
    doubled. Other files are plain, and there one sentence may begin with a quote and another end with one. So a line is
    split at its tabs if it is not valid csv, or if a csv field would contain a tab although the plain columns fit.
    """
    plain = line.split("\t")
    if '"' in line:
        try:
            fields = next(csv.reader([line], delimiter="\t", strict=True))
        except csv.Error:
            fields = []
        has_swallowed_tab = any("\t" in field for field in fields)
        if len(fields) >= min(NUM_COLUMNS) and not (has_swallowed_tab and len(plain) in NUM_COLUMNS):
            return fields
    return plain
