"""Rows and pairs to the number: padding, targets, windows of unequal sides."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.encoded_text import Sentences
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import NoExamplesError, TokenRows

PAD = 1


def rows_of(tokens: list[list[int]], examples: list[int], labels: list[int] | None = None) -> TokenRows:
    """Rows whose token target is the token plus 100."""
    return TokenRows(
        Sentences.of(tokens),
        np.array(examples),
        {} if labels is None else {"labels": np.array(labels)},
        {"tags": np.concatenate([np.array(row) + 100 for row in tokens])},
    )


def test_a_batch_to_the_number() -> None:
    rows = PairedRows.alone(rows_of([[0, 5, 2], [0, 6, 7, 2], [0, 2]], [0, 1, 2], labels=[3, 4, 5]))
    batch = {name: tensor.tolist() for name, tensor in rows.batch(np.array([2, 0]), PAD).items()}
    assert batch == {
        "input_ids": [[0, 2, 1], [0, 5, 2]],
        "attention_mask": [[1, 1, 0], [1, 1, 1]],
        "labels": [5, 3],
        "tags": [[100, 102, -100], [100, 105, 102]],
    }
    assert rows.sizes.tolist() == [3, 4, 2]


def test_pairs_with_partners_in_another_order() -> None:
    """Two translations of example 1 and one of example 0, as in a table of several languages."""
    english = rows_of([[0, 5, 2], [0, 6, 7, 2]], [0, 1], labels=[3, 4])
    translated = rows_of([[0, 8, 2], [0, 9, 2], [0, 10, 11, 12, 2]], [0, 1, 2], labels=[4, 3, 4])
    pairs = PairedRows.paired(english, translated, np.array([1, 0, 1]))
    batch = pairs.batch(np.arange(3), PAD)
    assert batch["labels"].tolist() == batch["pair_targets"].tolist() == [4, 3, 4]
    assert batch["input_ids"].tolist() == [[0, 6, 7, 2], [0, 5, 2, 1], [0, 6, 7, 2]]
    assert pairs.sizes.tolist() == [4, 3, 5]


def test_windows_of_unequal_sides_share_neighbours_and_count_once() -> None:
    """Three windows against two: the first of the two stands beside two, its targets beside the first of these."""
    long = rows_of([[0, 5], [0, 6], [0, 7], [0, 8]], [0, 0, 0, 1], labels=[1, 2, 3, 4])
    short = rows_of([[0, 9], [0, 10], [0, 11]], [0, 0, 1], labels=[5, 6, 7])
    pairs = PairedRows.paired(long, short, np.array([0, 1]))
    batch = pairs.batch(np.arange(4), PAD)
    assert batch["input_ids"][:, 1].tolist() == [5, 6, 7, 8]
    assert batch["pair_input_ids"][:, 1].tolist() == [9, 9, 10, 11]
    assert batch["labels"].tolist() == [1, 2, 3, 4]
    assert batch["pair_targets"].tolist() == [5, -100, 6, 7]
    assert batch["pair_tags"].tolist() == [[100, 109], [-100, -100], [100, 110], [100, 111]]
    # The same wherever a batch begins, and the other way round.
    assert pairs.batch(np.array([1]), PAD)["pair_targets"].tolist() == [-100]
    swapped = PairedRows.paired(short, long, np.array([0, 1])).batch(np.arange(4), PAD)
    assert swapped["labels"].tolist() == [5, -100, 6, 7]
    assert swapped["pair_targets"].tolist() == [1, 2, 3, 4]


def test_concatenated_rows_number_their_examples_on_and_keep_common_targets() -> None:
    both = TokenRows.concatenate([rows_of([[0, 5], [0, 6]], [0, 0], [1, 2]), rows_of([[0, 7], [0, 8]], [0, 1])])
    assert both.examples.tolist() == [0, 0, 1, 2]
    assert not both.row_targets
    assert both.token_targets["tags"].tolist() == [100, 105, 100, 106, 100, 107, 100, 108]
    with pytest.raises(NoExamplesError):
        TokenRows.concatenate([])


def test_fingerprint_sees_tokens_targets_and_pairs() -> None:
    one = rows_of([[0, 5], [0, 6]], [0, 1], [1, 2])
    other_token, other_label = rows_of([[0, 5], [0, 7]], [0, 1], [1, 2]), rows_of([[0, 5], [0, 6]], [0, 1], [1, 3])
    prints = {PairedRows.alone(rows).fingerprint() for rows in (one, other_token, other_label)}
    prints |= {PairedRows.paired(one, one, np.array(partners)).fingerprint() for partners in ([0, 1], [1, 0])}
    assert len(prints) == 5
    assert PairedRows.alone(rows_of([[0, 5], [0, 6]], [0, 1], [1, 2])).fingerprint() in prints
