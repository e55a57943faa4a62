"""The predictions of a model that was fine-tuned to tell whether a hypothesis follows from a premise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy.special import softmax

from analysis.winogender.items import ENTAILMENT, GenderPair
from finetune.placement import Placement
from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.rows.evaluation import EvaluationSet
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import LabelledText
from finetune.understanding.tasks.task import Head

LANGUAGE = "en"  # of Winogender


@dataclass(frozen=True)
class EntailmentModel:
    """A fine-tuned model, and the label that says that the hypothesis follows; all others say that it does not."""

    predictor: Predictor
    label: str

    @classmethod
    def load(cls, directory: Path, label: str | None, max_tokens: int | None, placement: Placement) -> Self:
        """Load a model; `label` None is the one called entailment, `max_tokens` None what suits the device.

        Raises ValueError for a model of another kind of task, or without such a label.
        """
        predictor = Predictor.load(directory, None, max_tokens, placement)
        task = predictor.task
        labels = list(predictor.head.outputs) if task.head is Head.SEQUENCE else []
        if not labels:
            raise ValueError(
                f"{directory}: was trained for {task.name}, of head {task.head}; expected a model of entailment"
            )
        found = [one for one in labels if one == label or (label is None and one.lower() == ENTAILMENT)]
        if not found:
            raise ValueError(
                f"{directory}: its labels are {', '.join(labels)}, without {label or ENTAILMENT}; name with "
                "--entailment the one that says that the second text follows from the first"
            )
        return cls(predictor, found[0])

    @property
    def other_labels(self) -> list[str]:
        """The labels that say that the hypothesis does not follow."""
        return [label for label in self.predictor.head.outputs if label != self.label]

    def predict(self, pairs: Sequence[GenderPair]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """(whether entailment is the likeliest label, its probability), both (pairs, 2), and what was cut, in words.

        A model that is plugged in reads each example as its own pair.
        """
        examples = [
            LabelledText(premise, pair.hypothesis, None, LANGUAGE) for pair in pairs for premise in pair.premises
        ]
        rows = self.predictor.head.encode(examples, self.predictor.encoder).without_targets()
        paired = (
            PairedRows.paired(rows, rows, np.arange(len(examples)))
            if self.predictor.is_plugged_in
            else PairedRows.alone(rows)
        )
        evaluated = EvaluationSet(LANGUAGE, examples, paired, is_own_pair=self.predictor.is_plugged_in)
        logits = self.predictor.results(evaluated)["logits"]
        number = list(self.predictor.head.outputs).index(self.label)
        is_entailed = (logits.argmax(axis=1) == number).reshape(-1, 2)
        return is_entailed, softmax(logits, axis=1)[:, number].reshape(-1, 2), evaluated.truncated
