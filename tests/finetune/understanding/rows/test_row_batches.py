"""The order of training: every row in every epoch, pure, shared out without a change, and by length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.encoded_text import Sentences
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches, MicroBatches, UpdateBatches
from finetune.understanding.rows.token_rows import TokenRows


def rows_of_lengths(lengths: np.ndarray) -> PairedRows:
    """Row i holds its number, so many times."""
    return PairedRows.alone(
        TokenRows(Sentences.of(np.full(length, i) for i, length in enumerate(lengths)), np.arange(len(lengths)))
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(1, 70), st.integers(0, 5))
def test_every_epoch_holds_every_row_and_less_than_a_batch_twice(num_rows: int, batch_size: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 50, num_rows)
    updates = UpdateBatches(sizes, batch_size, seed)
    for epoch in (0, 3):
        seen = np.concatenate([updates.units_of(epoch * len(updates) + k) for k in range(len(updates))])
        counts = np.bincount(seen, minlength=num_rows)
        assert len(seen) == len(updates) * batch_size and 0 <= len(seen) - num_rows < batch_size
        assert counts.min() >= 1
        assert batch_size > num_rows or counts.max() <= 2


def test_epochs_differ_seeds_differ_and_nothing_depends_on_what_was_asked_before() -> None:
    sizes = np.random.default_rng(0).integers(1, 50, 100)
    one, other = UpdateBatches(sizes, 8, 1), UpdateBatches(sizes, 8, 1)
    backwards = [other.units_of(k).tolist() for k in reversed(range(3 * len(other)))]
    forwards = [one.units_of(k).tolist() for k in range(3 * len(one))]
    assert forwards == backwards[::-1]
    assert forwards[: len(one)] != forwards[len(one) : 2 * len(one)]
    assert UpdateBatches(sizes, 8, 2).units_of(0).tolist() != forwards[0]


@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 1), (2, 1), (1, 4), (2, 3)])
def test_an_update_is_the_same_however_it_is_distributed(ranks: int, accumulation: int) -> None:
    rows = rows_of_lengths(np.random.default_rng(0).integers(1, 30, 50))
    updates = UpdateBatches(rows.sizes, 12, seed=3)
    shares = [MicroBatches(rows, updates, ranks * accumulation, rank, ranks, pad=99) for rank in range(ranks)]
    for update in range(2 * len(updates)):
        parts = [share[update * accumulation + part] for part in range(accumulation) for share in shares]
        assert {len(part["input_ids"]) for part in parts} == {12 // (ranks * accumulation)}
        seen = torch.cat([part["input_ids"][:, 0] for part in parts])
        assert sorted(seen.tolist()) == sorted(updates.units_of(update).tolist())


def test_batches_are_by_length() -> None:
    rows = rows_of_lengths(np.random.default_rng(0).integers(4, 128, 5000))
    updates = UpdateBatches(rows.sizes, 32, seed=1)
    sizes = [rows.sizes[updates.units_of(k)] for k in range(len(updates))]
    padding = 1 - sum(own.sum() for own in sizes) / sum(own.max() * len(own) for own in sizes)
    assert padding < 0.05
    assert np.mean(sizes[0]) != pytest.approx(np.mean(sizes[1]), rel=0.01), "batches are shuffled, not ascending"


def test_evaluation_sees_every_row_once_within_the_limit() -> None:
    rows = rows_of_lengths(np.random.default_rng(0).integers(1, 40, 101))
    batches = EvaluationBatches(rows, max_tokens=200, pad=99)
    assert sorted(np.concatenate([batches.units_of(k) for k in range(len(batches))])) == list(range(101))
    assert all(batches[k]["input_ids"].numel() <= 200 for k in range(len(batches)))
    # A row that is longer than a batch may be is a batch.
    assert len(EvaluationBatches(rows, max_tokens=1, pad=99)) >= 5


def test_no_batches_without_rows() -> None:
    with pytest.raises(ValueError, match="there is no training example"):
        UpdateBatches(np.zeros(0, dtype=np.int64), 8, 1)
