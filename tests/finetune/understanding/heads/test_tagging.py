"""Windows over long sentences: nothing lost, read once, joined to what the whole sentence gives."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.understanding.heads.tagging import Tagging, Window, windows
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.tasks.examples import TaggedSentence

LABELS = tuple("ABCDEFG")


def test_windows_to_the_number() -> None:
    """Ten words of two pieces, windows of eight: four words each, of which two are shared, and halved."""
    assert windows([2] * 10, budget=8, stride=4) == [
        Window(0, 4, 0, 3),
        Window(2, 6, 3, 5),
        Window(4, 8, 5, 7),
        Window(6, 10, 7, 10),
    ]
    assert windows([3, 3], budget=6, stride=4) == [Window(0, 2, 0, 2)]
    assert windows([2] * 4, budget=4, stride=0) == [Window(0, 2, 0, 2), Window(2, 4, 2, 4)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.integers(6, 20), st.integers(0, 25))
def test_every_word_is_read_once_and_every_window_fits(lengths: list[int], budget: int, stride: int) -> None:
    found = windows(lengths, budget, stride)
    read = [word for window in found for word in range(window.read_from, window.read_to)]
    assert read == list(range(len(lengths)))
    for window in found:
        assert window.start <= window.read_from < window.read_to <= window.stop
        assert sum(lengths[window.start : window.stop]) <= budget
    for one, following in itertools.pairwise(found):
        assert one.start < following.start <= one.stop
        assert sum(lengths[following.start : one.stop]) <= stride


def test_a_word_longer_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="a word has 9 pieces, but a window holds only 8"):
        windows([2, 9], budget=8, stride=2)


def sentence(num_words: int, tagged: bool = True) -> TaggedSentence:
    vocabulary = ("hund", "baum", "rot", "vogel", "milch")
    words = tuple(vocabulary[i % 5] for i in range(num_words))
    return TaggedSentence(words, tuple(LABELS[i % 7] for i in range(num_words)) if tagged else None, "de")


def predicted(head: Tagging, examples: list[TaggedSentence], encoder: TextEncoder) -> list[list[str]]:
    """Tags by a model that sees one token: the class is the token's id modulo the classes."""
    rows = PairedRows.alone(head.encode(examples, encoder))
    batches = EvaluationBatches(rows, max_tokens=100, pad=encoder.pad)
    results = head.results(rows)
    for number in range(len(batches)):
        ids = batches[number]["input_ids"]
        logits = torch.nn.functional.one_hot(ids % len(LABELS), len(LABELS)).float()
        head.store(results, SimpleNamespace(logits=logits), rows, batches.units_of(number))
    return head.predictions(results, rows, examples)


def test_tags_of_windows_are_those_of_the_whole_sentence(encoder: TextEncoder) -> None:
    examples = [sentence(3), sentence(40), sentence(1), sentence(17)]
    whole = predicted(Tagging(LABELS, max_length=1000, stride=0), examples, encoder)
    assert [len(tags) for tags in whole] == [3, 40, 1, 17]
    first_pieces = [[encoder.encode([word])[0][0] for word in example.words] for example in examples]
    assert whole == [[LABELS[piece % 7] for piece in pieces] for pieces in first_pieces]
    for max_length in (12, 20):
        for stride in (0, 3, 9):
            assert predicted(Tagging(LABELS, max_length, stride), examples, encoder) == whole


def test_first_pieces_carry_the_labels_once_over_all_windows(encoder: TextEncoder) -> None:
    example = sentence(40)
    rows = Tagging(LABELS, max_length=12, stride=4).encode([example], encoder)
    assert len(rows) > 3 and rows.lengths.max() <= 12
    labels, is_read = rows.token_targets["labels"], rows.marks["is_read"]
    assert [LABELS[label] for label in labels[labels >= 0]] == list(example.tags or ())
    assert np.array_equal(labels >= 0, is_read)
    firsts = [encoder.encode([word])[0][0] for word in example.words]
    assert rows.tokens.tokens[is_read].tolist() == firsts
    assert not rows.truncated


def test_sentences_without_tags_untagged_words_and_odd_words(encoder: TextEncoder) -> None:
    head = Tagging(LABELS, max_length=10, stride=2)
    assert not head.encode([sentence(3), sentence(3, tagged=False)], encoder).token_targets
    for no_class in ("_", "X"):  # X as by `other_labels`: readers refuse any other tag
        odd = TaggedSentence(("hund", "\u200b", "hundbaum" * 8), ("A", no_class, "B"), "de")
        rows = head.encode([odd], encoder)
        assert rows.truncated == {"words cut to max_length": 1}
        labels = rows.token_targets["labels"]
        assert labels[labels >= 0].tolist() == [0, 1], "a word of no class has no label"
        assert rows.marks["is_read"].sum() == 3, "but a prediction"
