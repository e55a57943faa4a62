"""The grid, what is done again and what is not, and the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.steps import held
from finetune.understanding import search
from finetune.understanding.search import GridPoint, GridRun, Outcome, grid_scores, table_of

TINY = (
    *("--engine", "plain", "--ds_config", "zero3_fp32.json", "--max_length", "24", "--loader_workers", "0"),
    *("--dropout", "0", "--attention_dropout", "0", "--warmup_share", "0.2"),
)


def write_outcome(directory: Path, run: GridRun, average: float) -> None:
    run_dir = directory / "runs" / run.name
    run_dir.mkdir(parents=True)
    outcome = {"step": 1, "average": average, "scores": {"average": average}}
    (run_dir / "outcome.json").write_text(json.dumps(outcome))


def test_means_over_seeds_best_first(tmp_path: Path) -> None:
    low, high = GridPoint(1e-5, 3, 16), GridPoint(2e-5, 3, 16)
    runs = [GridRun(point, seed) for point in (low, high) for seed in (1, 2, 3)]
    for run, average in zip(runs, (50, 60, 70, 60, 65, 70), strict=True):
        write_outcome(tmp_path, run, average)
    rows = grid_scores(runs, tmp_path)
    assert [row.point for row in rows] == [high, low]
    assert (rows[0].mean, rows[0].deviation) == (65, 5)
    assert table_of(rows).splitlines()[2:] == [
        "| 2e-05 | 3 | 16 | 65.00 ± 5.00 | 60.00, 65.00, 70.00 |",
        "| 1e-05 | 3 | 16 | 60.00 ± 10.00 | 50.00, 60.00, 70.00 |",
    ]
    # What is not finished with all seeds is not compared yet.
    assert [row.point for row in grid_scores([*runs, GridRun(low, 4)], tmp_path)] == [high]
    assert grid_scores([GridRun(high, 4)], tmp_path) == []


def test_the_grid_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["search", "--output", "o", "--task", "xnli", "--seeds", "1,2", "--dropout", "0"])
    options, recipe_arguments = search.parse_arguments()
    assert recipe_arguments == ["--task", "xnli", "--dropout", "0"]
    runs = search.grid(options, "transfer")
    assert len(runs) == len(set(runs)) == 5 * 3 * 3 * 2
    assert {run.point.learning_rate for run in runs} == {5e-6, 8e-6, 1e-5, 2e-5, 3e-5}
    translated = search.grid(options, "translate-train-all")
    assert {run.point.learning_rate for run in translated} == {5e-6, 6e-6, 7e-6, 8e-6, 9e-6}
    for words, flag in ((["--learning-rate=1e-5"], "learning-rates"), (["--batch_size", "8"], "batch-sizes")):
        monkeypatch.setattr(sys, "argv", ["search", "--output", "o", "--task", "xnli", *words])
        with pytest.raises(ValueError, match=f" is not a flag of the search; its grid has --{flag}"):
            search.parse_arguments()
    options.seeds = "1,2,1"
    with pytest.raises(ValueError, match="--seeds 1,2,1: expected each number once"):
        search.grid(options, "transfer")
    options.epochs = "3,five"
    with pytest.raises(ValueError, match="--epochs 3,five: expected numbers separated by commas"):
        search.grid(options, "transfer")


def test_finished_runs_of_a_search_are_not_repeated(
    xtreme_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """By the public command; called again, nothing is trained; a run whose outcome is gone is done again."""
    fields = ("--task", "pawsx", "--data", str(xtreme_data), "--init_from", str(tiny_model))
    grid = ("--learning-rates", "5e-3", "--epochs", "1", "--batch-sizes", "16", "--output", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["search", *fields, *grid, *TINY])
    search.main()
    content = json.loads((tmp_path / "search.json").read_text())
    (run,) = (tmp_path / "runs").iterdir()
    assert content["best"] == content["points"][0]["point"]
    assert capsys.readouterr().out == (tmp_path / "search.md").read_text()
    assert sorted(path.name for path in run.iterdir() if path.name in ("model", "checkpoints")) == ["model"]
    assert Outcome(**json.loads((run / "outcome.json").read_text())).step == 4

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(subprocess, "run", refuse)
    search.main()
    for field, value in (("warmup_share", "0.5"), ("task", "xnli"), ("init_from", str(tmp_path))):
        with monkeypatch.context() as changed:
            words = [*fields, *grid, *TINY]
            words[words.index(f"--{field}") + 1] = value
            changed.setattr(sys, "argv", ["search", *words])
            with pytest.raises(ValueError, match=f"was begun with other {field}; choose another --output"):
                search.main()
    with monkeypatch.context() as same:  # the directory by another name
        same.chdir(tmp_path)
        same.setattr(sys, "argv", ["search", *fields, *grid[:-1], ".", *TINY, "--resume"])
        search.main()
    (run / "outcome.json").unlink()
    with pytest.raises(AssertionError, match="started again"):
        search.main()


def test_a_search_is_of_one_task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished runs are of the file as it was; two searches in one directory would train the same runs."""
    task = tmp_path / "mine.yaml"
    text = (
        "head: sequence\nlanguages: [en]\nlabels: [a, b]\nmetrics: [accuracy]\n"
        "files: {train: 'train.tsv', dev: 'dev.tsv'}\nformat: {kind: tsv, text_a: 0, label: 1}\n"
    )
    task.write_text(text)
    monkeypatch.setattr(search, "run_all", lambda *arguments: None)
    fields = ("--task", str(task), "--data", str(tmp_path), "--init_from", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["search", *fields, "--output", str(tmp_path / "out"), *TINY])
    search.main()
    with held(tmp_path / "out"), pytest.raises(ValueError, match="another call is at work in it"):
        search.main()
    task.write_text(text.replace("accuracy", "macro_f1"))
    with pytest.raises(ValueError, match="was begun with other task file; choose another --output"):
        search.main()


