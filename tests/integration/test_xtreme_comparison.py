"""Two initialisations compared on XTREME by the commands that a user types; and again, when all is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from launching import run_module
from xtreme_files import write_model, write_xtreme

from finetune.understanding.evaluate import evaluate

pytestmark = pytest.mark.slow


def test_compare_and_compare_again(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    write_xtreme(data, num_train=20, num_test=6)
    for side, new in (("en", "en"), ("de", "fi")):  # another language to choose a layer on
        shutil.copyfile(data / f"tatoeba/tatoeba.de-en.{side}", data / f"tatoeba/tatoeba.fi-en.{new}")
    write_model(tmp_path / "model")
    comparison = {
        "data": str(data),
        "models": {name: {"init_from": str(tmp_path / "model"), "init": name} for name in ("pretrained", "random")},
        "tasks": ["pawsx", "tatoeba"],
        "seeds": [1],
        "languages": {"pawsx": ["de"]},
        "fields": {
            **{"engine": "plain", "ds_config": "cpu.json", "epochs": 0, "steps": 4, "save_every": 2},
            **{"batch_size": 8, "learning_rate": 5e-3, "max_length": 24, "log_every": 1, "loader_workers": 0},
        },
    }
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(comparison, sort_keys=False))
    arguments = (str(tmp_path / "compare.yaml"), "--output", str(output))
    first = run_module("finetune.understanding.compare", *arguments, "--parallel", "2")
    assert first.returncode == 0, first.stderr[-3000:]
    table = (output / "table.md").read_text(encoding="utf-8")
    assert "runs are done" not in table and "| PAWS-X, transfer, plug-out | accuracy |" in table
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))["results"]
    runs = {result["name"]: output / "runs" / result["name"] for result in results}
    assert list(runs) == [
        *("pawsx-transfer-plug-out-pretrained-seed1", "pawsx-transfer-plug-out-random-seed1"),
        *("tatoeba-pretrained", "tatoeba-random-seed1"),
    ]
    for result in results[:2]:
        run = runs[result["name"]]
        # Of the training the best model is left, and its scores are those of its predictions.
        assert (run / "model" / "model.safetensors").is_file() and not (run / "checkpoints").exists()
        assert json.loads((run / "outcome.json").read_text())["step"] in (2, 4)
        assert result["scores"] == evaluate(run / "predictions", data, ["de"]).scores["pawsx"]
        assert "=== " in (run / "log.txt").read_text(encoding="utf-8")
    assert (runs["tatoeba-random-seed1"] / "model" / "config.json").is_file()
    assert set(results[2]["layers"]) == {"de", "fi"}

    again = run_module("finetune.understanding.compare", *arguments)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("done before") == 3 + 3 + 1 + 2
    assert (output / "table.md").read_text(encoding="utf-8") == table
