import dataclasses
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_options import SHORT as OPTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.shards.format import Shard, ShardWriter
from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.batches import (
    VALIDATION_PAIRS,
    PretrainingBatches,
    PretrainingOptions,
    ValidationBatches,
    batch_of,
    even_parts,
)
from pretrain.masking import IGNORED
from pretrain.micro_batch import PACKED, SAMPLES, make_batch, pad_rows
from pretrain.sources import MonoSource, OpenShards, ParallelSource, split_in_two
from pretrain.views.pair import Sample, concatenated
from veco.views import JOINED_X, JOINED_Y

FROZEN = [4641150284205248672, 2213764432968057907]  # digests of the first validation pairs of random_data


def batches(data: Path, rank: int = 0, world_size: int = 1, accumulation_steps: int = 1) -> PretrainingBatches:
    return PretrainingBatches(data, Manifest.load(data), OPTIONS, rank, world_size, accumulation_steps)


def rows(batch: dict[str, torch.Tensor], name: str) -> list[list[int]]:
    """Rows of a tensor without the padding, which depends on the neighbours."""
    if name == SAMPLES:
        return batch[name].tolist()
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
        for name in whole.keys() - {PACKED}:
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


@pytest.mark.parametrize("step", [0, 1])
def test_packed_says_where_the_tokens_stand(random_data: Path, step: int) -> None:
    batch = batches(random_data)[step]
    packed, parts = batch[PACKED], [""] + ["pair_"] + ["tlm_"] * step
    ids = [rows(batch, f"{part}input_ids") for part in parts]
    sequences = [row for of_part in ids for row in of_part]
    assert packed.pick([batch[f"{part}input_ids"] for part in parts]).tolist() == [
        *itertools.chain.from_iterable(sequences)
    ]
    assert list(packed.sizes.lengths.values()) == [tuple(map(len, of_part)) for of_part in ids]
    assert packed.positions.tolist() == [position for row in sequences for position in range(1, len(row) + 1)]
    ends = packed.starts.tolist()
    assert [end - start for start, end in itertools.pairwise(ends)] == [len(row) for row in sequences]
    assert packed.starts_of(["y", "x"]).diff().tolist() == [len(row) for row in ids[1] + ids[0]]
    assert packed.starts_of(["y", "x"])[0] == 0
    labels = torch.cat([batch[f"{part}labels"][batch[f"{part}attention_mask"].bool()] for part in parts])
    assert packed.predicted.tolist() == [place for place, label in enumerate(labels.tolist()) if label != IGNORED]
    numbers = [row for of_part in ids for row, of_row in enumerate(of_part) for _ in of_row]
    assert packed.rows.tolist() == [numbers[place] for place in packed.predicted.tolist()]
    predicted = [int(batch[f"{part}labels"].ne(IGNORED).sum()) for part in parts]
    assert list(packed.sizes.num_predicted.values()) == predicted


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
    kind = batches(random_data).stretches[0].kinds["bilingual"]
    first, second = ([tuple(kind.sample(e * 90 + i, 0).x.tolist()) for i in range(90)] for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(8, 40),
)
def test_windows_hold_every_token_once(tmp_path_factory, documents: list[list[int]], segment: int) -> None:
    """The arithmetic of MonoSource, sentences longer than a window included. What comes twice is whole windows of
    documents that are shorter than one."""
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
    sizes = np.diff(ends, prepend=4)
    seen: list[int] = []
    for index in range(len(source)):
        x, y, num_cut, *_ = source[index]
        tokens = [*x.tolist(), *y.tolist()]
        assert tokens, "an empty window"
        assert tokens == list(range(tokens[0], tokens[0] + len(tokens))), "x and y are neighbours"
        document = np.searchsorted(ends, tokens[0], "right")
        assert document == np.searchsorted(ends, tokens[-1], "right"), "one document"
        assert len(x) <= segment and len(y) <= segment and num_cut == 0
        if seen and tokens[0] <= seen[-1]:
            assert sizes[document] < source.window_tokens and set(tokens) <= set(seen)
        else:
            seen += tokens
    assert seen == list(range(4, int(ends[-1])))


def test_borders_of_windows_are_those_of_sentences(tmp_path: Path) -> None:
    """A document of twelve sentences of 10 tokens: windows of at most 2 x 20 - 5 tokens, so four of about 30."""
    with ShardWriter(tmp_path / "00000", 1000) as writer:
        for start in range(100, 220, 10):
            writer.add_sequence(np.arange(start, start + 10))
    source = MonoSource(OpenShards(tmp_path), [writer.info("00000")], segment_tokens=20)
    assert [(x[0], len(x), len(y)) for x, y, *_ in (source[i] for i in range(len(source)))] == [
        (100, 10, 20),
        (130, 10, 20),
        (160, 10, 20),
        (190, 10, 20),
    ]


