"""One label for each example: accuracy, and files of a label a line. For classification and sentence search."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.readers.labels import known_label
from finetune.understanding.tasks.examples import HiddenLabelsError, LabelledText, RetrievalSet
from finetune.understanding.tasks.task import Task

Labels = Sequence[str]
NUM_SENTENCES = 2  # of an example
INSPECTED_LINES = 20  # which show whether a file has labels


def score_labels(gold: Labels, predicted: Labels, task: Task, language: str) -> dict[str, float]:
    """{"accuracy"} in percent; raises ValueError for unequal numbers of rows."""
    if len(gold) != len(predicted):
        raise ValueError(f"{len(predicted):,} predicted rows but {len(gold):,} labels; the numbers must be equal")
    num_correct = sum(label == prediction for label, prediction in zip(gold, predicted, strict=True))
    return {"accuracy": num_correct / len(gold) * 100}


def gold_labels(pairs: Iterable[LabelledText]) -> Labels:
    """The labels of the pairs; raises HiddenLabelsError if there are none, as in XTREME's copy of its tests."""
    labels = []
    for pair in pairs:
        if pair.label is None:
            raise HiddenLabelsError(f"a pair in {pair.language!r} has no label")
        labels.append(str(pair.label))
    return labels


def gold_rows(retrieval_set: RetrievalSet) -> Labels:
    """The row of the sentence that each English sentence translates, as Tatoeba's prediction files have it."""
    if retrieval_set.gold is None:
        raise HiddenLabelsError(
            f"the translations in {retrieval_set.language!r} are not known: XTREME sorts the English side"
        )
    originals = {english: own for own, english in retrieval_set.gold}
    return [originals[id] for id in retrieval_set.target_ids]


def read_labels(path: Path, task: Task) -> Labels:
    """The last column of each line, which is the label in XTREME's prediction and data files alike.

    Raises ValueError that names the line for a label that the task does not have.
    """
    labels = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            labels.append(known_label(line.rpartition("\t")[2], task, lines.place(number)))
    if not labels:
        raise ValueError(f"{path}: empty; expected a label a line")
    return labels


def read_gold_labels(path: Path, task: Task) -> Labels:
    """The labels of a label or data file; raises HiddenLabelsError for pairs without labels, as in XTREME's tests."""
    with open_text(path) as lines:
        first = [line.split("\t") for line in itertools.islice(lines, INSPECTED_LINES)]
    known = [fields for fields in first if fields[-1].strip() in (*task.labels, *task.label_spellings)]
    # Two columns may also be a number and a label, which may be misspelt.
    if {len(fields) for fields in first} == {NUM_SENTENCES} and len(known) < len(first) / 2:
        raise HiddenLabelsError(f"{path}: two columns, and no labels")
    return read_labels(path, task)


def read_rows(path: Path, task: Task) -> Labels:
    """Numbers of rows from 0, one a line, as 12 or [12]; raises ValueError that names the line for anything else."""
    rows = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            row = line.strip()
            row = row[1:-1] if row.startswith("[") and row.endswith("]") else row
            if not (row.isascii() and row.isdecimal()):
                raise ValueError(f"{lines.place(number)}: expected the number of a row from 0, found {row!r}")
            rows.append(str(int(row)))
    if not rows:
        raise ValueError(f"{path}: empty; expected a row number a line")
    return rows


def write_labels(path: Path, labels: Labels) -> None:
    """Write a label a line."""
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def write_rows(path: Path, rows: Labels) -> None:
    """Write a row number a line, as XTREME's script prints it: [12]."""
    write_labels(path, [f"[{row}]" for row in rows])
