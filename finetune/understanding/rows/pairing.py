"""Checks that examples and their supposed translations belong together."""

from __future__ import annotations

import numpy as np

from finetune.understanding.readers.examples_of_task import question_ids
from finetune.understanding.readers.roots import Source
from finetune.understanding.readers.squad import OCCURRENCE
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.task import Task

MIN_AGREEMENT = 0.9  # share of equal labels among rows that translate each other; by chance a half or a third
MIN_ROWS = 20  # fewer are too few to tell


def check_same_questions(task: Task, source: Source, translated: Source) -> None:
    """Raise ValueError where ids of questions repeat in one source, but not equally often in both.

    Then it is unknown which question translates which: see `with_unique_ids`.
    """
    ids = question_ids(task, source.split, source.language, source.root)
    translated_ids = question_ids(task, translated.split, translated.language, translated.root)
    if ids != translated_ids and any(OCCURRENCE in id for id in ids | translated_ids):
        raise ValueError(
            f"{translated.root}: ids of {task.name} repeat, and not as often in {translated.language} as in "
            f"{source.language} in {source.root}: questions cannot be matched to their translations; use files with "
            "full ids"
        )


def check_labels_agree(x: TokenRows, y: TokenRows, partners: np.ndarray, where: str) -> None:
    """Raise ValueError when rows are not pairs: an example and its translation have the same label.

    Equal numbers of rows do not prove it, for instance where each file lacks different rows. A few labels may differ,
    since the files of some translators have labels of their own.
    """
    if "labels" not in x.row_targets or "labels" not in y.row_targets or len(partners) < MIN_ROWS:
        return
    labels, translated = (side.row_targets["labels"][side.first_rows] for side in (x, y))
    is_equal = labels[partners] == translated
    share = float(is_equal.reshape(len(partners), -1).all(axis=1).mean())
    if share < MIN_AGREEMENT:
        raise ValueError(
            f"{where}: only {share:.0%} of the rows have the same label as those that they should translate; "
            "plugged in, each must translate that of the same row"
        )