def test_split_in_two_prefers_a_sentence_end() -> None:
    tokens = np.arange(10)
    x, y = split_in_two(tokens, np.array([3, 6]), 9)
    assert (x.tolist(), y.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])
    x, y = split_in_two(tokens, np.array([], dtype=np.int64), 9)
    assert len(x) == len(y) == 5
    x, y = split_in_two(tokens, np.array([1, 9]), 8)  # these borders leave a segment too long
    assert len(x) == len(y) == 5


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(2, 50))
def test_split_segments_meet_and_lose_nothing(lengths: list[int], limit: int) -> None:
    tokens = np.arange(min(sum(lengths), 2 * limit))
    borders = np.cumsum(lengths[:-1])
    x, y = split_in_two(tokens, borders[borders < len(tokens)], limit)
    assert len(x) <= limit and len(y) <= limit
    assert [*x.tolist(), *y.tolist()] == tokens.tolist()


def test_long_sides_of_pairs_are_cut_and_counted(random_data: Path) -> None:
    """Each sentence of 2 to 14 tokens, of which 9 fit."""
    shards = [Shard(random_data / f"parallel/de-en/00000.{side}") for side in ("de", "en")]
    infos = Manifest.load(random_data).parallel["de-en"]
    source = ParallelSource(OpenShards(random_data), infos, ("de", "en"), max_tokens=9)
    for i in range(90):
        x, y, num_cut, *_ = source[i]
        whole_x, whole_y = (shard[i] for shard in shards)
        assert x.tolist() == whole_x[:9].tolist() and y.tolist() == whole_y[:9].tolist()
        assert len(x) + len(y) + num_cut == len(whole_x) + len(whole_y)
    short = dataclasses.replace(OPTIONS, bilingual_max_length=11)
    batch = PretrainingBatches(random_data, Manifest.load(random_data), short, 0, 1, 1)[1]
    assert batch[SAMPLES][:, 1].sum() > 0 and batch["attention_mask"].sum(1).max() == 11


NUM_UPDATES = 12
SPLITS = [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)]


