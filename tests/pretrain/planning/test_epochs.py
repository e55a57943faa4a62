"""The oracle is the run itself: its samples, drawn one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from data_tools.shards.manifest import Manifest
from pretrain.batches import PretrainingBatches, PretrainingOptions
from pretrain.course import RecipeCourse
from pretrain.micro_batch import SAMPLES
from pretrain.planning.epochs import Content, mean_lengths, read_contents, readings
from pretrain.planning.workload import parts_of, plan_workload, read_recipe

ALPHA, UPDATES, MONO_PAIRS, BILINGUAL_PAIRS = 0.7, 60, 40, 20


def recipe_of(directory: Path) -> Path:
    path = directory / "r.yaml"
    path.write_text(
        f"alpha: {ALPHA}\nsteps: {UPDATES}\nmono_batch_pairs: {MONO_PAIRS}\nbilingual_batch_pairs: {BILINGUAL_PAIRS}\n"
        "mono_max_length: 12\nbilingual_max_length: 40\n"
    )
    return path


def test_only_batches_that_the_objective_is_for_are_read(random_data: Path, tmp_path: Path) -> None:
    path = recipe_of(tmp_path)
    for objective, kinds in (("tlm", {"bilingual"}), ("btmlm", {"mono"}), ("mlm", {"mono", "bilingual"})):
        path.write_text(f"{path.read_text().partition('objective')[0]}objective: {objective}\n")
        recipe, manifest = read_recipe(path), Manifest.load(random_data)
        contents = read_contents(recipe, random_data, manifest)
        workload = plan_workload(recipe, manifest, [mean_lengths(contents, ALPHA)], None)
        assert set(contents) == set(workload.kinds) == {one.kind for one in readings(workload, [contents])} == kinds
        samples = sum(one.samples for one in readings(workload, [contents]) if one.kind == "bilingual")
        assert samples == {"tlm": UPDATES, "btmlm": 0, "mlm": UPDATES / 2}[objective] * BILINGUAL_PAIRS


def test_what_a_run_reads(random_data: Path, tmp_path: Path) -> None:
    recipe, manifest = read_recipe(recipe_of(tmp_path)), Manifest.load(random_data)
    contents = read_contents(recipe, random_data, manifest)
    workload = plan_workload(recipe, manifest, [mean_lengths(contents, ALPHA)], None)
    found = {reading.name: reading for reading in readings(workload, [contents])}

    options = PretrainingOptions(1, ALPHA, MONO_PAIRS, BILINGUAL_PAIRS, 12, 40, 0.15, 0.25, 4, objective="ca_mlm")
    batches = PretrainingBatches(random_data, manifest, options, rank=0, world_size=1, accumulation_steps=1)
    samples: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for update in range(UPDATES):
        batch = batches[update]
        lengths = batch["attention_mask"].sum(1) + batch["pair_attention_mask"].sum(1) - 4  # <s> and </s> of each
        for group, length in zip(batch[SAMPLES][:, 0].tolist(), lengths.tolist(), strict=True):
            samples[batches.groups[group][1]] += 1
            tokens[batches.groups[group][1]] += length
    assert found.keys() == samples.keys() == {"de", "en", "de-en"}
    for name, reading in found.items():
        assert reading.samples == pytest.approx(samples[name], rel=0.06)
        assert reading.tokens == pytest.approx(tokens[name], rel=0.08)
    assert found["de-en"].samples == samples["de-en"] == UPDATES / 2 * BILINGUAL_PAIRS
    assert found["de-en"].epochs == pytest.approx(samples["de-en"] / 90)  # the fixture's pairs
    for kind, names in (("mono", ("de", "en")), ("bilingual", ("de-en",))):
        mean = sum(tokens[name] for name in names) / sum(samples[name] for name in names) / 2 + 2
        assert workload.kinds[kind].average.length == pytest.approx(mean, abs=1)


def test_what_a_staged_run_reads(random_data: Path, tmp_path: Path) -> None:
    """Over stages with other languages, shares and sizes."""
    path = recipe_of(tmp_path)
    stages = "[{steps: 20, languages: [en]}, {steps: 40, alpha: {from: 1, to: 0.2}, mono_batch_pairs: 80}]"
    path.write_text(path.read_text().replace(f"steps: {UPDATES}\n", f"stages: {stages}\n"))
    recipe, manifest = read_recipe(path), Manifest.load(random_data)
    parts = [part for _, part in parts_of(recipe)]
    contents = [read_contents(part, random_data, manifest) for part in parts]
    lengths = [mean_lengths(content, part.alpha) for content, part in zip(contents, parts, strict=True)]
    found = {reading.name: reading for reading in readings(plan_workload(recipe, manifest, lengths, None), contents)}

    batches = PretrainingBatches(random_data, manifest, RecipeCourse(recipe), 0, 1, 1)
    samples: Counter[str] = Counter()
    for update in range(UPDATES):
        samples.update(batches.groups[group][1] for group in batches[update][SAMPLES][:, 0].tolist())
    assert found.keys() == samples.keys() == {"de", "en", "de-en"}
    for name, reading in found.items():
        assert reading.samples == pytest.approx(samples[name], rel=0.06)
    assert found["de-en"].samples == samples["de-en"] == 20 * BILINGUAL_PAIRS
    assert found["en"].probability + found["de"].probability == pytest.approx(1)


def test_probabilities_are_smoothed_by_sentences() -> None:
    contents = {"mono": {"en": Content(900, 30, 600), "sw": Content(100, 5, 50)}}
    # 900^0.5 : 100^0.5 = 3 : 1; 20 and 10 tokens a pair, so 17.5 on average, of which x has half, and <s> and </s>.
    assert mean_lengths(contents, 0.5) == {"mono": pytest.approx(17.5 / 2 + 2)}


def test_a_directory_without_a_sentence_is_refused(random_data: Path, tmp_path: Path) -> None:
    empty = Manifest(version=2, tokenizer_sha256="0" * 64, vocab_size=60, mono={"de": []}, parallel={})
    with pytest.raises(ValueError, match="has no sentences for objective .ca_mlm.tlm.; prepare some first"):
        read_contents(read_recipe(recipe_of(tmp_path)), random_data, empty)
