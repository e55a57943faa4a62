"""One label for a pair of sentences, `<s> first </s></s> second </s>`, predicted from the first token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.encoded_text import Pieces, Sentences
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.examples import LabelledText
from training.step import Batch
from veco import VecoForSequenceClassification

PAIR_SPECIALS = 4  # <s> … </s></s> … </s>


class Classification:
    """Rows of sentence pairs, and labels from the model's outputs."""

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
        firsts = encoder.encode([example.text_a for example in block])
        seconds = encoder.encode([example.text_b or "" for example in block])
        framed = [self._framed(a, b, encoder) for a, b in zip(firsts, seconds, strict=True)]
        num_truncated = sum(len(a) + len(b) > self._budget for a, b in zip(firsts, seconds, strict=True))
        known = {label: number for number, label in enumerate(self.labels)}
        labels = [known[str(example.label)] for example in block if example.label is not None]
        targets = {"labels": np.array(labels, dtype=np.int64)} if len(labels) == len(block) else {}
        return TokenRows(
            Sentences.of(framed),
            np.arange(len(block)),
            row_targets=targets,
            truncated=+Counter({"pairs cut to max_length": num_truncated}),
        )

    @property
    def _budget(self) -> int:
        """The tokens that a row has for both sentences."""
        return self.max_length - PAIR_SPECIALS

    def _framed(self, first: Pieces, second: Pieces, encoder: TextEncoder) -> np.ndarray:
        """The row of a pair, truncated where it is too long."""
        if len(first) + len(second) > self._budget:
            num_first = min(len(first), max(self._budget - len(second), (self._budget + 1) // 2))
            first, second = first[:num_first], second[: self._budget - num_first]
        bos, eos = encoder.special.bos, encoder.special.eos
        return np.array([bos, *first, eos, eos, *second, eos], dtype=np.int32)

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
