"""A number for each example: correlations, and files of a number a line. For regression and ranking."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.text.lines import open_text
from finetune.understanding.metrics.labels import INSPECTED_LINES, check_rows, shown_label
from finetune.understanding.readers.labels import number_of
from finetune.understanding.tasks.examples import HiddenLabelsError, LabelledText
from finetune.understanding.tasks.task import Task

Numbers = Sequence[float]


def pearson(gold: Numbers, predicted: Numbers, task: Task, language: str) -> dict[str, float]:
    """{"pearson"}: Pearson's correlation x 100; 0 for constant numbers."""
    from scipy.stats import pearsonr  # takes half a second to import

    return {"pearson": _correlation(pearsonr, gold, predicted)}


def spearman(gold: Numbers, predicted: Numbers, task: Task, language: str) -> dict[str, float]:
    """{"spearman"}: Spearman's rank correlation x 100; 0 for constant numbers."""
    from scipy.stats import spearmanr

    return {"spearman": _correlation(spearmanr, gold, predicted)}


def _correlation(correlation: Callable[[Numbers, Numbers], Any], gold: Numbers, predicted: Numbers) -> float:
    """That of a function of scipy.stats, x 100; raises ValueError for a single row."""
    from scipy.stats import NearConstantInputWarning

    check_rows(gold, predicted)
    if len(gold) < 2:
        raise ValueError(f"{len(gold)} row; expected two or more for a correlation")
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearConstantInputWarning)
        found = float(correlation(gold, predicted).statistic)
    return found * 100 if math.isfinite(found) else 0.0


def gold_numbers(examples: Iterable[LabelledText]) -> Numbers:
    """The numbers of the examples; raises HiddenLabelsError if one has none."""
    return [label_as_number(example) for example in examples]


def label_as_number(example: LabelledText) -> float:
    """The label of an example as a number; raises ValueError for another one, HiddenLabelsError for none."""
    return number_of(str(shown_label(example)), f"an example in {example.language!r}")


def read_numbers(path: Path, task: Task) -> Numbers:
    """The last column of each line; raises ValueError that names the line for anything but a finite number."""
    with open_text(path) as lines:
        numbers = [
            number_of(line.rpartition("\t")[2], lines.place(number)) for number, line in enumerate(lines, start=1)
        ]
    if not numbers:
        raise ValueError(f"{path}: empty; expected a number a line")
    return numbers


def read_gold_numbers(path: Path, task: Task) -> Numbers:
    """The numbers of a label or data file; raises HiddenLabelsError for lines of text alone."""
    check_has_numbers(path)
    return read_numbers(path, task)


def check_has_numbers(path: Path) -> None:
    """Raise HiddenLabelsError if the first lines are text alone."""
    with open_text(path) as lines:
        first = [line.rpartition("\t")[2] for line in itertools.islice(lines, INSPECTED_LINES)]
    if first and not any(map(_is_number, first)):
        raise HiddenLabelsError(f"{path}: text, and no numbers")


def _is_number(text: str) -> bool:
    try:
        number_of(text, "")
    except ValueError:
        return False
    return True


def write_numbers(path: Path, numbers: Numbers) -> None:
    """Write a number a line, with all its digits."""
    path.write_text("".join(f"{float(number)!r}\n" for number in numbers), encoding="utf-8")
