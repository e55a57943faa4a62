"""The command: one page of all that the data allow, and one line for bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from entailment_models import write_task_model
from xtreme_files import NOUNS, german

from analysis import report
from analysis.reporting.model_summary import num_parameters, summary_of
from analysis.reporting.running import Outcome, Task
from finetune.steps import held
from veco import VecoForMaskedLM


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    report.main()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "text").mkdir(parents=True)
    words = [" ".join([*NOUNS][start : start + 5]) for start in range(8)]
    (root / "text" / "en.txt").write_text("".join(f"{line}\n" for line in words))
    (root / "text" / "de.txt").write_text("".join(f"{german(line)}\n" for line in words))
    (root / "AX-g.jsonl").write_text('{"premise": "x", "hypothesis": "y", "label": "entailment"}\n')
    return root


def test_a_page_of_what_the_data_and_the_model_allow(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    flags = (tiny_model, "--data", data, "--before", tiny_model, "--output", output)
    call(monkeypatch, *flags)
    page = (output / "report.html").read_text()
    assert f"python -m analysis.forgetting {tiny_model} --text de={data}/text/de.txt en={data}/text/en.txt" in page
    assert page.count("data:image/svg+xml;base64,") == 1
    result = output / "forgetting" / "forgetting.json"
    loss = json.loads(result.read_text())["scores"]["after"]["en"]["loss"]
    assert f'<td class="number">{loss:.3f}</td>' in page
    assert "treebank/train.conllu, treebank/dev.conllu, and treebank/test.conllu" in page  # which would be needed
    assert f"{tiny_model} was not fine-tuned for a task with the label entailment" in page
    assert f"python -m analysis.report {tiny_model} --data {data}" in page
    assert "--max-tokens" not in page  # each command has its own
    assert str(output / "report.html") in capsys.readouterr().out

    made_at = result.stat().st_mtime_ns
    call(monkeypatch, *flags)
    assert result.stat().st_mtime_ns == made_at
    assert f'<td class="number">{loss:.3f}</td>' in (output / "report.html").read_text()


def test_models_and_flags_are_passed_on(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entailment = write_task_model(tiny_model, "glue/rte", tmp_path / "rte")
    seen: list[str] = []

    def fail(tasks: Sequence[Task], output: Path) -> dict[str, Outcome]:
        seen.extend(task.typed for task in tasks)
        for task in tasks:
            task.log.touch()
        return {task.job.name: Outcome(1.0, "error: not run") for task in tasks}

    monkeypatch.setattr(report, "run_tasks", fail)
    flags = ("--data", data, "--entailment-model", entailment, "--seed", 3, "--dtype", "bfloat16", "--max-tokens", 99)
    for names in ("bias,forgetting", "bias"):
        with pytest.raises(ValueError, match="analyses failed"):
            call(monkeypatch, tiny_model, *flags, "--analyses", names, "--output", tmp_path / names)
    shared = "--dtype bfloat16 --seed 3 --max-tokens 99 --output"
    bias = f"python -m analysis.bias {entailment} --data {data}/AX-g.jsonl {shared}"
    assert seen[1:] == [f"{bias} {tmp_path}/bias,forgetting/bias", f"{bias} {tmp_path}/bias/bias"]
    assert seen[0].startswith(f"python -m analysis.forgetting {tiny_model} --text de=") and shared in seen[0]


def test_the_model_in_numbers(tiny_model: Path, tmp_path: Path) -> None:
    rows = dict(summary_of(tiny_model))
    model = VecoForMaskedLM.from_pretrained(tiny_model)
    assert num_parameters(tiny_model) == sum(parameter.numel() for parameter in model.parameters())
    assert rows["parameters in its files"] == f"{model.num_parameters():,}"
    assert (rows["kind"], rows["layers"], rows["width"], rows["vocabulary"]) == ("veco", "2", "32", "70")
    assert rows["longest text, tokens"] == "64" and rows["tokenizer"].endswith("70 pieces")
    assert "<mask>" in rows["special tokens"] and "fine-tuned for" not in rows
    assert dict(summary_of(write_task_model(tiny_model, "glue/rte", tmp_path / "rte")))["fine-tuned for"] == "rte"
    assert num_parameters(tmp_path) is None


def test_bad_input_is_refused_before_anything_is_run(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ("--output", tmp_path / "found")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        ("--data", tmp_path / "nowhere"): "--data .*nowhere: no such directory",
        ("--data", empty): "empty: nothing to analyse; expected, for attention: .*; alignment: alignment/NAME.tsv",
        ("--data", data, "--analyses", "syntax"): "nothing to analyse; expected, for syntax: treebank/train.conllu",
        ("--data", data, "--analyses", "all"): "--analyses all: expected attention, alignment, syntax, .*, found 'all'",
        (
            "--data",
            data,
            "--before",
            empty,
            "--analyses",
            "bias",
        ): "--before .*: is of the analysis forgetting",
        ("--data", data, "--before", empty): "empty: expected a model, a checkpoint or a run",
        ("--data", data, "--entailment-model", empty): "empty: expected a model, a checkpoint or a run",
    }
    for flags, message in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            call(monkeypatch, tiny_model, *flags, *output)
        assert "\n" not in str(error.value)
    with (
        held(tmp_path / "busy"),
        pytest.raises(ValueError, match="busy: another call is at work in it; wait for it"),
    ):
        call(monkeypatch, tiny_model, "--data", data, "--output", tmp_path / "busy")
    with pytest.raises(ValueError, match="--output .*: the input .* is in it"):
        call(monkeypatch, tiny_model, "--data", data, "--output", data)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "report.html").write_text("mine")
    with pytest.raises(ValueError, match=r"holds report.html, not written by analysis.report"):
        call(monkeypatch, tiny_model, "--data", data, *output)
    assert (tmp_path / "found" / "report.html").read_text() == "mine"
