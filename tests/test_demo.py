"""The demo's stages, its estimates of time and its report, without running it: `make demo` takes minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from finetune import demo
from finetune.command_stages import Stage, run_stage
from finetune.demo import (
    RESULTS,
    Clock,
    TimedStage,
    check_unchanged,
    minutes,
    planned_seconds,
    progress,
    seconds_of_all,
    shared_steps,
    translation_steps,
)
from finetune.demo_report import INITS, first_and_last, first_translations, validations
from finetune.mt.recipe import TranslationRecipe
from finetune.steps import held
from pretrain.recipe import PretrainRecipe
from training.recipe.parsing import build_recipe, read_yaml


def all_steps(root: Path) -> list[TimedStage]:
    return [*shared_steps(root, 2, 1), *(step for init in INITS for step in translation_steps(root, init, 1))]


def test_every_input_of_a_stage_is_the_output_of_an_earlier_one(tmp_path: Path) -> None:
    made = [tmp_path]
    for stage in (step.stage for step in all_steps(tmp_path)):
        outputs = [stage.command[i + 1] for i, flag in enumerate(stage.command) if flag in ("--output", "--json")]
        for word in stage.command:
            path = Path(word)
            if word.startswith(str(tmp_path)) and path != stage.result and path not in stage.result.parents:
                known = any(path == other or path.is_relative_to(other) for other in made[1:])
                assert known or word in outputs, f"{stage.title}: {word} comes from nowhere"
        made += map(Path, outputs)


def test_finished_stage_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = all_steps(tmp_path)[0].stage
    stage.result.parent.mkdir(parents=True)
    stage.result.touch()
    run_stage(stage, 2)
    assert "done before" in capsys.readouterr().out
    assert list(stage.result.parent.iterdir()) == [stage.result]


def test_recipes_are_sound_and_both_initialisations_have_one_budget() -> None:
    build_recipe(PretrainRecipe, read_yaml(demo.PRETRAIN_RECIPE), demo.PRETRAIN_RECIPE)
    build_recipe(TranslationRecipe, read_yaml(demo.TRANSLATION_RECIPE), demo.TRANSLATION_RECIPE)
    pretrained, random = (translation_steps(Path("demo"), init, 1)[0].stage.command for init in INITS)
    different = {pair for pair in zip(pretrained, random, strict=True) if pair[0] != pair[1]}
    assert different == {("pretrained", "random"), ("demo/mt-pretrained", "demo/mt-random")}


def test_time_left_follows_the_pace_so_far(tmp_path: Path) -> None:
    steps = all_steps(tmp_path)
    assert planned_seconds(steps[:2]) == steps[0].seconds + steps[1].seconds
    steps[0].stage.result.parent.mkdir(parents=True)
    steps[0].stage.result.touch()
    assert planned_seconds(steps[:2]) == steps[1].seconds

    chains = {init: translation_steps(tmp_path, init, 1) for init in INITS}
    one = planned_seconds(chains["random"])
    assert seconds_of_all(steps[:2], chains, 2) == steps[1].seconds + one
    assert seconds_of_all(steps[:2], chains, 1) == steps[1].seconds + 2 * one

    clock = Clock(100.0)
    assert clock.left() == 100.0
    clock.note(20.0, 30.0)  # one and a half times the plan
    assert clock.left() == pytest.approx(1.5 * 80)
    clock.note(80.0, 60.0)
    assert clock.left() == 0
    assert [minutes(seconds) for seconds in (-3, 9.4, 61, 600)] == ["0:00", "0:09", "1:01", "10:00"]


def test_each_stage_prints_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, missing = tmp_path / "done", tmp_path / "missing"
    done.touch()
    steps = [TimedStage(Stage("a", ("nothing",), done), 60), TimedStage(Stage("b", ("no.such.module",), missing), 90)]
    clock = Clock(planned_seconds(steps))
    with pytest.raises(ValueError, match="b: exit code 1"):
        demo.run_in_turn(steps, clock, 2)
    told = capsys.readouterr().out
    assert told.count("left") == 1
    assert told.index("a: done before") < told.index("about 1:30 left") < told.index("=== b")


def start(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """The demo without its stages."""
    for name in ("run_stage", "run_step", "print_report"):
        monkeypatch.setattr(demo, name, lambda *ignored, **also_ignored: None)
    monkeypatch.setattr(sys, "argv", ["demo", *map(str, arguments)])
    demo.main()


def test_a_fresh_start_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "demo"
    for number in (1, 2):
        start(monkeypatch, "--output", output)
        (output / "text").mkdir()
        (output / "text" / "notes.txt").write_text("mine")
        start(monkeypatch, "--output", output, "--fresh")
        assert (tmp_path / f"demo.{number}" / "text" / "notes.txt").read_text() == "mine"
        assert not (output / "text").exists()


def test_a_demo_at_work_is_not_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "demo"
    start(monkeypatch, "--output", output)
    with held(output), pytest.raises(ValueError, match="demo: another call is at work in it"):
        start(monkeypatch, "--output", output, "--fresh")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("flags", [(), ("--fresh",)])
def test_directory_with_foreign_files_is_refused(
    tmp_path: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis" / "text").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds text, not written by finetune\.demo|was not made by the demo"):
        start(monkeypatch, "--output", tmp_path / "thesis", *flags)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["text", "thesis"]


def test_all_results_are_claimed(tmp_path: Path) -> None:
    assert {step.stage.result.relative_to(tmp_path).parts[0] for step in all_steps(tmp_path)} <= set(RESULTS)


def test_results_of_other_commands_or_recipes_are_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(monkeypatch, "--output", tmp_path / "demo")
    start(monkeypatch, "--output", tmp_path / "demo")  # a second call continues
    with pytest.raises(ValueError, match="made by other commands or recipes than this demo's; --fresh starts over"):
        start(monkeypatch, "--output", tmp_path / "demo", "--seed", 2)
    longer = tmp_path / demo.PRETRAIN_RECIPE.name
    longer.write_text(demo.PRETRAIN_RECIPE.read_text(encoding="utf-8") + "seed: 7\n", encoding="utf-8")
    check_unchanged(tmp_path, all_steps(tmp_path))
    steps = all_steps(tmp_path)
    monkeypatch.setattr(demo, "PRETRAIN_RECIPE", longer)
    with pytest.raises(ValueError, match="--fresh starts over"):
        check_unchanged(tmp_path, steps)


def write_metrics(run: Path, lines: list[dict[str, float]]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_progress_of_a_fine_tuning(tmp_path: Path) -> None:
    assert progress(tmp_path) == "starting"
    write_metrics(tmp_path, [{"step": 1}, {"step": 40}])
    assert progress(tmp_path) == "update 40"
    (tmp_path / "curves.png").touch()
    assert progress(tmp_path) == "trained"


def test_first_and_last_losses(tmp_path: Path) -> None:
    write_metrics(tmp_path, [{"step": step, "loss": float(step)} for step in range(1, 11)] + [{"step": 11, "other": 1}])
    assert first_and_last(tmp_path, "loss") == (1.0, 8.0)


def test_report_puts_translations_beside_their_references(tmp_path: Path) -> None:
    files = {"text/mt/test.en": "One.\nTwo.\n", "text/mt/test.de": "Eins.\nZwei.\n"}
    files |= {"mt-pretrained/test.de": "Eins.\nDrei.\n", "mt-random/test.de": ".\n..\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = first_translations(tmp_path, 2)
    names = ("English", "reference", "from pretrained weights", "from random weights")
    assert [tuple(row[name] for name in names) for row in shown] == [
        ("One.", "Eins.", "Eins.", "."),
        ("Two.", "Zwei.", "Drei.", ".."),
    ]
    write_metrics(tmp_path / "mt-random", [{"step": 50, "valid/nll": 2.5}, {"step": 60, "loss": 1.0}])
    assert validations(tmp_path, "random") == [(50, 2.5)]
