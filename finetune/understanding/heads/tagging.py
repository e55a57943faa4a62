"""A tag for each word, as in POS and NER. The first piece of a word carries the label and the prediction.

A sentence that is longer than a row is split between words into windows that overlap by `stride` tokens. In the middle
of an overlap one window takes over from the other: each word is labelled and predicted once, in the window with more
context around it, so that the tags of all windows together are those of the sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.encoded_text import Sentences
from finetune.understanding.heads.sides import labelled_sides
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import READ, TokenRows
from finetune.understanding.tasks.examples import TaggedSentence
from finetune.understanding.tasks.task import UNTAGGED
from training.step import Batch
from veco import VecoForTokenClassification
from veco.labels import IGNORED, Labelled, mean_cross_entropy


class Window(NamedTuple):
    """Words [start, stop) of a sentence, of which those in [read_from, read_to) are labelled and predicted here."""

    start: int
    stop: int
    read_from: int
    read_to: int


class Tagging:
    """Rows of words, and tags from the model's outputs."""

    model_class = VecoForTokenClassification
    problem_type: str | None = None

    def __init__(self, labels: Sequence[str], max_length: int, stride: int) -> None:
        """`stride`: tokens by which neighbouring windows overlap."""
        self.labels: Sequence[str] = labels
        self.outputs: Sequence[str] = labels
        self.max_length = max_length
        self.stride = stride

    def encode(self, examples: Iterable[TaggedSentence], encoder: TextEncoder) -> TokenRows:
        """The windows of each sentence, with the words' tags unless a sentence has none; what is no class is IGNORED.

        A word without pieces (control characters) becomes the unknown piece; one longer than a row is truncated, and
        counted.
        """
        return TokenRows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[TaggedSentence], encoder: TextEncoder) -> TokenRows:
        known = {label: number for number, label in enumerate(self.labels)}
        pieces = encoder.encode_words(chain.from_iterable(example.words for example in block))
        budget = self.max_length - encoder.single.num_specials
        words = Sentences.of(word[:budget] if len(word) else [encoder.unknown] for word in pieces)
        num_truncated = sum(len(word) > budget for word in pieces)
        rows, labels, is_read, sources = [], [], [], []
        first_word = 0
        for number, example in enumerate(block):
            numbers = [known.get(tag, IGNORED) for tag in example.tags or [UNTAGGED] * len(example.words)]
            tags = np.array(numbers, dtype=np.int64)
            bounds = words.offsets[first_word : first_word + len(example.words) + 1]  # of its words
            for window in windows(np.diff(bounds), budget, self.stride):
                row = encoder.single.row(words.tokens[bounds[window.start] : bounds[window.stop]])
                firsts = bounds[window.read_from : window.read_to] - bounds[window.start]
                firsts += encoder.single.start_of_last()
                rows.append(row)
                labels.append(np.full(len(row), IGNORED, dtype=np.int64))
                labels[-1][firsts] = tags[window.read_from : window.read_to]
                is_read.append(np.zeros(len(row), dtype=bool))
                is_read[-1][firsts] = True
                sources.append(number)
            first_word += len(example.words)
        return TokenRows.of(
            rows,
            np.array(sources, dtype=np.int64),
            token_targets={"labels": np.concatenate(labels)} if all(example.tags for example in block) else {},
            marks={READ: np.concatenate(is_read)},
            truncated=+Counter({"words cut to max_length": num_truncated}),
        )

    def labelled(self, model: nn.Module, batch: Batch) -> list[Labelled]:
        """The logits of the tokens of x and y, and their labels."""
        return labelled_sides(model, batch)

    def loss(self, labelled: list[Labelled]) -> Tensor:
        """The mean cross-entropy over the labels of x and y; unlike in transformers' own loss, 0 without any label."""
        return mean_cross_entropy(labelled)

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros for the tag of each token."""
        return {"tags": np.zeros(len(rows.x.rows.tokens.tokens), dtype=np.int64)}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store the tags of the batch of rows `numbers`."""
        is_first = ~rows.x.repeated[numbers]
        tags = output.logits.argmax(dim=-1).cpu().numpy()[is_first]
        own_rows = rows.x.numbers[numbers[is_first]]
        is_token = np.arange(tags.shape[1]) < rows.x.lengths[numbers[is_first]][:, None]
        results["tags"][rows.x.rows.places(own_rows)] = tags[is_token]

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[TaggedSentence]
    ) -> list[list[str]]:
        """The tags of the words of each sentence."""
        own = rows.x.rows
        is_read = own.marks[READ]
        words = np.bincount(np.repeat(own.examples, own.lengths)[is_read], minlength=own.num_examples)
        names = [self.labels[number] for number in results["tags"][is_read]]
        ends = np.cumsum(words)
        return [names[end - count : end] for end, count in zip(ends.tolist(), words.tolist(), strict=True)]


def windows(lengths: Sequence[int] | np.ndarray, budget: int, stride: int) -> list[Window]:
    """Windows over words of `lengths` pieces: each has at most `budget` pieces, and neighbours share at most `stride`.

    Raises ValueError for a word of more than `budget` pieces, which no window could hold.
    """
    longest = int(np.max(lengths, initial=0))
    if longest > budget:
        raise ValueError(f"a word has {longest} pieces, but a window holds only {budget}")
    ends = np.cumsum(lengths)  # pieces up to the end of each word
    if not len(ends) or ends[-1] <= budget:
        return [Window(0, len(lengths), 0, len(lengths))]
    begins = ends - lengths
    found: list[Window] = []
    start = read_from = 0
    while True:
        stop = int(np.searchsorted(ends, begins[start] + budget, side="right"))
        if stop == len(lengths):
            return [*found, Window(start, stop, read_from, stop)]
        # Go back as far as the stride allows, but so that the next word fits into the next window.
        earliest = max(ends[stop - 1] - stride, ends[stop] - budget)
        following = int(np.searchsorted(begins[: stop + 1], earliest, side="left"))
        read_to = (following + stop) // 2
        found.append(Window(start, stop, read_from, read_to))
        start, read_from = following, read_to
