"""Two initialisations compared by the commands that a user types, on digits to copy; and again, when all is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from digits import digit_lines, write_digit_model, write_lines
from launching import run_module

from training.checkpoints.finding import checkpoints_of

pytestmark = pytest.mark.slow


def test_compare_and_compare_again(tmp_path: Path) -> None:
    write_digit_model(tmp_path / "model", hidden_size=16, num_layers=2)
    for part, number in (("train", 60), ("valid", 10), ("test", 4)):
        for language in ("en", "de"):
            write_lines(tmp_path / f"{part}.{language}", digit_lines(number, seed=number))
    recipe = {
        **{"output": "unused", "directions": "en-de", "engine": "plain", "ds_config": "cpu.json", "max_length": 32},
        **{
            f"{p}_{s}": str(tmp_path / f"{p}.{x}")
            for p in ("train", "valid")
            for s, x in (("source", "en"), ("target", "de"))
        },
        **{"steps": 4, "warmup_steps": 1, "save_every": 2, "log_every": 1, "keep_best": 1, "loader_workers": 0},
        **{"max_tokens": 128, "bleu_beam": 1, "best_by": "bleu"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    comparison = {
        "recipe": "recipe.yaml",
        "models": {name: {"init_from": str(tmp_path / "model"), "init": name} for name in ("pretrained", "random")},
        "decoders": ["last-1"],
        "seeds": [1],
        "baseline": "random",
        "average": {"best": 1},
        "test": {"source": str(tmp_path / "test.en"), "target": str(tmp_path / "test.de")},
        "generate": {"beam": 2},
    }
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(comparison, sort_keys=False))
    arguments = (str(tmp_path / "compare.yaml"), "--output", str(tmp_path / "out"))
    first = run_module("finetune.mt.compare", *arguments)
    assert first.returncode == 0, first.stderr[-3000:]
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| pretrained, last-1 | 1 |" in table and "| random, last-1 | 1 |" in table
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["results"]
    assert [[step for step, _ in result["curve"]["bleu"]] for result in results] == [[2, 4], [2, 4]]
    runs = tmp_path / "out" / "runs"
    assert list(checkpoints_of(runs / "random-last-1-seed1"))[-1] == 4
    assert len((runs / "random-last-1-seed1" / "test.hyp").read_text().splitlines()) == 4

    # Side by side in other processes, each run comes out the same.
    beside = (str(tmp_path / "compare.yaml"), "--output", str(tmp_path / "beside"), "--parallel", "2")
    assert run_module("finetune.mt.compare", *beside).returncode == 0
    assert (tmp_path / "beside" / "table.md").read_text(encoding="utf-8") == table
    assert "=== " in (tmp_path / "beside" / "runs" / "random-last-1-seed1" / "log.txt").read_text(encoding="utf-8")

    again = run_module("finetune.mt.compare", *arguments)
    assert again.returncode == 0 and again.stdout.count("done before") == 8
    assert (tmp_path / "out" / "table.md").read_text(encoding="utf-8") == table
