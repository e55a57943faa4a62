"""Text infilling and permuted sentences: what is left, how much is hidden, in which spans, and whose random numbers."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_options import SHORT
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from data_tools.shards.format import ShardWriter
from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.batches import PretrainingBatches
from pretrain.masking import IGNORED, laid
from pretrain.sources import MonoSource, OpenShards
from pretrain.views.noised import infilled, noised

MASK = 99_999
SPECIAL = SpecialIds.xlm_r(MASK + 1)
OPTIONS = dataclasses.replace(SHORT, objective="mlm + mbart")


@given(st.integers(0, 60), st.integers(0, 1000))
def test_infilled_is_what_was_there_with_a_share_hidden(size: int, seed: int) -> None:
    ids = np.arange(100, 100 + size)
    found = infilled(ids, np.random.default_rng(seed), MASK)
    kept = found[found != MASK]
    assert (np.diff(kept) > 0).all() and set(kept) <= set(ids)
    assert len(found) <= size
    num_hidden = size - len(kept)
    assert num_hidden == 0 if size == 0 else abs(num_hidden - 0.35 * size) < 1


def test_spans_are_poisson_and_each_is_one_mask() -> None:
    """Between kept neighbours n and n + 1 only spans without a token can be: their masks insert."""
    rng = np.random.default_rng(0)
    _, lengths = laid(10**6, rng.poisson(3.5, size=350_000), rng)
    for length in (0, 1, 3, 6):
        assert (lengths == length).mean() == pytest.approx(poisson.pmf(length, 3.5), rel=0.05)
    found = infilled(np.arange(10**6), rng, MASK + 10**6)
    is_mask = found == MASK + 10**6
    assert is_mask.sum() == pytest.approx(350_000 / 3.5, rel=0.01)
    kept = found[~is_mask]
    masks_before = np.diff(np.flatnonzero(~is_mask)) - 1
    hidden_before = np.diff(kept) - 1
    inserted = masks_before[hidden_before == 0].sum()
    # Of those without a token some touch a longer span: the others lie before one of the 65 % of tokens that stay.
    assert inserted == pytest.approx(poisson.pmf(0, 3.5) * 100_000 * (650_000 / 750_000) ** 2, rel=0.05)


def test_sentences_are_permuted_whole() -> None:
    sentences = [list(range(start, start + 10)) for start in (100, 200, 300)]
    orders = set()
    for seed in range(60):
        ids, labels = noised(np.concatenate(sentences), (10, 20), np.random.default_rng(seed), SPECIAL)
        assert ids[0] == 0 and ids[-1] == 2 and ids.dtype == np.int64
        assert labels.tolist() == [IGNORED] * len(ids)
        kept = [number for number in ids[1:-1].tolist() if number != MASK]
        runs = [(sentence, list(run)) for sentence, run in itertools.groupby(kept, lambda number: number // 100)]
        assert len(runs) == len({sentence for sentence, _ in runs}), "a sentence stays in one piece"
        assert all(run == sorted(run) for _, run in runs)
        orders.add(tuple(sentence for sentence, _ in runs))
    assert set(itertools.permutations((1, 2, 3))) <= orders


def test_borders_of_sentences_come_with_segments(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "00000", 1000) as writer:
        for start in range(100, 220, 10):
            writer.add_sequence(np.arange(start, start + 10))
    source = MonoSource(OpenShards(tmp_path), [writer.info("00000")], segment_tokens=30)
    for segments in (source[i] for i in range(len(source))):
        for ids, borders in ((segments.x, segments.x_borders), (segments.y, segments.y_borders)):
            assert [int(ids[border]) for border in borders] == [token for token in ids[1:].tolist() if token % 10 == 0]
    assert any(segments.x_borders for segments in (source[i] for i in range(len(source))))


def batches(data: Path, objective: str, rank: int = 0, world_size: int = 1) -> PretrainingBatches:
    options = dataclasses.replace(OPTIONS, objective=objective)
    return PretrainingBatches(data, Manifest.load(data), options, rank, world_size, 1)


def tokens_of(batch: dict[str, torch.Tensor], view: str) -> list[list[int]]:
    return [row[row != 1].tolist() for row in batch[f"{view}_input_ids"]]


@pytest.mark.parametrize("step", [0, 1])
def test_noise_is_a_samples_own_and_changes_no_mask(random_data: Path, step: int) -> None:
    with_noise, without = batches(random_data, "mlm + mbart")[step], batches(random_data, "mlm")[step]
    for name in ("input_ids", "labels", "pair_input_ids", "pair_labels"):
        assert torch.equal(with_noise[name], without[name])
    parts = [batches(random_data, "mbart", rank, 2)[step] for rank in range(2)]
    for view in ("noised_x", "noised_y"):
        assert [row for part in parts for row in tokens_of(part, view)] == tokens_of(with_noise, view)
    assert tokens_of(with_noise, "noised_x") != tokens_of(with_noise, "next_x")


@pytest.mark.parametrize(("step", "sides"), [(0, ("x", "y")), (1, ("y", "x"))])
def test_only_of_translations_the_other_sentence_is_written(
    random_data: Path, step: int, sides: tuple[str, str]
) -> None:
    batch = batches(random_data, "clm + mbart(translate=true)")[step]
    for view, side in zip(("target_x", "target_y"), sides, strict=True):
        for field in ("input_ids", "labels"):
            assert torch.equal(batch[f"{view}_{field}"], batch[f"next_{side}_{field}"])