def test_a_failed_run_is_reported_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys\nsys.exit('working\\nerror: no train file of pawsx\\nafterwards')\n")
    monkeypatch.setattr(search, "TRAIN", script)
    fields = ("--task", "pawsx", "--data", str(tmp_path / "nothing"), "--init_from", str(tmp_path))
    grid = ("--learning-rates", "5e-3", "--epochs", "1", "--batch-sizes", "16", "--output", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["search", *fields, *grid, *TINY])
    with pytest.raises(ValueError, match="1 of 1 runs failed: .*seed1 did not finish: no train file of pawsx .see"):
        search.main()


def test_a_point_that_the_recipe_refuses_is_found_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = ("--task", "pawsx", "--data", str(tmp_path), "--init_from", str(tmp_path), "--micro_batch_size", "32")
    grid = ("--batch-sizes", "32,16", "--output", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["search", *fields, *grid, *TINY])
    with pytest.raises(ValueError, match="batch_size 16 must be a multiple of micro_batch_size 32"):
        search.main()
    assert not (tmp_path / "out").exists()


def test_what_is_finished_is_reported_though_another_run_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys\nsys.exit('error: no more')\n")
    monkeypatch.setattr(search, "TRAIN", script)
    write_outcome(tmp_path / "out", GridRun(GridPoint(5e-3, 1, 16), 1), 70)
    (tmp_path / "out" / "runs.json").write_text("{}")
    fields = ("--task", "pawsx", "--data", str(tmp_path), "--init_from", str(tmp_path))
    grid = ("--learning-rates", "5e-3,6e-3", "--epochs", "1", "--batch-sizes", "16", "--output", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["search", *fields, *grid, *TINY])
    with pytest.raises(ValueError, match="1 of 2 runs failed: lr0.006"):
        search.main()
    assert "| 0.005 | 1 | 16 | 70.00 ± 0.00 | 70.00 |" in (tmp_path / "out" / "search.md").read_text()
    assert "| 0.005 | 1 |" in capsys.readouterr().out
