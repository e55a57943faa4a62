"""Pairs of sentences with labels, as tab-separated lines: XNLI and PAWS-X."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.tasks.examples import SentencePair
from finetune.understanding.tasks.table import Task

# The machine translations of MultiNLI that came with XNLI spell one label otherwise.
SPELLINGS = {"contradictory": "contradiction"}
COLUMNS = (2, 3, 5)  # of a file: without label, with label, with label and original


def pairs_of_file(path: Path, task: Task, language: str, takes_empty: bool = False) -> Iterator[SentencePair]:
    """The pairs of a file: `sentence1 TAB sentence2 TAB label`, or without label as in XTREME's own test files.

    Five columns are XTREME's translations: the English pair, the translated pair, the label. Rows that were not
    translated are there with `takes_empty`, see `SentencePair.is_complete`. Raises ValueError naming the line for empty
    sentences else, for other columns and labels that the task does not have.
    """
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            fields = fields_of(line)
            original = None
            if len(fields) == 5:
                original, fields = (fields[0], fields[1]), fields[2:]
            elif len(fields) not in COLUMNS:
                raise ValueError(
                    f"{lines.place(number)}: {len(fields)} columns; expected sentence1 TAB sentence2 TAB label"
                )
            text_a, text_b, *labels = fields
            if not takes_empty:
                check_sentences(text_a, text_b, lines.place(number))
            label = known_label(labels[0], task, lines.place(number)) if labels else None
            yield SentencePair(text_a, text_b, label, language, original)


def check_sentences(text_a: str, text_b: str, where: str) -> None:
    """Raise ValueError if one of them is empty."""
    if not text_a.strip() or not text_b.strip():
        raise ValueError(f"{where}: an empty sentence")


def fields_of(line: str) -> list[str]:
    """The columns of a line.

    XTREME's script writes them with Python's csv: a field with a double quote stands in quotes, the quotes inside
    doubled. Other files are plain, and there a sentence may begin with a quote, and another end with one: what is no
    valid csv, or has columns between such quotes that fit as they are, is taken as it is.
    """
    plain = line.split("\t")
    if '"' in line:
        try:
            fields = next(csv.reader([line], delimiter="\t", strict=True))
        except csv.Error:
            fields = []
        has_swallowed_tab = any("\t" in field for field in fields)
        if len(fields) >= min(COLUMNS) and not (has_swallowed_tab and len(plain) in COLUMNS):
            return fields
    return plain


def known_label(label: str, task: Task, where: str) -> str:
    """The label as the task spells it; raises ValueError that names the labels of the task."""
    label = SPELLINGS.get(label.strip(), label.strip())
    if label not in task.labels and label not in task.other_labels:
        raise ValueError(f"{where}: unknown label {label!r}; {task.name} has {', '.join(task.labels)}")
    return label
