"""Rows, targets and predictions of the heads of texts: one label, several, a number, a word in two contexts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.classification import Classification
from finetune.understanding.heads.context_word import ContextWord, combined, window_around
from finetune.understanding.heads.head import Limits
from finetune.understanding.heads.multilabel import MultiLabel
from finetune.understanding.heads.regression import Regression
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.pairing import check_labels_agree
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.examples import Label, LabelledText

LABELS = ("no", "yes")
LIMITS = Limits(max_length=24, stride=8, max_question_length=8, max_answer_length=4, num_best=3)


def text(first: str, second: str | None = None, label: Label | None = "yes", **fields) -> LabelledText:
    return LabelledText(first, second, label, "de", **fields)


def test_rows_of_single_texts_are_those_of_transformers(encoder: TextEncoder, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = Classification(LABELS, max_length=60).encode([text("hund baum"), text("milch", label="no")], encoder)
    assert [rows.tokens[number].tolist() for number in range(2)] == tokenizer(["hund baum", "milch"])["input_ids"]
    assert rows.row_targets["labels"].tolist() == [1, 0]
    cut = Classification(LABELS, max_length=6).encode([text("hund baum vogel milch nacht haus")], encoder)
    assert cut.truncated == {"texts cut to max_length": 1} and len(cut.tokens[0]) == 6


def test_targets_of_several_labels_and_of_numbers(encoder: TextEncoder) -> None:
    several = MultiLabel(("a", "b", "c"), max_length=20)
    examples = [text("hund", label=own) for own in (("c", "a"), (), "b")]
    labels = several.encode(examples, encoder).row_targets["labels"]
    assert labels.dtype == np.float32 and labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    numbers = Regression(max_length=20).encode([text("hund", label=own) for own in (0.5, -100.0)], encoder)
    assert numbers.row_targets["labels"].dtype == np.float32
    batch = PairedRows.alone(numbers).batch(np.arange(2), 1)
    assert batch["labels"].tolist() == [0.5, -100.0], "no number is ignored"
    assert not several.encode([*examples, text("hund", label=None)], encoder).row_targets


@pytest.mark.parametrize(
    ("head", "logits", "expected"),
    [
        (MultiLabel(("a", "b", "c"), 20), [[3.0, -1.0, 0.1], [-1.0, -2.0, 0.0]], [("a", "c"), ()]),
        (Regression(20), [[1.5], [-2.0]], [1.5, -2.0]),
        (Classification(("a", "b"), 20), [[1.5, 1.0], [-2.0, 0.0]], ["a", "b"]),
    ],
)
def test_predictions_from_logits(head, logits: list[list[float]], expected: list, encoder: TextEncoder) -> None:
    examples = [text("hund", label=None), text("baum", label=None)]
    rows = PairedRows.alone(head.encode(examples, encoder))
    results = head.results(rows)
    head.store(results, SimpleNamespace(logits=torch.tensor(logits)), rows, np.arange(2))
    assert head.predictions(results, rows, examples) == expected


@pytest.mark.parametrize("label", ["a,b", " "])
def test_labels_that_a_prediction_file_cannot_hold_are_refused(label: str) -> None:
    with pytest.raises(ValueError, match="expected no empty label, and none with ',', which parts them"):
        MultiLabel((label, "c"), 20)


def test_retrieval_has_no_head() -> None:
    with pytest.raises(ValueError, match="task tatoeba has no training"):
        build_head(catalogue_named(XTREME).tasks["tatoeba"], LIMITS)


def marked(first: str, second: str, words: tuple[str, str], label: str | None = "yes") -> LabelledText:
    spans = [(own.index(word), own.index(word) + len(word)) for own, word in zip((first, second), words, strict=True)]
    return text(first, second, label, words=tuple(spans))


def pieces_of(encoder: TextEncoder, row: np.ndarray, numbers: np.ndarray) -> list[str]:
    """The text of each of the two marked words."""
    return [encoder.tokenizer.decode(row[numbers == number]).strip() for number in (1, 2)]


def test_the_words_of_both_contexts_are_marked(encoder: TextEncoder) -> None:
    example = marked("hund baum milch", "vogel hund", ("baum", "vogel"))
    rows = ContextWord(LABELS, 40).encode([example, example], encoder)
    batch = PairedRows.alone(rows).batch(np.arange(2), 1)
    assert batch["labels"].tolist() == [1, 1]
    for number in range(2):
        assert pieces_of(encoder, batch["input_ids"][number], batch["word_numbers"][number]) == ["baum", "vogel"]
    assert rows.marks["word_numbers"].tolist() == rows.token_targets["word_numbers"].tolist()
    hidden = ContextWord(LABELS, 40).encode([marked("hund", "hund", ("hund", "hund"), label=None)], encoder)
    assert not hidden.has_targets


def test_a_long_context_is_cut_around_its_word(encoder: TextEncoder) -> None:
    long = "hund baum vogel milch nacht haus brot buch stadt fluss stein"
    for word in long.split():
        rows = ContextWord(LABELS, 14).encode([marked(long, long, (word, "milch"))], encoder)
        assert len(rows.tokens[0]) == 14
        assert pieces_of(encoder, rows.tokens[0], rows.marks["word_numbers"]) == [word, "milch"]
        assert rows.truncated == {"pairs cut to max_length": 1}


def test_a_window_has_its_word_in_the_middle_as_far_as_the_ends_allow() -> None:
    assert [window_around((start, start + 2), 10, 4) for start in (0, 4, 8)] == [(0, 4), (3, 7), (6, 10)]
    assert window_around((1, 9), 10, 4) == (3, 7), "the middle of a word that does not fit"
    assert window_around((0, 1), 3, 3) == (0, 3)


def test_examples_without_their_words_are_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="an example in 'de' has 0 marked words; expected two"):
        ContextWord(LABELS, 40).encode([text("hund", "baum")], encoder)


def test_token_logits_add_up_to_a_linear_map_of_concatenated_states() -> None:
    """That of SuperGLUE: the first token, and the mean of each word; a word without tokens is zero."""
    torch.manual_seed(0)
    states = torch.randn(2, 6, 5)
    numbers = torch.tensor([[0, 1, 1, 0, 2, -100], [0, 0, 2, 2, 2, 0]])
    linear = torch.nn.Linear(15, 3)
    seen = [
        torch.cat([states[0, 0], states[0, 1:3].mean(dim=0), states[0, 4]]),
        torch.cat([states[1, 0], torch.zeros(5), states[1, 2:5].mean(dim=0)]),
    ]
    by_place = linear.weight.view(3, 3, 5).permute(1, 0, 2).reshape(9, 5)  # (place, label) x state
    logits = combined(states @ by_place.T, numbers) + linear.bias
    torch.testing.assert_close(logits, linear(torch.stack(seen)))


def test_rows_with_other_labels_than_their_translations_are_found(encoder: TextEncoder) -> None:
    """Of several labels all must agree; of numbers, the number."""
    for head, labels, others in (
        (MultiLabel(("a", "b"), 20), [("a", "b")] * 20, [("a",)] * 20),
        (Regression(20), [0.5] * 20, [1.5] * 20),
    ):
        own, other = (head.encode([text("hund", label=one) for one in side], encoder) for side in (labels, others))
        check_labels_agree(own, own, np.arange(20), "here")
        with pytest.raises(ValueError, match="here: only 0% of the rows have the same label"):
            check_labels_agree(own, other, np.arange(20), "here")