def test_digest_of_samples_is_the_same_for_any_number_of_ranks(random_data: Path) -> None:
    """Which sample stands where, its ids and its masks; and it notices any change of them."""

    def digest(options: PretrainingOptions, world_size: int, accumulation: int) -> str:
        manifest = Manifest.load(random_data)
        sums = torch.zeros(NUM_UPDATES, dtype=torch.int64)  # wraps, as it may
        for rank in range(world_size):
            source = PretrainingBatches(random_data, manifest, options, rank, world_size, accumulation)
            for number in range(NUM_UPDATES * accumulation):
                sums[number // accumulation] += source[number][SAMPLES][:, 2].sum()
        return hashlib.sha256(sums.numpy().tobytes()).hexdigest()

    digests = {split: digest(OPTIONS, *split) for split in SPLITS}
    print(f"ranks, accumulation steps: digest of {NUM_UPDATES} updates")
    print("\n".join(f"{split}: {value}" for split, value in digests.items()))
    assert len(set(digests.values())) == 1
    others = {"seed": 2, "bilingual_mask_rate": 0.3, "bilingual_mask_spread": 0.1, "span_length": 3.0, "alpha": 0.7}
    changed = {name: digest(dataclasses.replace(OPTIONS, **{name: value}), 1, 1) for name, value in others.items()}
    assert len({*changed.values(), *digests.values()}) == len(others) + 1


def test_objective_without_tlm_has_no_concatenation(random_data: Path) -> None:
    for objective in ("ca_mlm", "mlm"):
        source = with_objective(random_data, objective)
        assert not [name for name in source[1] if name.startswith("tlm")]
        assert torch.equal(source[1]["labels"], batches(random_data)[1]["labels"]), "masks do not depend on it"


def test_causal_batches_are_not_masked_and_predict_the_next_token(random_data: Path) -> None:
    source, masked = with_objective(random_data, "clm"), batches(random_data)
    for step in (0, 1):
        batch = source[step]
        assert not [name for name in batch if name.startswith("tlm")]
        for prefix, view in (("", "next_x_"), ("pair_", "next_y_")):
            ids, labels = batch[f"{view}input_ids"], batch[f"{view}labels"]
            before = masked[step][f"{prefix}input_ids"], masked[step][f"{prefix}labels"]
            assert torch.equal(ids, torch.where(before[1] != IGNORED, before[1], before[0])), "the same segments"
            for row, target in zip(ids.tolist(), labels.tolist(), strict=True):
                length = row.index(2) + 1
                assert target[: length - 1] == row[1:length] and set(target[length - 1 :]) == {IGNORED}


def with_objective(data: Path, objective: str) -> PretrainingBatches:
    options = dataclasses.replace(OPTIONS, objective=objective)
    return PretrainingBatches(data, Manifest.load(data), options, 0, 1, 1)


def test_groups_are_languages_and_pairs(random_data: Path) -> None:
    source = batches(random_data)
    assert source.groups == [("mono", "de"), ("mono", "en"), ("bilingual", "de-en")]
    assert set(source[0][SAMPLES][:, 0].tolist()) == {0, 1}
    assert set(source[1][SAMPLES][:, 0].tolist()) == {2}
    assert len(set(source[0][SAMPLES][:, 2].tolist())) == OPTIONS.mono_batch_pairs


def test_validation_has_each_held_out_sample_once_up_to_a_limit(random_data: Path) -> None:
    manifest = Manifest.load(random_data)
    held_out = dataclasses.replace(manifest, valid={"mono": manifest.mono, "parallel": manifest.parallel})
    valid = ValidationBatches(random_data, held_out, OPTIONS, max_batches=100)
    assert len(valid.batches["bilingual"]) == -(-90 // VALIDATION_PAIRS)
    whole = [valid.batch("bilingual", i) for i in range(len(valid.batches["bilingual"]))]
    assert sum(len(batch[SAMPLES]) for batch in whole) == 90
    assert len({row for batch in whole for row in batch[SAMPLES][:, 2].tolist()}) == 90
    # As it came first: perplexities of runs made by different versions are compared.
    assert whole[0][SAMPLES][:2, 2].tolist() == FROZEN
    other_seed = dataclasses.replace(OPTIONS, seed=99)
    few = ValidationBatches(random_data, held_out, other_seed, max_batches=2)
    assert few.batches["mono"] == [(group, range(first, first + 16)) for group in (0, 1) for first in (0, 16)]
    once_more = ValidationBatches(random_data, held_out, other_seed, max_batches=100).batch("bilingual", 1)
    for name in once_more.keys() - {PACKED}:
        assert torch.equal(once_more[name], whole[1][name]), "masks are those of every run"
    assert not ValidationBatches(random_data, manifest, OPTIONS, max_batches=2).batches


@pytest.mark.parametrize(
    ("size", "expected"), [(0, []), (1, [1]), (16, [16]), (17, [8, 9]), (32, [16, 16]), (90, [15] * 6)]
)
def test_no_batch_of_validation_is_a_small_rest(size: int, expected: list[int]) -> None:
    parts = even_parts(size, 16)
    assert [len(part) for part in parts] == expected
    assert [number for part in parts for number in part] == list(range(size))


def test_concatenation_replaces_the_second_start() -> None:
    x = (np.array([0, 9, 2]), np.array([-100, 8, -100]))
    y = (np.array([0, 7, 2]), np.array([-100, 7, -100]))
    ids, labels = concatenated(x, y, SpecialIds.xlm_r(60))
    assert ids.tolist() == [0, 9, 2, 2, 7, 2]
    assert labels.tolist() == [-100, 8, -100, -100, 7, -100]
    assert y[0].tolist() == [0, 7, 2], "the original is left alone"


def test_rows_of_another_layout_have_its_special_ids(random_data: Path) -> None:
    """`[CLS] x [SEP] y [SEP]`, one separator as BERT's tokenizer puts it, and its padding."""
    special = SpecialIds(bos=41, pad=0, eos=42, unk=40, mask=43, num_separators=1)
    options = dataclasses.replace(OPTIONS, objective="mlm + tlm + mbart", mask_token_share=1.0, random_token_share=0.0)
    samples = [Sample(0, "de-en", i, np.arange(5, 9 + i), np.arange(20, 24), 0, i) for i in range(3)]
    batch = batch_of("bilingual", samples, options, special, 60)
    views = [name.removesuffix("input_ids") for name in batch if name.endswith("input_ids")]
    assert len(views) == 7
    for view in views:
        ids, mask = batch[f"{view}input_ids"], batch[f"{view}attention_mask"]
        assert (ids[:, 0] == 41).all() and (ids[mask == 0] == 0).all() and (ids[mask == 1] != 0).all()
        ends = [row[: int(keep.sum())].tolist() for row, keep in zip(ids, mask, strict=True)]
        assert all(row[-1] == 42 and row.count(42) == (2 if view == "tlm_" else 1) for row in ends), view
    x, both = batch["input_ids"][0].tolist(), batch["tlm_input_ids"][0].tolist()
    assert both[:6] == x[:6] and both[6:11] == batch["pair_input_ids"][0].tolist()[1:6]
    assert 43 in x and 43 in batch["noised_x_input_ids"][0].tolist()


def test_pad_rows_rounds_up() -> None:
    assert pad_rows([np.array([5, 6]), np.arange(9)], 1).shape == (2, 16)


def test_batch_that_does_not_divide_is_refused(random_data: Path) -> None:
    with pytest.raises(
        ValueError, match=r"mono_batch_pairs 8 .* 3 ranks x 1 accumulation steps; choose multiples of 3"
    ):
        batches(random_data, world_size=3)


def test_rows_join_two_pairs_in_any_order(random_data: Path) -> None:
    """InfoXLM's eight ways, each of them: the order on either side, and which side is the query's."""
    source = with_objective(random_data, "mlm + xlco")
    ways = set()
    for step in range(1, 32, 2):
        batch = source[step]
        xs, ys = rows(batch, "input_ids"), rows(batch, "pair_input_ids")
        of_rows = rows(batch, "joined_x_input_ids"), rows(batch, "joined_y_input_ids")
        assert len(of_rows[0]) == len(of_rows[1]) == len(xs) / 2
        assert not rows(batch, "joined_x_labels")[0]
        for number, (query, key) in enumerate(zip(*of_rows, strict=True)):
            two = slice(2 * number, 2 * number + 2)
            in_x, in_y = (
                {(*first, *second[1:]): way for way, (first, second) in enumerate((side[two], side[two][::-1]))}
                for side in (xs, ys)
            )
            query, key = tuple(query), tuple(key)
            ways.add((0, in_x[query], in_y[key]) if query in in_x else (1, in_x[key], in_y[query]))
    assert len(ways) == 8


def test_odd_pair_of_a_validation_is_a_row_by_itself() -> None:
    masking = dataclasses.replace(OPTIONS, mask_token_share=1.0).masking("bilingual", SpecialIds.xlm_r(60), 60)
    samples = [Sample(0, "de-en", i, np.arange(5, 8 + i), np.arange(20, 23), 0, i) for i in range(3)]
    batch = make_batch(samples, (JOINED_X, JOINED_Y), masking)
    assert len(batch["joined_x_input_ids"]) == len(batch["joined_y_input_ids"]) == 2
    assert sorted(map(len, (rows(batch, f"joined_{side}_input_ids")[1] for side in "xy"))) == [5, 7]
    assert batch[PACKED].num_pairs == len(batch[SAMPLES]) == 3


def test_pairs_that_a_row_joins_stay_together_and_are_in_the_digest(random_data: Path) -> None:
    options = dataclasses.replace(OPTIONS, objective="xlco")
    manifest = Manifest.load(random_data)
    whole = PretrainingBatches(random_data, manifest, options, 0, 1, 1)[0][SAMPLES]
    parts = [PretrainingBatches(random_data, manifest, options, rank, 2, 1)[0][SAMPLES] for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)
    assert len(set(whole[:, 2].tolist())) == len(whole)
    with pytest.raises(ValueError, match="micro-batch of 3 bilingual pairs is not a multiple of the 2 that stay"):
        PretrainingBatches(random_data, manifest, options, 0, 4, 1)


@pytest.mark.parametrize("objective", ["contrast", "ca_mlm + clsa"])
def test_micro_batch_that_cuts_a_group_is_refused(random_data: Path, objective: str) -> None:
    options = dataclasses.replace(OPTIONS, objective=objective, mono_batch_pairs=12)
    manifest = Manifest.load(random_data)
    whole = PretrainingBatches(random_data, manifest, options, 0, 1, 3)
    number = next(number for number in range(6) if whole.kind_of(number // 3) == "bilingual")
    assert whole[number][PACKED].group_pairs == 4
    with pytest.raises(ValueError, match="micro-batch of 6 bilingual pairs is not a multiple of the 4 that stay"):
        PretrainingBatches(random_data, manifest, options, 0, 2, 1)
    free = dataclasses.replace(OPTIONS, objective="contrast(across_ranks=true)")
    assert PretrainingBatches(random_data, manifest, free, 0, 2, 1)[0]


def test_one_kind_alone_fills_every_step(random_data: Path) -> None:
    manifest = Manifest.load(random_data)
    only_mono = Manifest(2, manifest.tokenizer_sha256, manifest.vocab_size, manifest.mono, {})
    source = PretrainingBatches(random_data, only_mono, OPTIONS, 0, 1, 1)
    assert [source.kind_of(step) for step in range(3)] == ["mono"] * 3
    empty = Manifest(2, manifest.tokenizer_sha256, manifest.vocab_size, {}, {})
    with pytest.raises(ValueError, match="neither monolingual nor parallel"):
        PretrainingBatches(random_data, empty, OPTIONS, 0, 1, 1)
