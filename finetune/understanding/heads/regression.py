"""A number for a text or a pair of them, such as their similarity or the grade of a candidate for a query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.understanding.heads.texts import TextHead
from finetune.understanding.metrics.numbers import label_as_number
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import LabelledText


class Regression(TextHead):
    """The model's only output; learned by squared error."""

    problem_type: str | None = "regression"

    def __init__(self, max_length: int, average_pair: bool = False) -> None:
        super().__init__(("score",), max_length, average_pair)

    def targets(self, examples: Sequence[LabelledText]) -> np.ndarray:
        """The number of each example, float32 (examples,)."""
        return np.array([label_as_number(example) for example in examples], dtype=np.float32)

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[LabelledText]
    ) -> list[float]:
        """The number for each example."""
        return results["logits"][:, 0].tolist()
