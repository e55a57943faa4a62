"""What is predicted for a text or a pair of them, `<s> first </s></s> second </s>`, from the first token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.understanding.heads.sides import labelled_sides
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.examples import LabelledText
from training.step import Batch
from veco import VecoForSequenceClassification
from veco.labels import Labelled, loss_of_problem


class TextHead:
    """Rows of texts or pairs of them, and the model's outputs for each; base of the heads that predict from these."""

    model_class = VecoForSequenceClassification
    problem_type: str | None

    def __init__(self, outputs: Sequence[str], max_length: int, average_pair: bool = False) -> None:
        """`average_pair`: plugged in, predict from the mean of the logits of x and y, which have the same label."""
        self.outputs: Sequence[str] = outputs
        self.max_length = max_length
        self.average_pair = average_pair

    def targets(self, examples: Sequence[LabelledText]) -> np.ndarray:
        """The targets of examples that have labels, (examples, …)."""
        raise NotImplementedError

    def predictions(self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[LabelledText]) -> Any:
        """The prediction for each example."""
        raise NotImplementedError

    def encode(self, examples: Iterable[LabelledText], encoder: TextEncoder) -> TokenRows:
        """A row for each example, with the targets unless an example has no label.

        Rows of more than `max_length` tokens are truncated at the end of the longer text, and counted.
        """
        return TokenRows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[LabelledText], encoder: TextEncoder) -> TokenRows:
        pieces = iter(encoder.encode([text for example in block for text in example.texts]))
        rows = []
        truncated: Counter[str] = Counter()
        for example in block:
            texts, frame = [next(pieces) for _ in example.texts], encoder.frame(example.texts)
            fitting = frame.fitting(texts, self.max_length)
            truncated[f"{'texts' if example.text_b is None else 'pairs'} cut to max_length"] += fitting is not texts
            rows.append(frame.row(*fitting))
        has_labels = all(example.label is not None for example in block)
        targets = {"labels": self.targets(block)} if has_labels else {}
        return TokenRows.of(rows, np.arange(len(block)), row_targets=targets, truncated=+truncated)

    def labelled(self, model: nn.Module, batch: Batch) -> list[Labelled]:
        """The logits of the texts x and y, and their labels."""
        return labelled_sides(model, batch)

    def loss(self, labelled: list[Labelled]) -> Tensor:
        """The mean loss over the labels of x and y."""
        assert self.problem_type is not None
        return loss_of_problem(labelled, self.problem_type)

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros in the shape of the logits of all rows."""
        return {"logits": np.zeros((len(rows), len(self.outputs)))}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store the logits of the batch of rows `numbers`."""
        results["logits"][numbers] = logits_of(output, self.average_pair).cpu().numpy()


def logits_of(output: ModelOutput, average_pair: bool) -> Tensor:
    """The logits of x, float32, or the mean of those of x and y."""
    logits = output.logits.float()
    if average_pair and output.pair_logits is not None:
        logits = (logits + output.pair_logits.float()) / 2
    return logits
