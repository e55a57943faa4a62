"""Pairs of sentences mined from two sets, as in BUCC: F1 of the pairs, and files of `source id TAB target id`."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from finetune.understanding.readers.bitext import read_gold_pairs
from finetune.understanding.tasks.examples import HiddenLabelsError, RetrievalSet
from finetune.understanding.tasks.task import Task

Pairs = Set[tuple[str, str]]


def score_pairs(gold: Pairs, predicted: Pairs, task: Task, language: str) -> dict[str, float]:
    """{"f1", "precision", "recall"} in percent; all 0 if no pair is correct.

    Raises ValueError if pairs are correct only the other way round: their columns are swapped.
    """
    num_correct = len(gold & predicted)
    if not num_correct and (num_swapped := len(gold & {(target, source) for source, target in predicted})):
        raise ValueError(
            f"no pair is correct, but {num_swapped:,} are with their columns swapped; expected `source id TAB target "
            "id`"
        )
    if not num_correct:
        return {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    precision = num_correct / len(predicted)
    recall = num_correct / len(gold)
    f1 = 2 * precision * recall / (precision + recall)
    return {"f1": f1 * 100, "precision": precision * 100, "recall": recall * 100}


def gold_pairs(retrieval_set: RetrievalSet) -> Pairs:
    """The pairs of a set; raises HiddenLabelsError if they are hidden, as in XTREME's copy of its tests."""
    if retrieval_set.gold is None:
        raise HiddenLabelsError(
            f"the gold pairs in {retrieval_set.language!r} are not known: there is no file with .gold"
        )
    return retrieval_set.gold


def read_predicted_pairs(path: Path, task: Task) -> Pairs:
    """The pairs of a prediction file, which is empty if a model finds none."""
    return read_gold_pairs(path)


def read_gold_pair_file(path: Path, task: Task) -> Pairs:
    """The pairs of a label file; raises ValueError if it is empty."""
    pairs = read_gold_pairs(path)
    if not pairs:
        raise ValueError(f"{path}: empty; expected lines `source id TAB target id`")
    return pairs


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write the pairs, sorted."""
    path.write_text("".join(f"{source}\t{target}\n" for source, target in sorted(pairs)), encoding="utf-8")
