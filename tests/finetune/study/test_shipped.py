"""The studies that come with the package: each is read, planned, and made of recipes and flags that are right."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.study import cells, configuration, references
from finetune.study.__main__ import STUDIES
from finetune.study.checking import checks
from finetune.study.checking.flag_check import parsed_lines
from finetune.study.plan import StudyPlan, plan_of
from finetune.study.reading import read_study
from finetune.understanding.comparison.configuration import Comparison

HUB_SIZE = (12, 768)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "studies.md"


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Directories, tasks and text count as there, models of the hub as of BERT-base's size; recipes are built here."""

    def size_of(name: str, *others: Any) -> tuple[int, ...]:
        return HUB_SIZE if "hub" in str(others[1].model(name)) else original(name, *others)

    def tests(name: str, language: str, comparison: Comparison) -> list[str]:
        assert comparison.data_of(name)
        return [language]

    original = checks.size_of
    for name in ("VECO_CORPORA", "VECO_RUNS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(references, "is_directory", lambda path: True)
    monkeypatch.setattr(checks, "size_of", size_of)
    monkeypatch.setattr(checks, "problem_of_corpus", lambda *ignored: "")
    monkeypatch.setattr(checks, "problems_of_inputs", lambda *ignored: [])
    monkeypatch.setattr(checks, "checked", parsed_lines)  # in this process
    monkeypatch.setattr(checks, "AT_ONCE", 1)  # as sys.argv is
    monkeypatch.setattr(cells, "checked_tests", tests)


# Study -> rows, columns and steps of its plan.
SIZES = {
    # Four tokenizers, data and models; seven tasks, two of them in five languages; five rows; three seeds.
    "foreign_small": (5, 15, 4 * 3 + 15 * 5 * 3),
    "transfer_small": (6, 9, 2 + 3 + 6 + 9 * 6 * 2 + 6 * 2),
    # Two tokenizers, three data, seven models; four tasks and two probes of all; two seeds.
    "new_language_small": (7, 4, 2 + 3 + 7 + 4 * 7 * 2 + 2 * 7),
    # One tokenizer and data, three models, five probes of each, two of VECO alone.
    "looking_small": (3, 0, 1 + 1 + 3 + 5 * 3 + 2),
    # One tokenizer and data; four models, and eleven objectives added to two of them; two tasks, four probes, one seed.
    "objectives_small": (26, 2, 1 + 1 + 26 + 2 * 26 + 4 * 26),
    "foreign_finetuning": (5, 8, 8 * 5),
    # One tokenizer, English in it and in five others, 17 models; twelve tasks, one of them in three languages; a probe.
    "transfer_to_english": (17, 14, 1 + 6 + 17 + 14 * 17 * 5 + 17),
}


@pytest.mark.parametrize("name", SIZES)
def test_shipped_studies_are_planned(name: str, tmp_path: Path) -> None:
    plan = plan_of(read_study(STUDIES / f"{name}.yaml"), tmp_path / "out")
    assert (len(plan.study.rows), len(plan.columns), len(plan.steps)) == SIZES[name]
    if name in CHECKS:
        CHECKS[name](plan)


def explained_studies() -> dict[str, str]:
    """The studies of the page and of --help, with what the page explains on its own: more models, and the probe."""
    study, taught, added, probes = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    help_text = (configuration.__doc__ or "").split("\n\n")[1]
    whole = with_more(yaml.safe_load(study), yaml.safe_load(added))
    learning = with_more(yaml.safe_load(study), yaml.safe_load(taught))
    learning |= {"table": {"models": ["large", "small"]}, "control": {"from": "small"}}
    return {
        "page": f"{study}\n{probes}",
        "page, a teacher": f"{yaml.safe_dump(learning, sort_keys=False)}\n{probes}",
        "page, a new language": f"{yaml.safe_dump(whole, sort_keys=False)}\n{probes}",
        "help": textwrap.dedent(help_text),
    }


def with_more(content: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A study with further entries in its sections."""
    return {**content, **{section: {**content[section], **entries} for section, entries in more.items()}}


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("page", ["en", "fi-en"]),
        ("page, a teacher", ["large", "small"]),
        ("page, a new language", ["en", "fi-en"]),
        ("help", ["en", "fi-en"]),
    ],
)
def test_explained_studies_are_planned(name: str, models: list[str], tmp_path: Path) -> None:
    (tmp_path / "tasks").symlink_to(STUDIES / "tasks")
    path = tmp_path / "mine.yaml"
    path.write_text(explained_studies()[name], encoding="utf-8")
    plan = plan_of(read_study(path), tmp_path / "out")
    probes = [step.name for step in plan.steps if step.name.startswith("probe")]
    assert probes == [f"probe syntax {model}" for model in models]


def test_every_shipped_study_is_tested() -> None:
    assert {path.stem for path in STUDIES.glob("*.yaml")} == set(SIZES)


def check_foreign_finetuning(plan: StudyPlan) -> None:
    """The published settings."""
    recipes = {run.name: run.recipe for column in plan.columns for run in column.plan.runs if run.recipe}
    found = {
        name: (
            recipe.epochs,
            recipe.learning_rate,
            recipe.batch_size,
            recipe.max_length,
            recipe.stride,
            recipe.patience,
        )
        for name, recipe in recipes.items()
    }
    assert found["squad-en-seed1"] == (3, 3e-5, 16, 384, 128, 0)
    assert found["squad-vi-seed1"] == (3, 3e-5, 16, 256, 85, 0)
    assert found["xnli-vi-de-seed1"][:4] == found["xnli-vi-vi-seed1"][:4] == (3, 3e-5, 32, 128)
    # The control has PhoBERT's positions in a Vietnamese column.
    assert found["squad-control-seed1"] == (30, 3e-5, 16, 384, 128, 5)
    assert found["viquad-control-seed1"] == (30, 3e-5, 16, 256, 85, 5)
    expected = {"warmup_share": 0, "warmup_steps": 0, "keep_best": 1, "lr_schedule": "linear"}
    for recipe in recipes.values():
        assert {name: getattr(recipe, name) for name in expected} == expected
    assert set(plan.study.averages) == {"questions", "inference"}
    assert recipes["faquad-control-seed1"].init_from.endswith("bert-base-portuguese-cased")


def check_transfer_to_english(plan: StudyPlan) -> None:
    """The published settings."""
    recipes = {run.name: run.recipe for column in plan.columns for run in column.plan.runs if run.recipe}
    for name, expected in {
        "cola": (3, 2e-5, 32, 128),
        "stsb_sv": (2, 4e-5, 128, 128),
        "scandisent-fi": (2, 4e-5, 128, 128),
    }.items():
        recipe = recipes[f"{name}-sv-en-seed5"]
        assert (recipe.epochs, recipe.learning_rate, recipe.batch_size, recipe.max_length) == expected
    for recipe in recipes.values():
        assert (recipe.warmup_share, recipe.warmup_steps, recipe.weight_decay, recipe.keep_best) == (0, 0, 0, 0)
    assert not any(column.task.dev_from_train for column in plan.columns)
    # GLUE's catalogue scores dev by itself; ScandiSent's test is what the paper calls validation.
    on_dev = {column.name for column in plan.columns if column.is_on_dev}
    assert on_dev == {"wic", "stsb_sv"}
    assert len(plan.study.averages["GLUE"]) == 9
    assert sum(step.name.startswith("probe syntax") for step in plan.steps) == 17
    steps = {step.name: step for step in plan.steps}
    convert, vocabulary = (steps[f"model {name}"].stages[0].command for name in ("sv", "sv-en"))
    assert convert[:2] == ("veco.convert", "bert") and vocabulary[:2] == ("veco.vocabulary", "change")
    assert vocabulary[2] == convert[3] and vocabulary[-1].endswith("wikipedia/sv.txt.gz")
    assert steps["model sv-en"].needs == ("model sv", "tokenizer en", "data en")
    assert steps["model sv-en-kept"].needs == ("model sv", "data en-in-sv")
    assert steps["data en-in-sv"].needs == ("model sv",)  # whose tokenizer it is
    pretraining = yaml.safe_load(plan.files[plan.places.recipe])
    # 128 segments in pairs of two.
    expected = {
        **{"learning_rate": 5e-5, "mono_batch_pairs": 64, "mono_max_length": 128, "steps": 210_000},
        **{"warmup_steps": 0, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "weight_decay": 0.0, "clip_norm": 1.0},
    }
    assert {name: pretraining[name] for name in expected} == expected


def check_new_language(plan: StudyPlan) -> None:
    """The commands that --list shows: pieces are added once, and four models learn from them by the same data."""
    script = [line for line in plan.script().splitlines() if line.startswith("python -m")]
    out = str(plan.places.output)
    (extended,) = [line for line in script if "veco.vocabulary" in line]
    assert extended.startswith(
        f"python -m veco.vocabulary extend {out}/models/base/pretrain/last {out}/models/extended/extend "
        f"--from-tokenizer {out}/tokenizers/fi/tokenizer --text"
    )
    assert extended.endswith("--rows focus --threads 1")
    training = [line for line in script if "pretrain.train" in line]
    going_on = [
        line for line in training if f"--data {out}/data/fi/data --init_from {out}/models/extended/extend" in line
    ]
    assert len(training) == 6 and len(going_on) == 4
    assert sum("--trains adapters" in line for line in going_on) == 2
    assert [script.index(line) for line in (training[0], extended, *going_on)] == sorted(
        script.index(line) for line in (training[0], extended, *going_on)
    )


CHECKS = {"new_language_small": check_new_language}
CHECKS |= {"foreign_finetuning": check_foreign_finetuning, "transfer_to_english": check_transfer_to_english}
