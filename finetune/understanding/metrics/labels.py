"""One label for each example: accuracy, F1, Matthews' correlation, and files of a label a line.

For classification, multiple choice and sentence search; a choice and a translation are numbers from 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.readers.labels import known_label
from finetune.understanding.tasks.examples import Choices, HiddenLabelsError, Label, LabelledText, RetrievalSet
from finetune.understanding.tasks.task import Task

Labels = Sequence[str]
NUM_SENTENCES = 2  # of an example
INSPECTED_LINES = 20  # which show whether a file has labels


def accuracy(gold: Labels, predicted: Labels, task: Task, language: str) -> dict[str, float]:
    """{"accuracy"} in percent; raises ValueError for unequal numbers of rows."""
    from sklearn.metrics import accuracy_score  # takes a second to import

    check_rows(gold, predicted)
    return {"accuracy": float(accuracy_score(gold, predicted)) * 100}


def positive_f1(gold: Labels, predicted: Labels, task: Task, language: str) -> dict[str, float]:
    """{"f1"} in percent of the task's positive label; 0 if it is neither there nor predicted."""
    from sklearn.metrics import f1_score

    check_rows(gold, predicted)
    (f1,) = f1_score(gold, predicted, labels=[task.positive_label], average=None, zero_division=0)
    return {"f1": float(f1) * 100}


def macro_f1(gold: Labels, predicted: Labels, task: Task, language: str) -> dict[str, float]:
    """{"macro_f1"}: the mean over the labels that are there or predicted, in percent."""
    from sklearn.metrics import f1_score

    check_rows(gold, predicted)
    return {"macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)) * 100}


def matthews(gold: Labels, predicted: Labels, task: Task, language: str) -> dict[str, float]:
    """{"matthews"}: Matthews' correlation x 100; 0 if one side has a single label."""
    from sklearn.metrics import matthews_corrcoef

    check_rows(gold, predicted)
    if len(set(gold)) == 1 or len(set(predicted)) == 1:
        return {"matthews": 0.0}
    return {"matthews": float(matthews_corrcoef(gold, predicted)) * 100}


def check_rows(gold: Sequence[object], predicted: Sequence[object]) -> None:
    """Raise ValueError for unequal numbers of rows."""
    if len(gold) != len(predicted):
        raise ValueError(f"{len(predicted):,} predicted rows but {len(gold):,} labels; the numbers must be equal")


def gold_labels(examples: Iterable[LabelledText | Choices]) -> Labels:
    """The labels of the examples; raises HiddenLabelsError if there are none, as in XTREME's copy of its tests."""
    return [str(shown_label(example)) for example in examples]


def shown_label(example: LabelledText | Choices) -> Label:
    """The label of an example; raises HiddenLabelsError if it has none."""
    if example.label is None:
        raise HiddenLabelsError(f"an example in {example.language!r} has no label")
    return example.label


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
    """Numbers from 0, one a line, as 12 or [12]; raises ValueError that names the line for anything else."""
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
