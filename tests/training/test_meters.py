from __future__ import annotations

import errno
import importlib.util
import json
import math
import os
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_tools.cli import one_line
from training.meters import Meters, WandbProject, read_metrics
from training.step import StepMetrics


def record(run_dir: Path, steps: range, end_step: int) -> None:
    meters = Meters(run_dir, log_every=4, start_step=steps.start - 1, end_step=end_step, enabled=True)
    for step in steps:
        metrics = StepMetrics({"mlm": float(step)}, grad_norm=None, learning_rate=0.1, num_tokens=8)
        meters.record(step, "mono" if step % 2 else "bilingual", metrics)
    meters.close()


def test_lines_hold_means_since_the_line_before(tmp_path: Path) -> None:
    record(tmp_path, range(1, 10), end_step=9)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 4, 8, 9]
    assert lines[3]["mono/mlm"] == (5 + 7) / 2 and lines[3]["bilingual/mlm"] == (6 + 8) / 2
    assert "grad_norm" not in lines[3] and "bilingual/mlm" not in lines[4]


def test_metrics_are_json_also_when_a_norm_is_infinite(tmp_path: Path) -> None:
    """As under fp16, whose loss scale is found by overflows; and a perplexity may be too large for a float."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    with Meters(tmp_path, 1, 0, 9, enabled=True) as meters:
        meters.record(1, "mono", StepMetrics({"mlm": 4.0}, grad_norm=math.inf, learning_rate=0.1, num_tokens=8))
        meters.event(1, "valid", {"perplexity": math.inf, "nll": math.nan, "loss": 1.0})
    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["grad_norm"] is None and lines[0]["mono/mlm"] == 4.0
    assert lines[1] == {"step": 1, "valid/perplexity": None, "valid/nll": None, "valid/loss": 1.0}
    assert read_metrics(tmp_path)[1] == {"step": 1, "valid/loss": 1.0}


def test_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Meters(tmp_path, 1, 0, 9, enabled=True) as meters, monkeypatch.context() as patch:
        patch.setattr(meters, "metrics_file", Full())
        with pytest.raises(OSError) as error:
            meters.event(1, "valid", {"nll": 1.0})
    assert one_line(error.value) == f"{tmp_path / 'metrics.jsonl'}: No space left on device"


def test_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    record(tmp_path, range(1, 10), end_step=20)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "mono/ml')  # a killed run's last words
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 4, 8]
    record(tmp_path, range(5, 9), end_step=20)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 4, 8]


def test_nothing_is_lost_after_an_error(tmp_path: Path) -> None:
    """TensorBoard's writer holds back what is less than two minutes old, and the bar hides the terminal's cursor."""
    with pytest.raises(FloatingPointError), Meters(tmp_path, 1, 0, 9, enabled=True) as meters:
        meters.record(1, "mono", StepMetrics({"mlm": 4.0}, grad_norm=None, learning_rate=0.1, num_tokens=8))
        raise FloatingPointError
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("mono/mlm")] == [4.0]
    assert not meters.progress.live.is_started


def test_time_lost_to_saves_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two updates of four seconds each, one of which is waiting, by a clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meters = Meters(tmp_path, log_every=4, start_step=2, end_step=4, enabled=True)
    for step in (3, 4):
        meters.restart_clock()
        with meters.waiting():
            now[0] += 1
        now[0] += 3
        meters.record(step, "mono", StepMetrics({"mlm": 1.0}, None, 0.1, 100))
        now[0] += 1000  # a save
    meters.close()
    (line,) = read_metrics(tmp_path)
    assert line["seconds"] == 8
    assert line["tokens_per_second"] == 200 / 8 and line["data_wait"] == 2 / 8
    assert line["memory_gib"] > 0


def test_what_is_noted_is_in_the_next_line_alone(tmp_path: Path) -> None:
    meters = Meters(tmp_path, log_every=2, start_step=2, end_step=6, enabled=True)
    meters.note({"parameters": 9})
    meters.note({"trained_parameters": 7})
    for step in range(3, 7):
        meters.record(step, "mono", StepMetrics({"mlm": 1.0}, None, 0.1, 8))
    meters.close()
    found = [(line["step"], line.get("parameters"), line.get("trained_parameters")) for line in read_metrics(tmp_path)]
    assert found == [(4, 9, 7), (6, None, None)]


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_watched_is_asked_on_every_rank(enabled: bool, tmp_path: Path) -> None:
    asked: list[float] = []
    meters = Meters(tmp_path, log_every=2, start_step=2, end_step=6, enabled=enabled)
    meters.watch(lambda seconds: asked.append(seconds) or {"language/de/mlm": 3.0, "samples": "00ff"}, until=9)
    for step in range(3, 7):
        meters.record(step, "mono", StepMetrics({"mlm": 1.0}, None, 0.1, 8))
    meters.close()
    assert len(asked) == 2 and min(asked) > 0
    if enabled:
        assert [(line["language/de/mlm"], line["samples"]) for line in read_metrics(tmp_path)] == [(3.0, "00ff")] * 2


def test_of_many_values_of_an_event_the_totals_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meters = Meters(tmp_path, log_every=4, start_step=0, end_step=4, enabled=True)
    meters.event(2, "valid", {"mono_mlm": 1.5, **{f"l{i}/mlm": float(i) for i in range(20)}})
    meters.event(3, "valid", {"nll": 2.5, "a/b": 1.0})
    meters.close()
    assert capsys.readouterr().err == "update 2: valid mono_mlm 1.5000\nupdate 3: valid nll 2.5000 a/b 1.0000\n"
    assert read_metrics(tmp_path)[0]["valid/l19/mlm"] == 19.0


def test_wandb_gets_the_same_if_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a module that notes what it is called with."""
    (tmp_path / "wandb.py").write_text(
        "calls = []\n"
        "class Run:\n"
        "    def log(self, values, step): calls.append(('log', step, values))\n"
        "    def finish(self): calls.append(('finish',))\n"
        "def init(**options): calls.append(('init', options)); return Run()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    other = Meters(run_dir, 1, 0, 1, enabled=False, wandb=WandbProject("veco"))
    other.close()
    meters = Meters(run_dir, 1, 0, 1, enabled=True, wandb=WandbProject("veco", {"steps": 1}))
    meters.watch(lambda seconds: {"samples": "00ff"}, until=9)
    meters.record(1, "mono", StepMetrics({"mlm": 1.0}, None, 0.1, 8))
    meters.close()
    import wandb

    (_, options), (_, step, values), last = wandb.calls
    del sys.modules["wandb"]
    assert options["project"] == "veco" and options["config"] == {"steps": 1} and options["resume"] == "allow"
    assert step == 1 and values["mono/mlm"] == 1.0 and "samples" not in values
    assert last == ("finish",)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wandb_project 'veco' needs wandb: pip install wandb"):
        Meters(tmp_path, 1, 0, 1, enabled=False, wandb=WandbProject("veco"))


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    meters = Meters(tmp_path, log_every=1, start_step=0, end_step=3, enabled=False)
    meters.record(1, "mono", StepMetrics({"mlm": 1.0}, None, 0.1, 8))
    meters.close()
    assert not list(tmp_path.iterdir())


def test_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is .* the directory of a run"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n")
    assert read_metrics(tmp_path) == [{"step": 1}]
