"""One label for a sentence or a pair of them, `<s> first </s></s> second </s>`, predicted from the first token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.examples import LabelledText
from training.step import Batch
from veco import VecoForSequenceClassification


class Classification:
    """Rows of sentences or pairs of them, and labels from the model's outputs."""

    model_class = VecoForSequenceClassification

    def __init__(self, labels: Sequence[str], max_length: int, average_pair: bool = False) -> None:
        """`average_pair`: plugged in, predict from the mean of the logits of x and y, which have the same label."""
        self.labels: Sequence[str] = labels
        self.max_length = max_length
        self.average_pair = average_pair

    def encode(self, examples: Iterable[LabelledText], encoder: TextEncoder) -> TokenRows:
        """A row for each example, with the labels unless an example has none.

        Pairs of more than `max_length` tokens are truncated at the end of the longer sentence, and counted.
        """
        return TokenRows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[LabelledText], encoder: TextEncoder) -> TokenRows:
        pieces = iter(encoder.encode([text for example in block for text in example.texts]))
        rows = []
        num_truncated = 0
        for example in block:
            texts, frame = [next(pieces) for _ in example.texts], encoder.frame(example.texts)
            fitting = frame.fitting(texts, self.max_length)
            num_truncated += fitting is not texts
            rows.append(frame.row(*fitting))
        known = {label: number for number, label in enumerate(self.labels)}
        labels = [known[str(example.label)] for example in block if example.label is not None]
        targets = {"labels": np.array(labels, dtype=np.int64)} if len(labels) == len(block) else {}
        return TokenRows.of(
            rows,
            np.arange(len(block)),
            row_targets=targets,
            truncated=+Counter({"pairs cut to max_length": num_truncated}),
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean cross-entropy over the labels of x and y."""
        return model(**batch).loss

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros in the shape of the logits of all rows."""
        return {"logits": np.zeros((len(rows), len(self.labels)))}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store the logits of the batch of rows `numbers`."""
        logits = output.logits.float()
        if self.average_pair and output.pair_logits is not None:
            logits = (logits + output.pair_logits.float()) / 2
        results["logits"][numbers] = logits.cpu().numpy()

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[LabelledText]
    ) -> list[str]:
        """The most likely label of each example."""
        return [self.labels[number] for number in results["logits"].argmax(axis=1)]
