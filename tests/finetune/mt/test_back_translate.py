"""The command that translates back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from launching import overriding
from toy_translation import sentences

from data_tools.cli import run_main
from finetune.mt.back_translate import main
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["back_translate", *arguments])
    run_main(main)


def test_command(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mono, source, target = tmp_path / "mono.txt", tmp_path / "bt.en", tmp_path / "bt.de"
    mono.write_text("\n".join([*sentences(9, 3), ""]) + "\n", encoding="utf-8")
    arguments = [str(model_dir), "--input", str(mono), "--target-language", "en", "--beam", "1"]
    outputs = ["--source-output", str(source), "--target-output", str(target)]
    command(monkeypatch, *arguments, *outputs, "--max-ratio", "50")
    synthetic, lines = (path.read_text(encoding="utf-8").splitlines() for path in (source, target))
    assert len(synthetic) == len(lines) > 0 and all(line.startswith("__bt__ ") for line in synthetic)
    translator = Translator.load(model_dir, SearchOptions(beam=1), target_language="en")
    expected = {line: found[0].text for line, found in zip(lines, translator.translate(lines), strict=True)}
    assert [f"__bt__ {expected[line]}" for line in lines] == synthetic
    told = capsys.readouterr().err
    assert f"{len(lines)} pairs from 10 lines; dropped:" in told and "1 empty lines" in told

    for wrong, message in (
        ([*outputs, "--tag", "<bt>"], "must look like __bt__"),
        ([*outputs[:3], str(source)], "are one file; choose another --target-output"),
        ([*outputs[:3], str(mono)], "mono.txt: is the input"),
        ([*outputs[2:], "--source-output", str(model_dir / "config.json")], "config.json: is the input"),
        ([*outputs[:3], str(tmp_path / "no" / "bt.de")], "there is no directory"),
        ([*outputs, "--max-ratio", "0.5"], "--max-ratio must be at least 1"),
        ([*outputs, "--target-language", "fr"], "no tag __fr__ in the tokenizer"),
        ([*outputs, "--input", "-"], "--input -: expected a regular file"),
        ([*outputs, "--workers", "0"], "--workers must be at least 1, found 0"),
        ([*outputs, "--engine", "ct2", "--dtype", "bfloat16"], "--dtype is for --engine torch"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command(monkeypatch, arguments[0], *overriding(*arguments[1:], *wrong))
        told = capsys.readouterr().err
        assert stopped.value.code == 2 and message in told and told.count("\n") == 1
