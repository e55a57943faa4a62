"""The demo's list of commands hangs together; `make demo` itself is run by hand and takes minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from finetune import demo
from finetune.demo import RESULTS, first_and_last, stages
from finetune.stages import run_stage


def test_every_input_of_a_stage_is_made_by_one_before(tmp_path: Path) -> None:
    made = [tmp_path]
    for stage in stages(tmp_path, 2):
        for word in stage.command:
            path = Path(word)
            if word.startswith(str(tmp_path)) and path != stage.result and path not in stage.result.parents:
                known = any(path == other or path.is_relative_to(other) for other in made[1:])
                outputs = [
                    stage.command[i + 1] for i, flag in enumerate(stage.command) if flag in ("--output", "--json")
                ]
                assert known or word in outputs, f"{stage.title}: {word} comes from nowhere"
        made += [Path(stage.command[i + 1]) for i, flag in enumerate(stage.command) if flag in ("--output", "--json")]


def test_stage_that_is_done_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = stages(tmp_path, 2)[0]
    stage.result.parent.mkdir(parents=True)
    stage.result.touch()
    run_stage(stage, 2)
    assert "done before" in capsys.readouterr().out
    assert list(stage.result.parent.iterdir()) == [stage.result]


def start(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """The demo without its stages."""
    for name in ("run_stage", "print_table", "draw"):
        monkeypatch.setattr(demo, name, lambda *ignored: None)
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


@pytest.mark.parametrize("flags", [(), ("--fresh",)])
def test_a_directory_of_something_else_is_left_alone(
    tmp_path: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis" / "text").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds text, not written by finetune\.demo|is no directory of the demo"):
        start(monkeypatch, "--output", tmp_path / "thesis", *flags)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["text", "thesis"]


def test_all_results_are_claimed(tmp_path: Path) -> None:
    start = stages(tmp_path, 2)
    assert {stage.result.relative_to(tmp_path).parts[0] for stage in start} <= set(RESULTS)


def test_first_and_last_losses(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": float(step)} for step in range(1, 11)] + [{"step": 11, "other": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert first_and_last(tmp_path, "loss") == (1.0, 8.0)
