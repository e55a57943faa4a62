"""A tokenizer's own encodings of examples, of which rows must be copies, and where it puts words and answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import BatchEncoding

from finetune.understanding.tasks.examples import Choices, LabelledText, Question, TaggedSentence


def own_encoding(tokenizer: Any, example: Any) -> BatchEncoding:
    """The tokenizer's encoding of an example, as tensors: of tagged words, of their sentence; of choices, (1, C, T)."""
    if isinstance(example, LabelledText):
        return tokenizer(*example.texts, return_tensors="pt")
    if isinstance(example, Question):
        return tokenizer(example.question, example.context, return_tensors="pt")
    if isinstance(example, Choices):
        pairs = [example.text] * len(example.choices), list(example.choices)
        return BatchEncoding(
            {key: ids[None] for key, ids in tokenizer(*pairs, padding=True, return_tensors="pt").items()}
        )
    return tokenizer(sentence_of(tokenizer, example), return_tensors="pt")


def sentence_of(tokenizer: Any, example: TaggedSentence) -> str:
    """The words of a sentence, the first one behind a space, too, where the tokenizer distinguishes that."""
    prefix = " " if tokenizer.tokenize("a") != tokenizer.tokenize(" a") else ""
    return prefix + " ".join(example.words)


def word_starts(tokenizer: Any, example: TaggedSentence) -> list[int]:
    """The position of the first piece of each word in `own_encoding`: behind `[CLS]` and the pieces of those before."""
    prefixes = [sentence_of(tokenizer, replace(example, words=example.words[:i])) for i in range(1, len(example.words))]
    return [1, *(1 + len(tokenizer.tokenize(prefix)) for prefix in prefixes)]


def answer_span(tokenizer: Any, example: Question) -> tuple[int, int]:
    """The first and the last piece of the first answer in `own_encoding`."""
    answer = example.answers[0]
    encoding = own_encoding(tokenizer, example)
    first = encoding.char_to_token(answer.start, sequence_index=1)
    last = encoding.char_to_token(answer.start + len(answer.text) - 1, sequence_index=1)
    return first, last
