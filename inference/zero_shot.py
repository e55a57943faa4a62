"""Labels without training, in any language: does a text entail "This text is about LABEL."? (Yin et al., EMNLP 2019)

A model of natural language inference, such as one trained on XNLI, answers; it transfers to other languages as it does
in XNLI.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from scipy.special import softmax

from data_tools.files.yaml_files import read_mapping
from finetune.model_directory import model_directory
from finetune.placement import Placement
from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.rows.evaluation import EvaluationSet
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import LabelledText
from finetune.understanding.tasks.task import Head
from training.run_directory.kinds import Kind

ENTAILMENT = "entailment"
OTHERWISE = ("contradiction", "not_entailment")  # what a single label is weighed against, by the names of data sets
PAIRS_AT_ONCE = 1 << 14  # of a text and a label


class ZeroShotClassifier:
    """A model that was fine-tuned for natural language inference: a run, a checkpoint or a model directory.

    It computes in float32, on a card if there is one, unless `placement` says otherwise. Raises ValueError for another
    model: its labels must have `entailment`, and `contradiction` or `not_entailment`.
    """

    def __init__(self, path: str | Path, max_tokens: int | None = None, placement: Placement | None = None) -> None:
        """`max_tokens` is the largest batch, with padding; None is what suits the device."""
        directory = model_directory(Path(path), [Kind.TASK])
        self._predictor = Predictor.load(directory, None, max_tokens, placement)
        task = self._predictor.task
        otherwise = [label for label in OTHERWISE if label in task.labels]
        if task.head is not Head.SEQUENCE or ENTAILMENT not in task.labels or not otherwise:
            raise ValueError(
                f"{directory}: was trained for {task.name}; expected a task of natural language inference, with the "
                f"labels {ENTAILMENT} and {' or '.join(OTHERWISE)}, such as xtreme/xnli"
            )
        self._entailment, self._otherwise = task.labels.index(ENTAILMENT), task.labels.index(otherwise[0])
        self.num_truncated = 0  # pairs of a text and a hypothesis so far that were cut to the length of training

    def probabilities(
        self,
        texts: Iterable[str],
        labels: Sequence[str],
        language: str = "en",
        template: str | None = None,
        several: bool = False,
    ) -> np.ndarray:
        """The probability of each label for each text, float64 (texts, labels).

        They sum to 1 for a text, or with `several`, where any number of labels may hold, each is between 0 and 1 on its
        own. The hypothesis is `template`, or that of `language`, with the label in place of `{}`; texts may be in
        another language than labels. Raises ValueError for a language without a template and a template without `{}`.
        """
        hypotheses = hypotheses_of(labels, language, template)
        texts = [texts] if isinstance(texts, str) else texts
        blocks = list(self._logits(texts, hypotheses))
        logits = np.concatenate(blocks) if blocks else np.zeros((0, len(labels), len(self._predictor.head.outputs)))
        entailed = logits[:, :, self._entailment]
        if not several:
            return cast(np.ndarray, softmax(entailed, axis=1))
        against = np.stack([entailed, logits[:, :, self._otherwise]], axis=2)
        return cast(np.ndarray, softmax(against, axis=2)[:, :, 0])

    def _logits(self, texts: Iterable[str], hypotheses: Sequence[str]) -> Iterator[np.ndarray]:
        """The model's logits (texts, hypotheses, classes), for some texts at a time."""
        remaining = iter(texts)
        while block := list(itertools.islice(remaining, max(1, PAIRS_AT_ONCE // len(hypotheses)))):
            pairs = [LabelledText(text, hypothesis, None, "") for text in block for hypothesis in hypotheses]
            rows = self._predictor.head.encode(pairs, self._predictor.encoder)
            self.num_truncated += rows.truncated.total()
            is_plugged_in = self._predictor.is_plugged_in
            paired = PairedRows.paired(rows, rows, np.arange(len(pairs))) if is_plugged_in else PairedRows.alone(rows)
            logits = self._predictor.results(EvaluationSet("", pairs, paired, is_own_pair=is_plugged_in))["logits"]
            yield logits.reshape(len(block), len(hypotheses), -1)


def templates() -> dict[str, str]:
    """The template of each language that has one."""
    return read_mapping(Path(__file__).with_name("hypothesis_templates.yaml"), "a template for each language")


def hypotheses_of(labels: Sequence[str], language: str, template: str | None = None) -> list[str]:
    """The hypothesis of each label. Raises ValueError as `probabilities` does, and where there is no label."""
    if isinstance(labels, str) or not labels:
        raise ValueError(f"labels: expected at least one, in a list, found {labels!r}")
    if template is None:
        known = templates()
        if language not in known:
            raise ValueError(f"language {language!r} has no template, only {', '.join(known)}; give one as `template`")
        template = known[language]
    if "{}" not in template:
        raise ValueError(f"template {template!r}: expected {{}} in the place of the label")
    return [template.replace("{}", label) for label in labels]
