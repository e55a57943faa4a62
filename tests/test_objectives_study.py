"""benchmarks/objectives_study.py: which runs it makes, and how it reads them; a screen in tiny shapes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import objectives_study as study
import pytest
import yaml

from finetune.mt.comparison_configuration import read_comparison
from pretrain.recipe import SHAPE_FIELDS
from veco import VecoConfig
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES
from veco.pretraining import check_layers


def options(output: Path, **values: object) -> argparse.Namespace:
    usual = {"objectives": None, "seeds": [1], "steps": 100, "as_long_as": None, "speeds": None}
    return argparse.Namespace(**{**usual, "quick": False, "recipe_flags": [], "output": output, **values})


def write_results(path: Path, speeds: dict[str, float]) -> Path:
    lines = [json.dumps({"objective": name, "tokens_per_second": speed}) + "\n" for name, speed in speeds.items()]
    path.write_text("".join(lines))
    return path


def test_the_screen_adds_each_objective_for_pairs_to_both_starts() -> None:
    names = study.screened()
    assert len(names) == len(set(names)) and all(ObjectiveSum.of(name).parts for name in names)
    added = {name for name, kind in OBJECTIVES.items() if "bilingual" in kind.kinds} - study.OLD
    parts = [[part.name for part in ObjectiveSum.of(name)] for name in names]
    for name in added:
        assert ["mlm", "tlm", name] in parts and ["ca_mlm", "tlm", name] in parts


@pytest.mark.parametrize("quick", [False, True])
def test_recipes_of_the_screen_are_complete_and_their_models_large_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    for name in ("VECO_CORPORA", "VECO_RUNS"):
        monkeypatch.setenv(name, str(tmp_path))
    for run in study.runs_of(options(tmp_path, quick=quick, recipe_flags=["--lexicon", "lexicons"])):
        recipe = study.recipe_of(run)
        shape = {name: vars(recipe)[name] for name in SHAPE_FIELDS}
        check_layers(ObjectiveSum.of(recipe.objective), VecoConfig(**shape))
    (run,) = study.runs_of(options(tmp_path, quick=quick, objectives=["alm"]))
    with pytest.raises(ValueError, match="objective alm needs a lexicon, and none is given"):
        study.recipe_of(run)


def test_runs_differ_in_objective_and_seed_alone(tmp_path: Path) -> None:
    runs = study.runs_of(options(tmp_path, objectives=["mlm", "mlm + 0.1 * contrast"], seeds=[1, 2]))
    assert len({run.directory for run in runs}) == 4
    flags = [dict(zip(run.flags[::2], run.flags[1::2], strict=True)) for run in runs]
    assert [(own.pop("--objective"), own.pop("--seed")) for own in flags] == [(r.objective, str(r.seed)) for r in runs]
    assert all(own == flags[0] for own in flags)
    with pytest.raises(ValueError, match="unknown objective 'mlmm', did you mean mlm"):
        study.runs_of(options(tmp_path, objectives=["mlmm"]))


def test_equal_seconds_are_updates_by_speed(tmp_path: Path) -> None:
    speeds = write_results(tmp_path / "results.jsonl", {"mlm+tlm": 3000.0, "ca_mlm+tlm": 1500.0})
    asked = options(tmp_path, objectives=["mlm+tlm", "ca_mlm+tlm"], as_long_as="ca_mlm+tlm", speeds=speeds)
    assert [run.steps for run in study.runs_of(asked)] == [200, 100]
    with pytest.raises(ValueError, match=r"results.jsonl: has no run of clm"):
        study.runs_of(options(tmp_path, objectives=["clm"], as_long_as="mlm+tlm", speeds=speeds))


def test_result_is_read_from_a_finished_run(tmp_path: Path) -> None:
    (run,) = study.runs_of(options(tmp_path, objectives=["mlm"], steps=4))
    assert study.result_of(run, tokens=10.0) is None
    (run.directory / "pretrain").mkdir(parents=True)
    lines = [
        {"step": 1, "tokens_per_second": 5.0},
        {"step": 4, "tokens_per_second": 15.0},
        {"step": 4, "valid/bilingual_loss": 2.5, "valid/bilingual_mlm": 2.0, "valid/de-en/mlm": 1.0},
    ]
    (run.directory / "pretrain" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in study.RETRIEVAL:
        directory = run.directory / study.directory_name(name)
        directory.mkdir()
        content = {"layers": {}, "chosen": {"de": {"layer": 1, "score": 4.0}, "fr": {"layer": 0, "score": 2.0}}}
        (directory / "tatoeba.json").write_text(json.dumps({**content, "avg": 3.0}))
    result = study.result_of(run, tokens=10.0)
    assert result is not None
    assert (result.seconds, result.tokens_per_second) == (10 / 5 + 30 / 15, 40 / 4)
    assert result.losses == {"loss": 2.5, "mlm": 2.0}
    assert result.retrieval["cosine"] == {
        "avg": 3.0,
        "de": {"layer": 1, "score": 4.0},
        "fr": {"layer": 0, "score": 2.0},
    }
    rows = study.table([result], num_runs=2, translation={}).splitlines()
    assert rows[2] == "| `mlm` | 1 | 4 | 4 | 10 | 3.00 | 3.00 |" and rows[-1] == "1 of 2 runs are done."


def test_table_has_the_translations_of_an_objective_over_all_its_seeds(tmp_path: Path) -> None:
    assert study.translation_scores(tmp_path) == {}
    scores = [("mlm+tlm", 1, 30.0), ("ca_mlm+tlm", 1, 34.0), ("ca_mlm+tlm", 2, 36.0)]
    content = [
        {"model": study.run_name(objective, 100, seed), "seed": 1, "scores": {"sacrebleu": score, "chrf": 50.0}}
        for objective, seed, score in scores
    ]
    (tmp_path / "results.json").write_text(json.dumps({"comparison": {}, "results": content}))
    found = {way: {"avg": 3.0} for way in study.RETRIEVAL}
    results = [
        study.Result(objective, seed, 100, seconds=5.0, tokens_per_second=10.0, losses={}, retrieval=found)
        for objective, seed in [("mlm+tlm", 1), ("ca_mlm+tlm", 1), ("ca_mlm+tlm", 2), ("clm", 1)]
    ]
    scores_of_models = study.translation_scores(tmp_path)
    head, _, *rows = study.table(results, 4, scores_of_models).splitlines()
    assert head.endswith("| sacreBLEU |")
    assert [row.split(" | ")[-1] for row in rows[:3]] == ["30.00 |", "35.00 ± 1.41 |", " |"]


def test_translation_starts_from_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_CORPORA", str(tmp_path))
    runs = study.runs_of(options(tmp_path, objectives=["mlm+tlm", "mbart(translate=true)"]))
    path = study.ROOT / "finetune" / "mt" / "comparisons" / "multi30k_en_de_third.yaml"
    content = study.translation_comparison(path, runs)
    assert Path(content["recipe"]).is_file()
    fields = list(content["models"].values())
    assert [own.get("cross_attention") for own in fields] == ["random", None]
    assert [own["init_from"] for own in fields] == [str(run.model) for run in runs]
    (tmp_path / "translation.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert list(read_comparison(tmp_path / "translation.yaml").models) == [run.directory.name for run in runs]
