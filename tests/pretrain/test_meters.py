from __future__ import annotations

import json
from pathlib import Path

import pytest

from pretrain.meters import Meters, read_metrics
from pretrain.step import StepMetrics


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


def test_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    record(tmp_path, range(1, 10), end_step=20)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "mono/ml')  # a killed run's last words
    record(tmp_path, range(5, 9), end_step=20)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 4, 8]


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
