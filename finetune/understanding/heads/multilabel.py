"""Any number of labels for a text or a pair of them, each decided on its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from finetune.understanding.heads.texts import TextHead
from finetune.understanding.metrics.label_sets import SEPARATOR, indicators, labels_of
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import LabelledText


class MultiLabel(TextHead):
    """The labels, among `outputs`, whose probability is above a half; learned by binary cross-entropy."""

    problem_type: str | None = "multi_label_classification"

    def __init__(self, outputs: Sequence[str], max_length: int, average_pair: bool = False) -> None:
        """Raises ValueError for labels that prediction files cannot hold."""
        super().__init__(outputs, max_length, average_pair)
        if wrong := [label for label in outputs if SEPARATOR in label or not label.strip()]:
            raise ValueError(
                f"label {wrong[0]!r}: expected no empty label, and none with {SEPARATOR!r}, which parts them"
            )

    def targets(self, examples: Sequence[LabelledText]) -> np.ndarray:
        """1 for each label of an example, else 0, float32 (examples, labels); labels that are no class are left out."""
        known = set(self.outputs)
        rows = [tuple(label for label in labels_of(example) if label in known) for example in examples]
        return indicators(rows, self.outputs).astype(np.float32)

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[LabelledText]
    ) -> list[tuple[str, ...]]:
        """The labels of each example, in the order of the classes; maybe none."""
        has_label = results["logits"] > 0  # the probability of 0 is 1/2
        return [tuple(itertools.compress(self.outputs, own)) for own in has_label.tolist()]
