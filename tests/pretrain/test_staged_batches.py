"""The order of samples over the borders of stages: a function of the update alone, without gaps and repetitions."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.shards.manifest import Manifest
from pretrain.batches import PretrainingBatches
from pretrain.course import RecipeCourse, options_of
from pretrain.micro_batch import SAMPLES
from pretrain.order import Sample
from pretrain.recipe import PretrainRecipe
from pretrain.sources import BILINGUAL, MONO

SMALL: dict[str, Any] = {
    "mono_batch_pairs": 8,
    "bilingual_batch_pairs": 12,
    "mono_max_length": 24,
    "bilingual_max_length": 16,
}
STAGES: tuple[dict[str, Any], ...] = (
    {"steps": 5, "alpha": 0.9, "mono_batch_pairs": 16},
    {"steps": 4, "languages": ["en"], "bilingual_mask_rate": {"from": 0.2, "to": 0.8}},
    {"steps": 16, "alpha": {"from": 0.9, "to": 0.1}, "bilingual_batch_pairs": {"from": 4, "to": 12}},
    {"steps": 3, "pairs": [], "mono_max_length": 12},
    {"steps": 6},
)
TOTAL = sum(stage["steps"] for stage in STAGES)


def staged(
    data: Path, *stages: dict[str, Any], rank: int = 0, world_size: int = 1, accumulation_steps: int = 1
) -> PretrainingBatches:
    recipe = PretrainRecipe(output="x", stages=stages, **SMALL)
    return PretrainingBatches(data, Manifest.load(data), RecipeCourse(recipe), rank, world_size, accumulation_steps)


def drawn(batches: PretrainingBatches, updates: range) -> list[tuple[str, str, Sample]]:
    """(kind, language or pair, sample) of all that updates draw, one after the other."""
    found = []
    for step in updates:
        order, kind, numbers = batches.samples_of(step, 0)
        found += [(kind, order.name(number), order.sample(number, 0)) for number in numbers]
    return found


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    tensors = [name for name in one if isinstance(one[name], torch.Tensor)]
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in tensors)


def test_borders_at_which_nothing_changes_change_no_batch(random_data: Path) -> None:
    recipe = PretrainRecipe(output="x", **SMALL)
    options = options_of(recipe)
    plain = PretrainingBatches(random_data, Manifest.load(random_data), options, 0, 1, 1)
    same = staged(random_data, {"steps": 3}, {"steps": 4, "learning_rate": 1.0}, {"steps": 5, "alpha": recipe.alpha})
    assert len(same.stretches) == 3
    for step in range(14):
        assert equal(plain[step], same[step]), step


def test_a_batch_is_a_function_of_its_number_for_any_split(random_data: Path) -> None:
    """Walked from the beginning, begun anywhere, and read by four ranks or loaders, as after a resume."""
    walked = staged(random_data, *STAGES)
    whole = [walked[step] for step in range(TOTAL + 4)]
    fresh = staged(random_data, *STAGES)
    split = [staged(random_data, *STAGES, rank=rank, world_size=2, accumulation_steps=2) for rank in range(2)]
    loaded = [pickle.loads(pickle.dumps(batches)) for batches in split]
    for step in reversed(range(TOTAL + 4)):
        assert equal(fresh[step], whole[step]), step
        parts = [loaded[rank][2 * step + part][SAMPLES] for part in range(2) for rank in range(2)]
        assert torch.equal(torch.cat(parts), whole[step][SAMPLES]), step


def test_samples_are_numbered_without_a_gap(random_data: Path) -> None:
    numbers = defaultdict(list)
    for kind, _, sample in drawn(staged(random_data, *STAGES), range(TOTAL)):
        numbers[kind].append(sample.number)
    for found in numbers.values():
        assert found == list(range(len(found)))


def test_no_sample_comes_again_before_its_language_is_seen_through(random_data: Path) -> None:
    """However its share, the batches and their sizes change; windows of another length are other samples."""
    batches = staged(random_data, *STAGES, {"steps": 30, "alpha": 0.3})
    sizes: dict[tuple[str, int, str], int] = {}
    seen = defaultdict(list)
    for step in range(TOTAL + 30):
        window = batches.course.at(step).mono_max_length
        stretch = batches.stretch_of(step)
        for kind, name, sample in drawn(batches, range(step, step + 1)):
            key = (kind, window if kind == MONO else 0, name)
            sizes[key] = len(stretch.kinds[kind].groups[name].source)
            seen[key].append((sample.x.tobytes(), sample.y.tobytes()))
    assert {kind for kind, _, _ in seen} == {MONO, BILINGUAL} and len(seen) == 5
    assert any(len(samples) > sizes[key] for key, samples in seen.items()), "one is seen through"
    for key, samples in seen.items():
        for first in range(0, len(samples), sizes[key]):
            counts = Counter(samples[first : first + sizes[key]])
            # Two documents of the data may hold the same few tokens; here none do.
            assert max(counts.values()) == 1, key


def test_shares_follow_alpha(random_data: Path) -> None:
    """Each language's draws in a stage are its share of n ^ alpha, as in a run with that alpha alone."""
    manifest = Manifest.load(random_data)
    batches = staged(random_data, {"steps": 50, "alpha": 1.0}, {"steps": 50, "alpha": 0.0})
    sentences = {name: sum(info.num_sequences for info in infos) for name, infos in manifest.mono.items()}
    for updates, alpha in ((range(50), 1.0), (range(50, 100), 0.0)):
        names = Counter(name for kind, name, _ in drawn(batches, updates) if kind == MONO)
        share = sentences["de"] ** alpha / (sentences["de"] ** alpha + sentences["en"] ** alpha)
        assert names["de"] / names.total() == pytest.approx(share, abs=0.1)


