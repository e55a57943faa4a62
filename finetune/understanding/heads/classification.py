"""One label for a text or a pair of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.understanding.heads.texts import TextHead
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import LabelledText
from veco.labels import IGNORED


class Classification(TextHead):
    """The most likely of several labels, `outputs`."""

    problem_type: str | None = "single_label_classification"

    def targets(self, examples: Sequence[LabelledText]) -> np.ndarray:
        """The number of the label of each example, int64 (examples,); IGNORED for a label that is no class."""
        known = {label: number for number, label in enumerate(self.outputs)}
        return np.array([known.get(str(example.label), IGNORED) for example in examples], dtype=np.int64)

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[LabelledText]
    ) -> list[str]:
        """The most likely label of each example."""
        return [self.outputs[number] for number in results["logits"].argmax(axis=1)]
