"""The study of a new language, run to its end with tiny models on the embedded corpus: Russian stands for Finnish."""

from __future__ import annotations

import gzip
import io
import json
import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from data_tools.toy_corpus.generate import write_corpus
from finetune.steps import Step
from finetune.study import __main__ as study_command
from finetune.study.checking import checks
from finetune.study.checking.flag_check import parsed_lines
from finetune.study.plan import plan_of
from finetune.study.reading import read_study

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")]
LANGUAGES = {"en": "en", "de": "de", "fr": "fr", "fi": "ru"}  # as the study calls them -> of the embedded corpus
WIDTH, LAYERS = 16, 2
ROWS = ["base", "extended", "adapter", "lora"]


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def write_files(root: Path) -> None:
    """The files that the study reads, under the names that it gives them."""
    toy = root / "toy"
    sizes = {"train": 200, "valid": 10, "test": 30}
    write_corpus(toy, documents=60, pairs=10, splits=sizes, seed=1, languages=[*LANGUAGES.values()], num_words=20)
    for language, own in LANGUAGES.items():
        write(root / f"mono/{language}.txt.gz", (toy / f"mono/{own}.txt").read_text().splitlines())
        write(root / f"mt/multi30k/train.{language}.gz", (toy / f"mt/train.{own}").read_text().splitlines())
        tests = (toy / f"mt/test.{own}").read_text().splitlines()
        for split in ("dev", "test"):
            rows = [row for line in tests for row in [*(f"{word}\t{tag_of(word)}" for word in line.split()), ""]]
            write(root / f"xtreme/udpos/{split}-{language}.tsv.gz", rows)
        if language != "en":
            for side, lines in ((language, tests), ("en", (toy / "mt/test.en").read_text().splitlines())):
                write(root / f"xtreme/tatoeba/tatoeba.{language}-en.{side}.gz", lines)


def tag_of(word: str) -> str:
    return "NOUN" if len(word) > 4 else "DET"


def tiny_study() -> dict[str, Any]:
    """The study with fewer and smaller models, one task, one probe and one seed."""
    text = (study_command.STUDIES / "new_language_small.yaml").read_text(encoding="utf-8")
    study: dict[str, Any] = yaml.safe_load(
        text.replace("tasks/pos.yaml", str(study_command.STUDIES / "tasks" / "pos.yaml"))
    )
    study["tokenizers"]["old"]["vocab_size"], study["tokenizers"]["fi"]["vocab_size"] = 300, 200
    shape = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": WIDTH}
    sizes = {"mono_max_length": 16, "mono_batch_pairs": 4, "bilingual_max_length": 24, "bilingual_batch_pairs": 4}
    study["pretraining"] |= {**shape, **sizes, "steps": 3, "warmup_steps": 1, "validate_every": 3, "log_every": 2}
    study["pretraining"] |= {"cpu_precision": "float32", "attention": "eager"}
    study["models"]["base"]["pretrain"] |= {"steps": 4, "warmup_steps": 1, "validate_every": 4}
    study["models"]["extended"]["extend"]["min_count"] = 2
    study["tasks"] = {"pos-fi": study["tasks"]["pos-fi"]}
    study["probes"] = {"retrieval": study["probes"]["retrieval"]}
    study["finetuning"] |= {"steps": 2, "save_every": 2, "max_length": 48, "cpu_precision": "float32"}
    return {**study, "seeds": [1], "table": {"models": ROWS, "baseline": "base"}}


def run_module(module: str, *words: str) -> str:
    """What `python -m MODULE WORDS` prints, in this process: each of its own would import torch anew."""
    shown = io.StringIO()
    # Where DeepSpeed is loaded, a training would end this process at once.
    stays, called = patch("training.launch.leave", sys.exit), patch.object(sys, "argv", [module, *words])
    with stays, called, redirect_stdout(shown):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, (module, words)
    return shown.getvalue()


def run_in_turn(steps: Sequence[Step], report: Callable[[], None], *others: Any, **also: Any) -> None:
    """The steps as `run_steps` does them, without processes of their own."""
    for step in steps:
        for stage in step.stages:
            run_module(*stage.command)
            assert stage.result.exists(), stage.title
        step.settle()
        report()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "checked", parsed_lines)
    monkeypatch.setattr(checks, "AT_ONCE", 1)  # as sys.argv is
    monkeypatch.setattr(study_command, "run_steps", run_in_turn)


@pytest.mark.usefixtures("in_process")
def test_the_study_of_a_new_language_ends_with_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "corpora")
    monkeypatch.setenv("VECO_CORPORA", str(tmp_path / "corpora"))
    path, output = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(tiny_study(), sort_keys=False), encoding="utf-8")
    study_command.run_study(plan_of(read_study(path), output), output, parallel=1)

    results = json.loads((output / "results.json").read_text())
    assert [(cell["model"], cell["kind"]) for cell in results["cells"]] == [
        *(("base", "foreign"), ("extended", "foreign"), ("adapter", "own"), ("lora", "own"))
    ]
    assert list(results["probes"]) == ROWS and len(results["probes"]["adapter"]) == 3
    costs = results["costs"]
    # Equal updates, and equal batches of a tokenizer, whatever learns.
    adapted = ["adapter", "lora", "everything"]
    assert {costs[name]["updates"] for name in adapted} == {3} and costs["base"]["updates"] == 4
    assert max(costs[name]["tokens"] for name in adapted) == pytest.approx(
        min(costs[name]["tokens"] for name in adapted)
    )
    # A bottleneck of 8 in each layer, and two functions of half a state, 4 wide inside.
    bottleneck, function = 2 * WIDTH * 8 + 8 + WIDTH, 2 * (WIDTH // 2) * 4 + 4 + WIDTH // 2
    # Matrices of rank 8 at four projections of self-attention and two of the feed-forward module.
    low_rank = 6 * 8 * (WIDTH + WIDTH)
    assert costs["adapter"]["trained"] == [LAYERS * bottleneck + 2 * function]
    assert costs["lora"]["trained"] == [LAYERS * low_rank]
    assert costs["everything"]["trained"][0] > costs["everything-kept"]["trained"][0] > LAYERS * low_rank
    table = (output / "table.md").read_text()
    assert "## Pre-training" in table and f"| {LAYERS * low_rank:,} |" in table and "steps are done" not in table
