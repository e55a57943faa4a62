from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from training.plot import main, panel_of, plot_curves


@pytest.mark.parametrize(
    ("name", "panel"),
    [
        ("mono/mlm", ("mono", "mlm")),
        ("train/mono_mlm_accuracy", ("train accuracy", "mono_mlm")),
        ("valid/mono_mlm_perplexity", ("valid perplexity", "mono_mlm")),
        ("valid/mono_perplexity", ("valid perplexity", "mono")),
        ("valid/perplexity", ("valid", "perplexity")),
        ("language/de/mlm", ("language mlm", "de")),
        ("valid/de-en/tlm_accuracy", ("valid tlm accuracy", "de-en")),
        ("valid/bilingual_tlm", ("valid", "bilingual_tlm")),
        ("valid/nll", ("valid", "nll")),
        ("lr", ("lr", "lr")),
    ],
)
def test_each_metric_has_its_panel(name: str, panel: tuple[str, str]) -> None:
    assert panel_of(name) == panel


def test_picture_has_training_and_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"step": step, "mono/mlm": 1.0 / step, "lr": 0.1, "valid/de/mlm": 2.0, "memory_gib": 1.0, "samples": "00ff"}
        for step in (1, 2)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda axis, title: titles.append(title))
    assert plot_curves(tmp_path).read_bytes().startswith(b"\x89PNG")
    assert titles == ["mono", "valid mlm", "lr"]


def test_curves_of_an_unfinished_run_do_not_look_like_those_of_a_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Studies and the demo take curves.png for the end of a run."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "lr": 0.1}\n')
    monkeypatch.setattr(sys, "argv", ["plot", str(tmp_path)])
    main()
    assert [path.name for path in tmp_path.glob("*.png")] == ["curves_so_far.png"]
    plot_curves(tmp_path)  # as a run does at its end
    main()
    assert capsys.readouterr().out == f"{tmp_path}/curves_so_far.png\n{tmp_path}/curves.png\n"
