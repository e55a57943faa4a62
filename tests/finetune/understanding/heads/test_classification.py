"""Rows of sentence pairs, the cut, and the mean over a pair."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from transformers import AutoTokenizer

from finetune.understanding.heads.classification import Classification
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import LabelledText

LABELS = ("no", "yes")


def pair(first: str, second: str, label: str | None = "yes") -> LabelledText:
    return LabelledText(first, second, label, "de")


def test_rows_are_those_of_transformers(encoder: TextEncoder, tiny_model) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    examples = [pair("hund baum", "rot"), pair("milch", "vogel nacht haus", "no")]
    rows = Classification(LABELS, max_length=60).encode(examples, encoder)
    for number, example in enumerate(examples):
        assert rows.tokens[number].tolist() == tokenizer(example.text_a, example.text_b)["input_ids"]
    assert rows.row_targets["labels"].tolist() == [1, 0]
    assert not rows.truncated


def test_the_longer_sentence_is_truncated_and_counted(encoder: TextEncoder) -> None:
    long, short = "hund baum vogel milch nacht haus hund baum", "rot"
    long_ids, short_ids = encoder.encode([long, short])
    room = 12 - 4 - len(short_ids)
    assert len(long_ids) > room
    head = Classification(LABELS, max_length=12)
    first, second, both = (
        head.encode([example], encoder) for example in (pair(long, short), pair(short, long), pair(long, long))
    )
    assert first.tokens[0].tolist() == [0, *long_ids[:room], 2, 2, *short_ids, 2]
    assert second.tokens[0].tolist() == [0, *short_ids, 2, 2, *long_ids[:room], 2]
    assert both.tokens[0].tolist() == [0, *long_ids[:4], 2, 2, *long_ids[:4], 2]
    assert first.truncated == {"pairs cut to max_length": 1}


def test_examples_without_labels_have_no_targets(encoder: TextEncoder) -> None:
    head = Classification(LABELS, max_length=30)
    assert not head.encode([pair("hund", "rot"), pair("hund", "rot", None)], encoder).row_targets


def test_prediction_of_the_example_itself_or_of_the_mean(encoder: TextEncoder) -> None:
    examples = [pair("hund", "rot"), pair("baum", "rot")]
    output = SimpleNamespace(
        logits=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), pair_logits=torch.tensor([[0.0, 3.0], [0.0, 1.0]])
    )
    for average_pair, expected in ((False, ["no", "yes"]), (True, ["yes", "yes"])):
        head = Classification(LABELS, 30, average_pair)
        own = head.encode(examples, encoder).without_targets()
        rows = PairedRows.paired(own, own, np.arange(2))
        results = head.results(rows)
        head.store(results, output, rows, np.arange(2))
        assert head.predictions(results, rows, examples) == expected
