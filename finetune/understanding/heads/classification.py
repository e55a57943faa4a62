"""Sentence pairs with one label: XNLI and PAWS-X. `<s> first </s></s> second </s>`, read from the first token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.encoded_text import Pieces, Sentences
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.windows import PairedRows, Rows
from finetune.understanding.tasks.examples import SentencePair
from training.step import Batch
from veco import VecoForSequenceClassification

PAIR_SPECIALS = 4  # <s> … </s></s> … </s>


class Classification:
    """Rows of sentence pairs, and labels back from the model's outputs."""

    model_class = VecoForSequenceClassification

    def __init__(self, labels: Sequence[str], max_length: int, average_pair: bool = False) -> None:
        """`average_pair`: plugged in, predict from the mean of the logits of x and of y, which have one label."""
        self.labels: Sequence[str] = labels
        self.max_length = max_length
        self.average_pair = average_pair

    def encode(self, examples: Iterable[SentencePair], encoder: TextEncoder) -> Rows:
        """A row for each example, with its label unless one has none.

        Longer pairs than `max_length` tokens are cut from the end of the longer sentence, and counted.
        """
        return Rows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[SentencePair], encoder: TextEncoder) -> Rows:
        counts: Counter[str] = Counter()
        firsts = encoder.encode([example.text_a for example in block])
        seconds = encoder.encode([example.text_b for example in block])
        framed = (self._framed(a, b, encoder, counts) for a, b in zip(firsts, seconds, strict=True))
        known = {label: number for number, label in enumerate(self.labels)}
        labels = [known[example.label] for example in block if example.label is not None]
        targets = {"labels": np.array(labels, dtype=np.int64)} if len(labels) == len(block) else {}
        return Rows(Sentences.of(framed), np.arange(len(block)), targets, counts=counts)

    def _framed(self, first: Pieces, second: Pieces, encoder: TextEncoder, counts: Counter[str]) -> np.ndarray:
        budget = self.max_length - PAIR_SPECIALS
        if len(first) + len(second) > budget:
            counts["pairs cut to max_length"] += 1
            num_first = min(len(first), max(budget - len(second), (budget + 1) // 2))
            first, second = first[:num_first], second[: budget - num_first]
        bos, eos = encoder.special.bos, encoder.special.eos
        return np.array([bos, *first, eos, eos, *second, eos], dtype=np.int32)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the labels of both sides."""
        return model(**batch).loss

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Room for the logits of all rows."""
        return {"logits": np.zeros((len(rows), len(self.labels)))}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Nothing; keeps what a batch of rows `numbers` gave."""
        logits = output.logits.float()
        if self.average_pair and output.pair_logits is not None:
            logits = (logits + output.pair_logits.float()) / 2
        results["logits"][numbers] = logits.cpu().numpy()

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[SentencePair]
    ) -> list[str]:
        """The likeliest label of each example."""
        return [self.labels[number] for number in results["logits"].argmax(axis=1)]
