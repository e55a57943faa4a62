"""A tag for each word: POS (udpos) and NER (panx). The first piece of a word is labelled and read.

A sentence that is longer than a row is cut between words into windows that overlap by `stride` tokens. In the middle of
an overlap one window takes over from the other: each word is labelled and read once, in the window that shows the more
of what is around it, so nothing is lost and the tags of the windows join to those of the sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.flat_ids import Pieces, Sentences
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.windows import PairedRows, Rows
from finetune.understanding.tasks.examples import TaggedSentence
from finetune.understanding.tasks.table import UNTAGGED
from training.step import Batch
from veco import VecoForTokenClassification
from veco.labels import IGNORED

SPECIALS = 2  # <s> and </s>


class Window(NamedTuple):
    """Words [start, stop) of a sentence, of which those in [read_from, read_to) are labelled and read here."""

    start: int
    stop: int
    read_from: int
    read_to: int


class Tagging:
    """Rows of words, and tags back from the model's outputs."""

    model_class = VecoForTokenClassification

    def __init__(self, labels: Sequence[str], max_length: int, stride: int) -> None:
        """`stride` tokens are shown by both of two neighbouring windows."""
        self.labels: Sequence[str] = labels
        self.max_length = max_length
        self.stride = stride

    def encode(self, examples: Iterable[TaggedSentence], encoder: TextEncoder) -> Rows:
        """The windows of each sentence, with the words' tags unless a sentence has none.

        A word without pieces (control characters) is unknown; one longer than a row loses its last pieces, and is
        counted.
        """
        return Rows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[TaggedSentence], encoder: TextEncoder) -> Rows:
        known = {UNTAGGED: IGNORED, **{label: number for number, label in enumerate(self.labels)}}
        counts: Counter[str] = Counter()
        pieces = encoder.encode(list(chain.from_iterable(example.words for example in block)))
        words = Sentences.of(self._fitting(word, encoder, counts) for word in pieces)
        bos, eos = [encoder.special.bos], [encoder.special.eos]
        tokens, labels, is_read, sources = [], [], [], []
        first_word = 0
        for number, example in enumerate(block):
            tags = np.array([known[tag] for tag in example.tags or [UNTAGGED] * len(example.words)], dtype=np.int64)
            ends = words.offsets[first_word : first_word + len(example.words) + 1]  # and begins of its words
            for window in windows(np.diff(ends), self.max_length - SPECIALS, self.stride):
                row = np.concatenate([bos, words.tokens[ends[window.start] : ends[window.stop]], eos])
                firsts = ends[window.read_from : window.read_to] - ends[window.start] + 1
                tokens.append(row)
                labels.append(np.full(len(row), IGNORED, dtype=np.int64))
                labels[-1][firsts] = tags[window.read_from : window.read_to]
                is_read.append(np.zeros(len(row), dtype=bool))
                is_read[-1][firsts] = True
                sources.append(number)
            first_word += len(example.words)
        return Rows(
            Sentences.of(tokens),
            np.array(sources, dtype=np.int64),
            token_targets={"labels": np.concatenate(labels)} if all(example.tags for example in block) else {},
            marks={"is_read": np.concatenate(is_read)},
            counts=counts,
        )

    def _fitting(self, word: Pieces, encoder: TextEncoder, counts: Counter[str]) -> Pieces:
        """The pieces of a word, at least one and no more than a row takes."""
        if not len(word):
            return [encoder.unknown]
        if len(word) > self.max_length - SPECIALS:
            counts["words cut to max_length"] += 1
        return word[: self.max_length - SPECIALS]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy over the labels of both sides."""
        return model(**batch).loss

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Room for the tag of each token."""
        return {"tags": np.zeros(len(rows.x.rows.tokens.tokens), dtype=np.int64)}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Nothing; keeps what a batch of rows `numbers` gave."""
        is_first = ~rows.x.repeated[numbers]
        tags = output.logits.argmax(dim=-1).cpu().numpy()[is_first]
        own_rows = rows.x.numbers[numbers[is_first]]
        is_token = np.arange(tags.shape[1]) < rows.x.rows.lengths[own_rows][:, None]
        results["tags"][rows.x.rows.places(own_rows)] = tags[is_token]

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[TaggedSentence]
    ) -> list[list[str]]:
        """The tags of the words of each sentence."""
        own = rows.x.rows
        is_read = own.marks["is_read"]
        words = np.bincount(np.repeat(own.examples, own.lengths)[is_read], minlength=own.num_examples)
        names = [self.labels[number] for number in results["tags"][is_read]]
        ends = np.cumsum(words)
        return [names[end - count : end] for end, count in zip(ends.tolist(), words.tolist(), strict=True)]


def windows(lengths: Sequence[int] | np.ndarray, budget: int, stride: int) -> list[Window]:
    """Windows over words of so many pieces: each has at most `budget`, and two neighbours share at most `stride`.

    Raises ValueError for a word of more than `budget` pieces, which no window could hold.
    """
    longest = int(np.max(lengths, initial=0))
    if longest > budget:
        raise ValueError(f"a word has {longest} pieces, more than the {budget} of a window")
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
        # As far back as the stride allows, but the next window must hold the next word.
        earliest = max(ends[stop - 1] - stride, ends[stop] - budget)
        following = int(np.searchsorted(begins[: stop + 1], earliest, side="left"))
        read_to = (following + stop) // 2
        found.append(Window(start, stop, read_from, read_to))
        start, read_from = following, read_to