def test_languages_and_pairs_of_a_stage(random_data: Path) -> None:
    batches = staged(random_data, *STAGES)

    def names(step: int) -> set[str]:
        return {name for _, name, _ in drawn(batches, range(step, step + 1))}

    assert [batches.kind_of(step) for step in range(4, 10)] == [MONO, *[MONO] * 4, BILINGUAL], "de-en needs German"
    assert all(names(step) == {"en"} for step in range(5, 9))
    assert [batches.kind_of(step) for step in range(25, 28)] == [MONO] * 3 and batches.kind_of(29) == BILINGUAL
    assert batches.groups == [(MONO, "de"), (MONO, "en"), (BILINGUAL, "de-en")]
    assert set(batches[6][SAMPLES][:, 0].tolist()) == {1}, "a language keeps its number"


def test_pairs_that_are_named_need_no_text_of_their_languages(random_data: Path) -> None:
    batches = staged(random_data, {"steps": 2, "languages": [], "pairs": ["de-en"]})
    assert [batches.kind_of(step) for step in range(2)] == [BILINGUAL] * 2


def test_a_rate_changes_with_each_update(random_data: Path) -> None:
    stage = {"steps": 8, "mono_mask_rate": {"from": 0.1, "to": 0.8}, "mono_batch_pairs": 64, "pairs": []}
    batches = staged(random_data, stage)
    for step, rate in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)):
        batch = batches[step]
        predicted = sum(int(batch[f"{side}labels"].ne(-100).sum()) for side in ("", "pair_"))
        ordinary = sum(int(batch[f"{side}attention_mask"].sum()) - 2 * 64 for side in ("", "pair_"))
        assert predicted / ordinary == pytest.approx(rate, abs=0.04)


def test_the_start_of_a_stage_far_away_is_computed(random_data: Path) -> None:
    """No walk over a billion updates."""
    far = 10**9
    batches = staged(random_data, {"steps": far}, {"steps": far, "alpha": 0.1}, {"steps": 5, "alpha": 0.9})
    _, kind, numbers = batches.samples_of(2 * far, 0)
    assert (kind, numbers) == (MONO, range(far * 8, far * 8 + 8))
    counts = [stretch.kinds[MONO].draws_before(numbers[0]) for stretch in batches.stretches[1:]]
    assert counts[0] == counts[1] and sum(counts[0].values()) == numbers[0]


def test_a_stage_without_a_sentence_is_refused(random_data: Path) -> None:
    with pytest.raises(ValueError, match="^update 3: of its languages and pairs the data have no sentence"):
        staged(random_data, {"steps": 2}, {"steps": 1, "languages": []})


def test_every_size_must_divide(random_data: Path) -> None:
    stage = {"steps": 9, "mono_batch_pairs": {"from": 3, "to": 9}}
    with pytest.raises(
        ValueError, match="^mono_batch_pairs 3 and mono_batch_pairs 9 cannot be divided evenly by 2 ranks"
    ):
        staged(random_data, stage, world_size=2)


def test_validation_is_cut_and_masked_alike_in_all_stages(random_data: Path) -> None:
    """By the recipe's own fields: only the objective is the stage's."""
    recipe = PretrainRecipe(output="x", stages=({"steps": 1, "mono_mask_rate": 0.5}, {"steps": 1}), **SMALL)
    own = options_of(recipe)
    assert own.mono_mask_rate == 0.15 and options_of(recipe.at(0)) == dataclasses.replace(own, mono_mask_rate=0.5)
    assert [border for border, _ in itertools.groupby(RecipeCourse(recipe).borders())] == [0, 1]
