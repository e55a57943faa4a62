"""Dev as a part of train, for tasks without a dev set of their own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from finetune.understanding.tasks.examples import Choices, Example, LabelledText, Question
from finetune.understanding.tasks.task import DEV_SHARE, Split

ExampleT = TypeVar("ExampleT", bound=Example)


def held_out(examples: Iterable[ExampleT], split: Split) -> Iterator[ExampleT]:
    """The dev or train part of a training set, by a hash of the text: see `Task.dev_from_train`.

    All examples of a text, such as the questions about a context or the hypotheses of a premise, are in the same part,
    whatever their file and order.
    """
    for example in examples:
        is_dev = zlib.crc32(text_of(example).encode("utf-8")) % DEV_SHARE == 0
        if is_dev == (split is Split.DEV):
            yield example


def text_of(example: Example) -> str:
    """The text that examples of one part share."""
    if isinstance(example, Question):
        return example.context
    if isinstance(example, LabelledText):
        return example.text_a
    return example.text if isinstance(example, Choices) else " ".join(example.words)
