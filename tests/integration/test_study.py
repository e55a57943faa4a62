"""A study of real commands, from text to the table; killed on the way, it comes out as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from launching import run_module
from xtreme_files import write_model, write_xtreme

pytestmark = pytest.mark.slow

TABLES = ("table.csv", "differences.csv", "table.svg", "learning_curves.svg")
KILLS = (  # when this has a line, and that is not there: in pre-training and fine-tuning; as the two others begin
    ("models/de/pretrain/metrics.jsonl", "models/de/pretrain/last"),
    ("models/de-en/log.txt", "models/de-en/vocabulary"),
    ("finetuning/pawsx-de-seed1/metrics.jsonl", "finetuning/pawsx-de-seed1/scores.json"),
    ("probes/masked-words-de-en/log.txt", "probes/masked-words-de-en/results"),
)
SHAPE = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}


def content(tmp_path: Path) -> dict[str, Any]:
    """Two models on toy text, one made of the other with a new vocabulary, and a control; one task, probe and seed."""
    text = tmp_path / "text" / "mono"
    finetuning = {"engine": "plain", "ds_config": "zero3_fp32.json", "cpu_precision": "float32", "attention": "eager"}
    return {
        "tokenizers": {
            name: {"text": name, "vocab_size": size, "character_coverage": 1.0}
            for name, size in (("de", 300), ("en", 290))
        },
        "data": {
            name: {"tokenizer": name, "mono": {name: f"{text}/{name}.txt"}, "valid": 0.1} for name in ("de", "en")
        },
        "pretraining": {
            **{"config": "xtreme_small", "objective": "mlm", "steps": 6, "save_every": 2, "validate_every": 3, **SHAPE},
            **{"warmup_steps": 1, "mono_batch_pairs": 4, "mono_max_length": 24, "log_every": 1},
            **{"cpu_precision": "float32", "attention": "eager"},
        },
        "models": {
            "de": {"pretrain": {"data": "de"}},
            "de-en": {
                **{"from": "de", "vocabulary": {"tokenizer": "en", "by": "random"}},
                "pretrain": {"data": "en", "steps": 4},
            },
        },
        "control": {"from": ["de"], "fields": {"epochs": 4, "patience": 1}},
        "tasks": {"pawsx": {"task": "pawsx", "languages": ["en"]}},
        "probes": {
            "masked-words": {
                "command": "analysis.forgetting",
                "flags": {"text": [f"de={text}/de.txt"], "pseudo_lines": 0},
                "results": {"bits": "forgetting.json:scores.model.de.bits_per_character"},
            }
        },
        "finetuning": {
            **{"data": str(tmp_path / "data"), **finetuning, "loader_workers": 0},
            **{"epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "max_length": 24, "log_every": 1},
        },
        "seeds": [1],
    }


def command(study: Path, output: Path) -> tuple[str, ...]:
    return ("finetune.study", str(study), "--output", str(output), "--parallel", "2")


def test_a_killed_study_comes_out_as_one_that_was_not(tmp_path: Path) -> None:
    write_xtreme(tmp_path / "data", num_train=20, num_test=8)
    toy = ("--languages", "de", "en", "--words", "5", "--documents", "60", "--pairs", "20", "--train", "10")
    assert run_module("data_tools.toy_corpus", *toy, "--output", str(tmp_path / "text")).returncode == 0
    study = tmp_path / "mine.yaml"
    study.write_text(yaml.safe_dump(content(tmp_path), sort_keys=False))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = run_module(*command(study, whole))
    assert first.returncode == 0, first.stderr[-3000:]
    table = (whole / "table.md").read_text(encoding="utf-8")
    assert "steps are done" not in table and "| control | *" in table and "| de-en | **" in table
    cells = json.loads((whole / "results.json").read_text())["cells"]
    assert [(cell["model"], cell["kind"]) for cell in cells] == [
        *(("de", "foreign"), ("de-en", "own"), ("control", "control")),
    ]
    differences = (whole / "differences.csv").read_text().splitlines()
    assert len(differences) == 3 and not any(line.endswith(",,,,,,") for line in differences)

    for reached, unfinished in KILLS:
        assert not (killed / reached).exists()
        process = subprocess.Popen(
            [sys.executable, "-m", *command(study, killed)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 300
        while not (killed / reached).exists() or not (killed / reached).read_text(encoding="utf-8"):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (killed / unfinished).exists()
    second = run_module(*command(study, killed))
    assert second.returncode == 0, second.stderr[-3000:]
    for name in TABLES:
        assert (killed / name).read_text(encoding="utf-8") == (whole / name).read_text(encoding="utf-8"), name
    results = [json.loads((output / "results.json").read_text()) for output in (whole, killed)]
    for one in results:
        for cost in one["costs"].values():
            assert cost.pop("seconds") > 0 and cost.pop("tokens") > 0, "which differ"
    assert results[0] == results[1]

    # Nothing is left to do; a changed step that is finished is refused, one more seed is not.
    again = run_module(*command(study, whole))
    assert again.returncode == 0 and "11 steps, 11 of them done before" in again.stdout and "#####" not in again.stdout
    changed = content(tmp_path)
    changed["pretraining"]["steps"] = 8
    study.write_text(yaml.safe_dump(changed, sort_keys=False))
    refused = run_module(*command(study, whole))
    told = refused.stderr.splitlines()[-1]
    assert refused.returncode == 2 and "run model de was begun with other pretraining.yaml" in told


def test_a_step_that_fails_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    """A model of other commands in place of one that pre-training would make: its step cannot begin."""
    write_xtreme(tmp_path / "data", num_train=20, num_test=8)
    write_model(tmp_path / "model")
    (tmp_path / "en.txt").write_text("one two three\n")  # too little for so many pieces
    study = tmp_path / "mine.yaml"
    small = content(tmp_path)
    small["data"] = {"en": {"tokenizer": "en", "mono": {"en": str(tmp_path / "en.txt")}}}
    small["pretraining"] |= {"hidden_size": 32}
    small["models"] = {
        "en": {"pretrain": {"data": "en"}},
        "found": {"from": str(tmp_path / "model"), "languages": ["en"]},
    }
    small |= {"seeds": [1], "control": {"from": "found", "fields": {"epochs": 1}}}
    study.write_text(yaml.safe_dump(small, sort_keys=False))
    result = run_module(*command(study, tmp_path / "out"))
    told = result.stderr.splitlines()[-1]
    assert result.returncode == 2 and told.startswith("error: 1 of 6 runs failed: tokenizer en: exit code")
    assert told.endswith("tokenizers/en/log.txt); left out for that: data en, model en, pawsx-en-seed1")
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| en | – | – |" in table and "| found | **" in table and "| control | *" in table
    assert len((tmp_path / "out" / "differences.csv").read_text().splitlines()) == 2
