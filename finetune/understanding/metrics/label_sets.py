"""Any number of labels for each example: F1 over the labels, and files of the labels of a row a line, with commas."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_tools.text.lines import open_text
from finetune.understanding.metrics.labels import INSPECTED_LINES, check_rows, shown_label
from finetune.understanding.readers.labels import known_label
from finetune.understanding.tasks.examples import HiddenLabelsError, LabelledText
from finetune.understanding.tasks.task import Task

LabelSets = Sequence[tuple[str, ...]]
SEPARATOR = ","  # in prediction and label files
NO_LABEL = ""  # a column of zeros, since scikit-learn takes a table of one column for two classes


def micro_f1(gold: LabelSets, predicted: LabelSets, task: Task, language: str) -> dict[str, float]:
    """{"micro_f1"} of all decisions together, in percent; 0 if no label is there or predicted."""
    return {"micro_f1": _f1(gold, predicted, "micro")}


def macro_f1(gold: LabelSets, predicted: LabelSets, task: Task, language: str) -> dict[str, float]:
    """{"macro_f1"}: the mean over the labels that are there or predicted, in percent; 0 if there are none."""
    return {"macro_f1": _f1(gold, predicted, "macro")}


def exact_match(gold: LabelSets, predicted: LabelSets, task: Task, language: str) -> dict[str, float]:
    """{"exact_match"}: the rows all of whose labels are right (subset accuracy), in percent."""
    from sklearn.metrics import accuracy_score  # takes a second to import

    labels = labels_found(gold, predicted)
    found = accuracy_score(indicators(gold, [*labels, NO_LABEL]), indicators(predicted, [*labels, NO_LABEL]))
    return {"exact_match": float(found) * 100}


def _f1(gold: LabelSets, predicted: LabelSets, average: str) -> float:
    from sklearn.metrics import f1_score

    labels = labels_found(gold, predicted)
    if not labels:
        return 0.0
    tables = indicators(gold, [*labels, NO_LABEL]), indicators(predicted, [*labels, NO_LABEL])
    return float(f1_score(*tables, labels=range(len(labels)), average=average, zero_division=0)) * 100


def labels_found(gold: LabelSets, predicted: LabelSets) -> list[str]:
    """The labels that are there or predicted, sorted; raises ValueError for unequal numbers of rows."""
    check_rows(gold, predicted)
    return sorted({label for own in (*gold, *predicted) for label in own})


def indicators(rows: LabelSets, labels: Sequence[str]) -> np.ndarray:
    """Whether each row has each label, int64 (rows, labels)."""
    numbers = {label: number for number, label in enumerate(labels)}
    found = np.zeros((len(rows), len(labels)), dtype=np.int64)
    for row, own in enumerate(rows):
        found[row, [numbers[label] for label in own]] = 1
    return found


def gold_label_sets(examples: Iterable[LabelledText]) -> LabelSets:
    """The labels of the examples; raises HiddenLabelsError if one has none, not even no label."""
    return [labels_of(example) for example in examples]


def labels_of(example: LabelledText) -> tuple[str, ...]:
    """The labels of an example, of which a single one may stand alone; raises HiddenLabelsError if they are hidden."""
    label = shown_label(example)
    return label if isinstance(label, tuple) else (str(label),)


def read_label_sets(path: Path, task: Task) -> LabelSets:
    """The last column of each line, split at commas, empty for no label; raises ValueError that names the line."""
    rows = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            names = [name for name in line.rpartition("\t")[2].split(SEPARATOR) if name.strip()]
            own = tuple(known_label(name, task, lines.place(number)) for name in names)
            if len(set(own)) < len(own):
                raise ValueError(f"{lines.place(number)}: a label is given twice: {', '.join(own)}")
            rows.append(own)
    if not rows:
        raise ValueError(f"{path}: empty; expected the labels of a row a line, with commas")
    return rows


def read_gold_label_sets(path: Path, task: Task) -> LabelSets:
    """The labels of a label or data file; raises HiddenLabelsError for lines of text alone."""
    known = {*task.labels, *task.label_spellings}
    with open_text(path) as lines:
        first = [line.rpartition("\t")[2] for line in itertools.islice(lines, INSPECTED_LINES)]
    if first and not any(
        {name.strip() for name in last.split(SEPARATOR)} & known or not last.strip() for last in first
    ):
        raise HiddenLabelsError(f"{path}: text, and no labels")
    return read_label_sets(path, task)


def write_label_sets(path: Path, rows: LabelSets) -> None:
    """Write the labels of a row a line, with commas; an empty line for no label."""
    path.write_text("".join(SEPARATOR.join(own) + "\n" for own in rows), encoding="utf-8")
