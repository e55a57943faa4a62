from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.manifest import Manifest
from data_tools.shards import Shard, ShardWriter
from pretrain.batches import (
    IGNORED,
    MonoSource,
    OpenShards,
    PretrainingBatches,
    PretrainingOptions,
    concatenated,
    pad_rows,
    split_in_two,
)

OPTIONS = PretrainingOptions(
    seed=1,
    alpha=0.5,
    mono_batch_pairs=8,
    bilingual_batch_pairs=12,
    mono_max_length=20,
    bilingual_max_length=16,
    mono_mask_rate=0.15,
    bilingual_mask_rate=0.25,
)


def batches(data: Path, rank: int = 0, world_size: int = 1, accumulation_steps: int = 1) -> PretrainingBatches:
    return PretrainingBatches(data, Manifest.load(data), OPTIONS, rank, world_size, accumulation_steps)


def rows(batch: dict[str, torch.Tensor], name: str) -> list[list[int]]:
    """Rows of a tensor without the padding, which depends on the neighbours."""
    filler = IGNORED if name.endswith("labels") else 0 if name.endswith("mask") else 1
    return [[value for value in row if value != filler] for row in batch[name].tolist()]


@pytest.mark.parametrize("step", [0, 1, 6, 7])
def test_any_split_over_ranks_and_accumulation_gives_the_same_batch(random_data: Path, step: int) -> None:
    whole = batches(random_data)[step]
    for world_size, accumulation in ((2, 1), (1, 4), (2, 2), (4, 1)):
        parts = [
            batches(random_data, rank, world_size, accumulation)[step * accumulation + a]
            for a in range(accumulation)
            for rank in range(world_size)
        ]
        for name in whole:
            assert [row for part in parts for row in rows(part, name)] == rows(whole, name)


def test_kinds_alternate_and_bilingual_batches_have_tlm(random_data: Path) -> None:
    source = batches(random_data)
    assert [source.kind_of(step) for step in range(4)] == ["mono", "bilingual"] * 2
    assert "tlm_input_ids" not in source[0]
    batch = source[1]
    assert len(batch["input_ids"]) == OPTIONS.bilingual_batch_pairs
    for x, y, together in zip(*(rows(batch, f"{p}input_ids") for p in ("", "pair_", "tlm_")), strict=True):
        # `<s> x </s> </s> y </s>`: y's <s> gives way to XLM-R's separator.
        assert together == [*x, 2, *y[1:]]
        assert x[0] == y[0] == 0 and x[-1] == y[-1] == 2
    for x, y, together in zip(*(rows(batch, f"{p}labels") for p in ("", "pair_", "tlm_")), strict=True):
        assert together == x + y


def test_pairs_are_pairs(random_data: Path) -> None:
    """Undoing the masks with the labels gives sentence i of both sides."""
    source = batches(random_data)
    shards = [Shard(random_data / f"parallel/de-en/00000.{side}") for side in ("de", "en")]
    known = {tuple(shards[0][i][:14].tolist()): tuple(shards[1][i][:14].tolist()) for i in range(90)}
    for step in (1, 3, 5):
        batch = source[step]
        sides = []
        for prefix in ("", "pair_"):
            ids, labels = batch[f"{prefix}input_ids"], batch[f"{prefix}labels"]
            original = torch.where(labels != IGNORED, labels, ids)
            sides.append([tuple(v for v in row if v > 3) for row in original.tolist()])
        for x, y in zip(*sides, strict=True):
            assert known[x] == y


def test_each_epoch_has_every_pair_in_another_order(random_data: Path) -> None:
    """90 pairs, read through two epochs by the kind's own numbering, masks undone by looking at the source."""
    kind = batches(random_data).kinds["bilingual"]
    first, second = ([tuple(kind.sample(e * 90 + i)[0].tolist()) for i in range(90)] for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(8, 40),
)
def test_windows_hold_every_sentence(tmp_path_factory, documents: list[list[int]], segment: int) -> None:
    """The arithmetic of MonoSource: windows follow one another through every document; where sentences are short
    against the segments each token comes once, and what a long one repeats or loses stays within one window."""
    prefix = tmp_path_factory.mktemp("mono") / "00000"
    counter = iter(range(4, 10**6))
    with ShardWriter(prefix, 10**6) as writer:
        for document in documents:
            for length in document:
                writer.add_sequence(np.array([next(counter) for _ in range(length)]))
            writer.end_document()
    info = writer.info(prefix.name)
    source = MonoSource(OpenShards(prefix.parent), [info], segment)
    ends = np.cumsum([sum(document) for document in documents]) + 4
    seen: list[int] = []
    for index in range(len(source)):
        x, y = source[index]
        tokens = [*x.tolist(), *y.tolist()]
        assert tokens, "an empty window"
        assert tokens == list(range(tokens[0], tokens[0] + len(tokens))), "x and y are neighbours"
        assert np.searchsorted(ends, tokens[0], "right") == np.searchsorted(ends, tokens[-1], "right"), "one document"
        assert len(x) <= segment and len(y) <= segment
        seen += tokens
    if max(map(max, documents)) <= segment // 4:
        assert seen == list(range(4, int(ends[-1])))


def test_split_in_two_prefers_a_sentence_end() -> None:
    tokens = np.arange(10)
    x, y = split_in_two(tokens, np.array([3, 3, 4]), 9)
    assert (x.tolist(), y.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])
    x, y = split_in_two(tokens, np.array([10]), 9)
    assert len(x) == len(y) == 5


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(2, 20))
def test_split_segments_meet_and_lose_only_outer_ends(lengths: list[int], limit: int) -> None:
    tokens = np.arange(sum(lengths))
    x, y = split_in_two(tokens, np.array(lengths), limit)
    assert len(x) <= limit and len(y) <= limit
    together = [*x.tolist(), *y.tolist()]
    assert together == list(range(together[0], together[0] + len(together))), "x and y meet"
    if len(tokens) <= 2 * limit:
        assert len(together) == len(tokens), "nothing is lost"


def test_concatenation_replaces_the_second_start() -> None:
    x = (np.array([0, 9, 2]), np.array([-100, 8, -100]))
    y = (np.array([0, 7, 2]), np.array([-100, 7, -100]))
    ids, labels = concatenated(x, y)
    assert ids.tolist() == [0, 9, 2, 2, 7, 2]
    assert labels.tolist() == [-100, 8, -100, -100, 7, -100]
    assert y[0].tolist() == [0, 7, 2], "the original is left alone"


def test_pad_rows_rounds_up() -> None:
    assert pad_rows([np.array([5, 6]), np.arange(9)], 1).shape == (2, 16)


def test_batch_that_does_not_divide_is_refused(random_data: Path) -> None:
    with pytest.raises(
        ValueError, match=r"mono_batch_pairs 8 .* 3 ranks x 1 accumulation steps; choose multiples of 3"
    ):
        batches(random_data, world_size=3)


def test_one_kind_alone_fills_every_step(random_data: Path) -> None:
    manifest = Manifest.load(random_data)
    only_mono = Manifest(2, manifest.tokenizer_sha256, manifest.vocab_size, manifest.mono, {})
    source = PretrainingBatches(random_data, only_mono, OPTIONS, 0, 1, 1)
    assert [source.kind_of(step) for step in range(3)] == ["mono"] * 3
    empty = Manifest(2, manifest.tokenizer_sha256, manifest.vocab_size, {}, {})
    with pytest.raises(ValueError, match="neither monolingual nor parallel"):
        PretrainingBatches(random_data, empty, OPTIONS, 0, 1, 1)
