"""The command of sequence-level distillation: its pairs, stopped and started again, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import overriding
from toy_translation import sentences

from data_tools.cli import run_main
from finetune.mt import distil
from finetune.mt.decoding import input_lines
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_lines, "BLOCK_LINES", 4)


@pytest.fixture
def arguments(model_dir: Path, tmp_path: Path) -> list[str]:
    text = tmp_path / "train.de"
    text.write_text("\n".join([*sentences(9, 3), ""]) + "\n", encoding="utf-8")
    flags = {"input": text, "output": tmp_path / "out", "target-language": "en", "beam": 1, "max-ratio": 50}
    return [str(model_dir), *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["distil", *words])
    run_main(distil.main)


def texts_of(output: Path) -> tuple[list[str], list[str]]:
    source, target = ((output / name).read_text(encoding="utf-8").splitlines() for name in ("source.txt", "target.txt"))
    return source, target


def test_each_line_has_its_translation(
    model_dir: Path,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(monkeypatch, *arguments)
    source, target = texts_of(tmp_path / "out")
    lines = (tmp_path / "train.de").read_text(encoding="utf-8").splitlines()
    assert source == [line for line in lines if line in source], "in the order of the input"
    translator = Translator.load(model_dir, SearchOptions(beam=1), target_language="en")
    assert target == [found[0].text for found in translator.translate(source)]
    told = capsys.readouterr().err
    assert f"{len(source)} pairs from 10 lines" in told and "1 empty lines" in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("source.txt", "target.txt", "settings.json", ".made_by.tsv")
    }
    command(monkeypatch, *arguments)
    assert "all lines are translated already" in capsys.readouterr().err


def test_a_stopped_command_goes_on(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, *arguments)
    expected = texts_of(tmp_path / "out")
    again = [str(tmp_path / "again") if word == str(tmp_path / "out") else word for word in arguments]
    translate, seen = Translator.translate, []

    def counted(self: Translator, lines: list[str], *more: object) -> Iterator[object]:
        seen.append(len(lines))
        if seen == [4, 4]:
            raise KeyboardInterrupt
        return translate(self, lines, *more)

    monkeypatch.setattr(Translator, "translate", counted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        command(monkeypatch, *again)
    assert not (tmp_path / "again" / "source.txt").exists()
    seen[:] = []
    command(monkeypatch, *again)
    assert seen == [4, 2], "what was translated is not translated again"
    assert texts_of(tmp_path / "again") == expected
    with pytest.raises(SystemExit):
        command(monkeypatch, again[0], *overriding(*again[1:], "--beam", "2"))
    assert "was begun with another beam" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--max-ratio", "0.5"], "--max-ratio must be at least 1"),
        (["--input", "-"], "--input -: expected a regular file"),
        (["--workers", "0"], "--workers must be at least 1, found 0"),
        (["--target-language", "fr"], "no tag __fr__ in the tokenizer"),
        (["--output", "INPUT"], "is in it; choose another --output"),
        (["--output", "FILLED"], "source.txt"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: list[str],
    message: str,
) -> None:
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "source.txt").write_text("mine\n")
    places = {"INPUT": str(tmp_path), "FILLED": str(tmp_path / "filled")}
    words = [places.get(word, word) for word in wrong]
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, arguments[0], *overriding(*arguments[1:], *words))
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and message in told and told.count("\n") == 1
    assert (tmp_path / "filled" / "source.txt").read_text() == "mine\n"
