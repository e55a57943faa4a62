"""One label for a word in two contexts, such as: is it used in the same sense? (WiC)

A logistic regression on the state of the first token and those of the two words, concatenated: SuperGLUE's baseline
for WiC (Wang et al., NeurIPS 2019). The state of a word is the mean over its tokens. Such a map of concatenated states
is the sum of a linear map of each, so the model is one that classifies tokens, with three outputs for each label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.understanding.heads.question_answering import token_span
from finetune.understanding.rows.encoding import LocatedPieces, TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows, SelectedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.examples import Answer, LabelledText
from training.step import Batch
from veco import VecoForTokenClassification
from veco.labels import IGNORED, Labelled, mean_cross_entropy
from veco.pairs import pair_argument

WORD_NUMBERS = "word_numbers"  # 1 and 2 on the tokens of the first and the second word, else 0
PLACES = ("sentence", "first word", "second word")  # whose states are seen
Span = tuple[int, int]  # tokens [start, end)


class ContextWord:
    """Rows of two texts with a word in each, and labels from the model's outputs."""

    model_class = VecoForTokenClassification
    problem_type: str | None = None

    def __init__(self, labels: Sequence[str], max_length: int, average_pair: bool = False) -> None:
        """`average_pair`: plugged in, predict from the mean of the logits of x and y, which have the same label."""
        self.labels = labels
        self.outputs: Sequence[str] = [f"{label}, {place}" for place in PLACES for label in labels]
        self.max_length = max_length
        self.average_pair = average_pair

    def encode(self, examples: Iterable[LabelledText], encoder: TextEncoder) -> TokenRows:
        """A row for each example, with the labels unless an example has none.

        Of pairs of more than `max_length` tokens the longer text is truncated, on both sides of its word, and they are
        counted. Raises ValueError for an example without the places of its two words.
        """
        return TokenRows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[LabelledText], encoder: TextEncoder) -> TokenRows:
        firsts = encoder.locate([example.text_a for example in block])
        seconds = encoder.locate([example.text_b or "" for example in block])
        rows, numbers = [], []
        truncated: Counter[str] = Counter()
        for example, *texts in zip(block, firsts, seconds, strict=True):
            words = words_of(example, texts)
            fitting = encoder.pair.fitting([text.ids for text in texts], self.max_length)
            sizes = [len(text) for text in fitting]
            truncated["pairs cut to max_length"] += sizes != [len(text.ids) for text in texts]
            truncated["words without tokens"] += sum(start == end for start, end in words)
            kept = [
                window_around(word, len(text.ids), size) for word, text, size in zip(words, texts, sizes, strict=True)
            ]
            cut = [text.ids[start:end] for text, (start, end) in zip(texts, kept, strict=True)]
            rows.append(encoder.pair.row(*cut))
            numbers.append(np.zeros(len(rows[-1]), dtype=np.int64))
            begins = encoder.pair.places[0], encoder.pair.start_of_last(cut[0])
            for number, (word, window, begin) in enumerate(zip(words, kept, begins, strict=True), start=1):
                start, end = np.clip(word, *window) - window[0] + begin
                numbers[-1][start:end] = number
        known = {label: number for number, label in enumerate(self.labels)}
        labels = [known.get(str(example.label), IGNORED) for example in block if example.label is not None]
        is_labelled = len(labels) == len(block)
        flat = np.concatenate(numbers)
        return TokenRows.of(
            rows,
            np.arange(len(block)),
            row_targets={"labels": np.array(labels, dtype=np.int64)} if is_labelled else {},
            token_targets={WORD_NUMBERS: flat} if is_labelled else {},
            marks={WORD_NUMBERS: flat},
            truncated=+truncated,
        )

    def labelled(self, model: nn.Module, batch: Batch) -> list[Labelled]:
        """The logits of the labels of x and y, and the labels."""
        sides: dict[str, Callable[[str], str]] = {"logits": str}
        if "pair_attention_mask" in batch:
            sides["pair_logits"] = pair_argument
        own = {name_of(name) for name_of in sides.values() for name in ("labels", WORD_NUMBERS)}
        output = model(**{name: tensor for name, tensor in batch.items() if name not in own})
        return [
            Labelled(
                name_of("labels"), combined(output[logits], batch[name_of(WORD_NUMBERS)]), batch[name_of("labels")]
            )
            for logits, name_of in sides.items()
        ]

    def loss(self, labelled: list[Labelled]) -> Tensor:
        """The mean cross-entropy over the labels of x and y."""
        return mean_cross_entropy(labelled)

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros in the shape of the logits of all rows."""
        return {"logits": np.zeros((len(rows), len(self.labels)))}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store the logits of the batch of rows `numbers`."""
        logits = combined(output.logits, marked_words(rows.x, numbers, output.logits))
        if self.average_pair and rows.y is not None:
            logits = (logits + combined(output.pair_logits, marked_words(rows.y, numbers, output.pair_logits))) / 2
        results["logits"][numbers] = logits.cpu().numpy()

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[LabelledText]
    ) -> list[str]:
        """The most likely label of each example."""
        return [self.labels[number] for number in results["logits"].argmax(axis=1)]


def words_of(example: LabelledText, texts: Sequence[LocatedPieces]) -> list[Span]:
    """The tokens of the word in each text, none for a word without pieces. Raises ValueError without two words."""
    if len(example.words) != len(texts):
        raise ValueError(f"an example in {example.language!r} has {len(example.words)} marked words; expected two")
    spans = []
    for (start, end), own, text in zip(example.words, texts, example.texts, strict=True):
        span = token_span(own, Answer(text[start:end], start))
        spans.append((0, 0) if span is None else (span[0], span[1] + 1))
    return spans


def window_around(word: Span, length: int, size: int) -> Span:
    """The `size` tokens of a text of `length` with a word in their middle, as far as its ends allow."""
    start = min(max(0, (word[0] + word[1] - size) // 2), length - size)
    return start, start + size


def marked_words(side: SelectedRows, numbers: np.ndarray, logits_BTC: Tensor) -> Tensor:
    """The word numbers (B, T) of the batch of rows `numbers`, on the device of its logits."""
    chosen = side.numbers[numbers]
    is_token = np.arange(logits_BTC.shape[1]) < side.rows.lengths[chosen][:, None]
    found = np.zeros(is_token.shape, dtype=np.int64)
    found[is_token] = side.rows.marks[WORD_NUMBERS][side.rows.places(chosen)]
    return torch.from_numpy(found).to(logits_BTC.device)


def combined(logits_BTC: Tensor, word_numbers_BT: Tensor) -> Tensor:
    """Logits float32 (B, labels): the first token's part, and the mean part of each word's tokens (none: 0)."""
    parts = logits_BTC.float().unflatten(2, (len(PLACES), -1))
    logits = parts[:, 0, 0]
    for number in (1, 2):
        is_word_BT1 = word_numbers_BT.eq(number).unsqueeze(2)
        logits = logits + (parts[:, :, number] * is_word_BT1).sum(dim=1) / is_word_BT1.sum(dim=1).clamp(min=1)
    return logits
