"""Commands that succeed, fail, and are not run twice."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.reporting.analyses import Analysis, Job
from analysis.reporting.running import Task, read_record, run_tasks, task_of

# Writes the result that a task expects, appends a line to a file of its calls, and fails where its model says so.
SCRIPT = """
import json, pathlib, sys
model, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[-1])
with open(output.parent / "calls", "a") as calls:
    calls.write(output.name + "\\n")
print("a line of the log")
if (model / "fails").exists():
    sys.exit("warning: first\\nerror: there is no such thing")
output.mkdir(exist_ok=True)
(output / "probe.json").write_text("{}")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that stands for a command of `analysis`, where processes find it."""
    directory = tmp_path / "package"
    directory.mkdir()
    (directory / "probe_command.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(directory), *sys.path]))
    monkeypatch.setattr(Analysis, "command", "probe_command")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def tasks_of(root: Path, output: Path, names: Sequence[str], seed: str = "1") -> list[Task]:
    analysis = Analysis("probe", "Probes", "?", "files", lambda _: [], {})
    tasks = []
    for name in names:
        for kind in ("model", "other", "data"):
            (root / kind / name).mkdir(parents=True, exist_ok=True)
        reads = root / "data" / name / "text"
        if not reads.exists():
            reads.write_text("text")
        job = Job(name, root / "model" / name, [], [reads], [root / "other" / name])
        tasks.append(task_of(analysis, job, ["--seed", seed], output))
    return tasks


def calls(output: Path) -> list[str]:
    return (output / "calls").read_text().split()


@pytest.mark.usefixtures("package")
def test_one_that_fails_is_named_and_the_others_go_on(tmp_path: Path, output: Path) -> None:
    tasks = tasks_of(tmp_path, output, ["one", "bad", "two"])
    (tmp_path / "model" / "bad" / "fails").touch()
    outcomes = run_tasks(tasks, output)
    assert {name: outcome.error for name, outcome in outcomes.items()} == {
        "one": "",
        "bad": "error: there is no such thing",
        "two": "",
    }
    assert "a line of the log" in (output / "bad.log").read_text()
    assert (output / "one.log").read_text().startswith(f"\n=== one\n$ {tasks[0].typed}\n")
    assert tasks[0].typed == f"python -m probe_command {tmp_path}/model/one --seed 1 --output {output}/one"

    # Again: what failed, and nothing else.
    (tmp_path / "model" / "bad" / "fails").unlink()
    assert not any(outcome.error for outcome in run_tasks(tasks, output).values())
    assert calls(output) == ["one", "bad", "two", "bad"]
    assert run_tasks(tasks, output)["one"].seconds == outcomes["one"].seconds
    assert calls(output) == ["one", "bad", "two", "bad"]


@pytest.mark.usefixtures("package")
def test_what_has_changed_is_run_again(tmp_path: Path, output: Path) -> None:
    names = ["flags", "data", "weights", "before", "result", "same"]
    run_tasks(tasks_of(tmp_path, output, names), output)
    (tmp_path / "data" / "data" / "text").write_text("another text")
    (tmp_path / "model" / "weights" / "model.safetensors").write_text("new")
    (tmp_path / "other" / "before" / "model.safetensors").write_text("new")
    (output / "result" / "probe.json").unlink()
    tasks = tasks_of(tmp_path, output, ["flags"], seed="2") + tasks_of(tmp_path, output, names[1:])
    run_tasks(tasks, output)
    assert calls(output) == [*names, "flags", "data", "weights", "before", "result"]


@pytest.mark.usefixtures("package")
def test_results_of_before_do_not_pass_for_those_of_a_command_that_fails(tmp_path: Path, output: Path) -> None:
    (task,) = tasks_of(tmp_path, output, ["one"])
    run_tasks([task], output)
    (tmp_path / "model" / "one" / "fails").touch()
    assert run_tasks([task], output)["one"].error
    assert not task.stage.result.exists()


def test_a_record_of_others_is_refused(output: Path) -> None:
    assert read_record(output) == {}
    (output / "report.json").write_text(json.dumps({"one": {}}))
    assert read_record(output) == {"one": {}}
    (output / "report.json").write_text("{")
    with pytest.raises(ValueError, match="report.json: not what analysis.report wrote; remove it"):
        read_record(output)
