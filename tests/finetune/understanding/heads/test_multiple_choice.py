"""Rows of choices: those of an example in one batch, whatever its size; labels that are no choice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from finetune.understanding.heads.multiple_choice import MultipleChoice
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.pairing import check_labels_agree
from finetune.understanding.rows.row_batches import EvaluationBatches, MicroBatches, UpdateBatches
from finetune.understanding.tasks.examples import Choices

WORDS = ["hund", "baum", "vogel", "milch", "nacht", "haus", "brot", "buch"]
PAD = 1


def question(number: int, label: int | None = 0, count: int = 3) -> Choices:
    """Its text names its number, and its choices differ in length."""
    choices = tuple(" ".join(WORDS[: 1 + (number + choice) % 5]) for choice in range(count))
    return Choices(WORDS[number % 8], choices, label, "de")


def test_rows_are_pairs_of_the_text_with_each_choice(encoder: TextEncoder, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    examples = [question(0, 2), question(1, 0)]
    rows = MultipleChoice(40).encode(examples, encoder)
    pairs = [(example.text, choice) for example in examples for choice in example.choices]
    assert [rows.tokens[number].tolist() for number in range(6)] == tokenizer(pairs)["input_ids"]
    assert rows.rows_together == 3 and rows.examples.tolist() == [0, 0, 0, 1, 1, 1]
    batch = PairedRows.alone(rows).batch(np.array([1, 0]), PAD)
    assert batch["input_ids"].shape[:2] == batch["attention_mask"].shape[:2] == (2, 3)
    assert batch["labels"].tolist() == [0, 2]
    widths = batch["attention_mask"].sum(dim=2)
    assert widths.tolist() == [[len(rows.tokens[number]) for number in own] for own in ((3, 4, 5), (0, 1, 2))]


def test_the_choices_of_an_example_share_every_batch(encoder: TextEncoder) -> None:
    examples = [question(number, label=number % 3) for number in range(10)]
    rows = PairedRows.alone(MultipleChoice(40).encode(examples, encoder))
    updates = UpdateBatches(rows.sizes, 4, seed=1)
    assert len(updates) == 3, "ten examples, four at a time"
    shares = MicroBatches(rows, updates, num_shares=2, rank=0, world_size=1, pad=PAD)
    for number in range(2 * len(updates)):
        assert shares[number]["input_ids"].shape[:2] == (2, 3)
    batches = EvaluationBatches(rows, max_tokens=90, pad=PAD)
    seen = np.concatenate([batches.units_of(number) for number in range(len(batches))])
    assert sorted(seen) == list(range(10))
    assert all(batches[number]["input_ids"].numel() <= 90 for number in range(len(batches)))
    assert len(EvaluationBatches(rows, max_tokens=1, pad=PAD)) >= 5, "an example that is larger is a batch"


def test_pairs_of_examples_are_pairs_of_their_choices(encoder: TextEncoder) -> None:
    head = MultipleChoice(40)
    english, german = (
        head.encode([question(number, number % 3) for number in own], encoder) for own in ((0, 1), (5, 4, 7))
    )
    partners = np.array([1, 0, 1])
    pairs = PairedRows.paired(english, german, partners)
    assert pairs.num_units == 3
    batch = pairs.batch(np.arange(3), PAD)
    assert batch["pair_input_ids"].shape[:2] == (3, 3)
    assert batch["labels"].tolist() == [1, 0, 1] and batch["pair_targets"].tolist() == [2, 1, 1]
    alone = PairedRows.alone(german).batch(np.arange(3), PAD)
    assert torch.equal(batch["pair_input_ids"], alone["input_ids"])
    longest = np.maximum(english.lengths.reshape(2, 3)[partners], german.lengths.reshape(3, 3)).max(axis=1)
    assert pairs.sizes.tolist() == (3 * longest).tolist()


def test_labels_are_compared_by_example(encoder: TextEncoder) -> None:
    head = MultipleChoice(40)
    own, other = (head.encode([question(number, label) for number in range(20)], encoder) for label in (0, 1))
    check_labels_agree(own, own, np.arange(20), "here")
    with pytest.raises(ValueError, match="only 0% of the rows have the same label"):
        check_labels_agree(own, other, np.arange(20), "here")


def test_predictions_are_numbers_of_choices(encoder: TextEncoder) -> None:
    examples = [question(number, None) for number in range(3)]
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    pair_logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    for average_pair, expected in ((False, ["1", "0", "2"]), (True, ["0", "0", "2"])):
        head = MultipleChoice(40, average_pair)
        rows = PairedRows.alone(head.encode(examples, encoder))
        assert not rows.x.rows.row_targets
        results = head.results(rows)
        order = np.array([2, 0, 1])  # of a batch
        output = SimpleNamespace(logits=logits[order], pair_logits=pair_logits[order])
        head.store(results, output, rows, order)
        assert head.predictions(results, rows, examples) == expected


def test_unequal_numbers_of_choices_and_labels_of_none_are_refused(encoder: TextEncoder) -> None:
    head = MultipleChoice(40)
    with pytest.raises(ValueError, match="examples have 2 and 3 choices; expected as many in all"):
        head.encode([question(0), question(1, count=2)], encoder)
    with pytest.raises(ValueError, match="an example in 'de' has the label 3; expected 0 to 2"):
        head.encode([question(0, 3)], encoder)
    three, two = (head.encode([question(0, count=count)], encoder) for count in (3, 2))
    with pytest.raises(ValueError, match="translations have 2 choices but their originals 3; expected as many"):
        PairedRows.paired(three, two, np.array([0]))
    with pytest.raises(ValueError, match="examples have 2 and 3 choices; expected as many in all"):
        type(three).concatenate([three, two])
