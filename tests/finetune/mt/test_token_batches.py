"""Batches by tokens: contents, limits, order, ranks; a bitext of digits so that ids can be read off."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from number_bitext import FRAME, TAG, bitext_of

from finetune.encoded_text import Sentences
from finetune.mt.bitext import Bitext, BitextReport
from finetune.mt.special_tokens import Frame
from finetune.mt.token_batches import RankBatches, TranslationBatches


def random_bitext(num_pairs: int, seed: int, longest: int = 60) -> Bitext:
    """Pairs whose lengths are correlated, as those of translations are; source token j of pair i is 10 + i."""
    rng = np.random.default_rng(seed)
    source_lengths = np.clip(rng.gamma(5.0, 3.0, num_pairs), 1, longest).astype(int)
    target_lengths = np.clip(source_lengths * rng.normal(1.1, 0.15, num_pairs), 1, longest).astype(int)
    return Bitext(
        Sentences.of(np.full(length, 10 + i) for i, length in enumerate(source_lengths)),
        Sentences.of(np.full(length, 10 + i) for i, length in enumerate(target_lengths)),
        np.full(num_pairs, TAG, dtype=np.int32),
        BitextReport(num_pairs, 0, 0, 0),
        f"{num_pairs} {seed}",
    )


def test_the_content_of_a_batch(tmp_path: Path) -> None:
    batches = TranslationBatches(bitext_of(tmp_path, ["11 12", "13"], ["21", "22 23 24"]), 100, 1, FRAME)
    assert len(batches) == 1
    batch = batches[0]
    if batch["input_ids"][0, 1] == 13:  # the order within the batch is drawn
        batch = {name: tensor.flip(0) for name, tensor in batch.items()}
    assert batch["input_ids"].tolist() == [[0, 11, 12, 2], [0, 13, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["decoder_input_ids"].tolist() == [[5, 21, 1, 1], [5, 22, 23, 24]]
    assert batch["labels"].tolist() == [[21, 2, -100, -100], [22, 23, 24, 2]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    assert batches.num_target_tokens(0) == 6
    # 7 + 6 real tokens, 8 + 8 places.
    assert batches.padding_share == pytest.approx(3 / 16)


def test_the_content_of_a_batch_for_a_model_from_fairseq(tmp_path: Path) -> None:
    """VECO's models there read `x </s> [en]`, start with `[de]` and end with `</s> [de]`; [en] is 6, [de] 5."""
    frame = Frame(source_prefix=(), source_suffix=(2, 6), target_suffix=(2, TAG), pad=1)
    bitext = bitext_of(tmp_path, ["11 12 14", "13"], ["21", "22 23 24"], max_length=4, frame=frame)
    assert (bitext.report.num_cut_source, bitext.report.num_cut_target) == (1, 1)
    batches = TranslationBatches(bitext, 100, 1, frame)
    batch = batches[0]
    if batch["input_ids"][0, 0] == 13:
        batch = {name: tensor.flip(0) for name, tensor in batch.items()}
    assert batch["input_ids"].tolist() == [[11, 12, 2, 6], [13, 2, 6, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["decoder_input_ids"].tolist() == [[5, 21, 2, 1], [5, 22, 23, 2]]
    assert batch["labels"].tolist() == [[21, 2, 5, -100], [22, 23, 2, 5]]
    assert batches.num_target_tokens(0) == 7
    with pytest.raises(ValueError, match="max_length must be at least 3 tokens, found 2"):
        bitext_of(tmp_path, ["11"], ["21"], max_length=2, frame=frame)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_tokens 6 is smaller than the longest sentence, 7 tokens"):
        TranslationBatches(bitext_of(tmp_path, ["1", "1 2 3 4 5"], ["1", "1"]), 6, 1, FRAME)
    with pytest.raises(IndexError):
        TranslationBatches(bitext_of(tmp_path, ["1"], ["1"]), 6, 1, FRAME)[-1]


@settings(max_examples=25, deadline=None)
@given(num_pairs=st.integers(1, 300), max_tokens=st.integers(64, 900), seed=st.integers(0, 99))
def test_every_epoch_holds_every_pair_once(num_pairs: int, max_tokens: int, seed: int) -> None:
    batches = TranslationBatches(random_bitext(num_pairs, seed), max_tokens, seed, FRAME)
    for epoch in range(2):
        seen = []
        for k in range(epoch * len(batches), (epoch + 1) * len(batches)):
            batch = batches[k]
            assert max(batch["input_ids"].numel(), batch["labels"].numel()) <= max_tokens
            assert batches.num_target_tokens(k) == int((batch["labels"] != -100).sum())
            assert torch.equal(batch["attention_mask"], (batch["input_ids"] != FRAME.pad).long())
            # The pair's number is written in its tokens: both sides of a row belong together.
            assert torch.equal(batch["input_ids"][:, 1], batch["labels"][:, 0])
            seen += (batch["input_ids"][:, 1] - 10).tolist()
        assert sorted(seen) == list(range(num_pairs))


def test_order_is_a_pure_function_of_seed_and_k() -> None:
    bitext = random_bitext(2000, 1)
    one, two = TranslationBatches(bitext, 500, 7, FRAME), TranslationBatches(bitext, 500, 7, FRAME)
    late = len(one) * 3 + 5
    expected = two[late]["input_ids"]  # asked for first, without the ones before
    for k in (0, 3, len(one), late):
        one.pair_indices(k)
    assert torch.equal(one[late]["input_ids"], expected)

    def epoch_of(batches: TranslationBatches, epoch: int) -> list[tuple[int, ...]]:
        return [tuple(batches.pair_indices(epoch * len(batches) + k).tolist()) for k in range(len(batches))]

    assert epoch_of(one, 0) == epoch_of(two, 0)
    assert epoch_of(one, 0) != epoch_of(one, 1)  # another order …
    assert sorted(epoch_of(one, 0)) == sorted(epoch_of(one, 1))  # … of the same batches
    assert sorted(epoch_of(one, 0)) != sorted(epoch_of(TranslationBatches(bitext, 500, 8, FRAME), 0))


def test_padding_is_low() -> None:
    bitext = random_bitext(20_000, 3)
    batches = TranslationBatches(bitext, 2048, 1, FRAME)
    assert batches.padding_share < 0.05
    counted = 0
    for k in range(len(batches)):
        counted += batches[k]["input_ids"].numel() + batches[k]["labels"].numel()
    real = len(bitext.source.tokens) + len(bitext.target.tokens) + 3 * len(bitext)
    assert batches.padding_share == pytest.approx(1 - real / counted)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_sequence_without_gap_or_overlap(world_size: int) -> None:
    batches = TranslationBatches(random_bitext(400, 5), 300, 1, FRAME)
    per_rank = len(batches) // world_size + 3  # crosses the end of the epoch
    ranks = [RankBatches(batches, rank, world_size) for rank in range(world_size)]
    taken = [ranks[k % world_size][k // world_size] for k in range(per_rank * world_size)]
    for k, batch in enumerate(taken):
        assert all(torch.equal(batch[name], tensor) for name, tensor in batches[k].items())


def test_in_a_data_loader_with_workers() -> None:
    batches = TranslationBatches(random_bitext(300, 2), 400, 1, FRAME)
    loader = torch.utils.data.DataLoader(RankBatches(batches, 1, 2), batch_size=None, sampler=range(3), num_workers=1)
    for k, batch in zip((1, 3, 5), loader, strict=True):
        assert all(torch.equal(batch[name], tensor) for name, tensor in batches[k].items())


def test_several_directions_keep_their_tags() -> None:
    german, french = random_bitext(50, 1), random_bitext(50, 2)
    french = Bitext(french.source, french.target, np.full(50, TAG + 1, dtype=np.int32), french.report, "fr")
    batches = TranslationBatches(Bitext.concatenate([german, french]), 10_000, 1, FRAME)
    tags = torch.cat([batches[k]["decoder_input_ids"][:, 0] for k in range(len(batches))])
    assert tags.bincount().tolist()[TAG:] == [50, 50]
