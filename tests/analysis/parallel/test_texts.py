"""Rows of files and tables that belong together, and one line for those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.parallel import texts
from analysis.parallel.texts import ParallelText


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "en").write_text("one\n two \n\nfour\n")
    (tmp_path / "table").write_text("eins\tun\t0-0\nzwei\tdeux\ndrei\ttrois\nvier\t\n")
    return tmp_path


def test_rows_of_files_and_tables(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is behind the named columns is left out, and so are rows without a sentence in each language."""
    text = ParallelText.of_flag("text", [f"en={files / 'en'}", f"de,fr={files / 'table'}"])
    assert text.languages == ["en", "de", "fr"] and text.paths == [files / "en", files / "table"]
    assert text.pairs == [("en", "de"), ("en", "fr"), ("de", "fr")]
    assert list(text) == [(1, ("one", "eins", "un")), (2, ("two", "zwei", "deux"))]
    assert text.check() == 2
    assert capsys.readouterr().err == "2 lines left out, without a sentence in each language\n"
    monkeypatch.setattr(texts, "BLOCK_ROWS", 1)
    assert list(text.blocks()) == [[("one", "eins", "un")], [("two", "zwei", "deux")]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["en=x", "y"], "--text y: expected LANGUAGE=FILE, or LANGUAGE,LANGUAGE=FILE for a table"),
        (["en=x", "runs/lr=1e-5/y"], "--text runs/lr=1e-5/y: expected LANGUAGE=FILE"),
        (["en,=x"], "--text en,=x: expected LANGUAGE=FILE"),
        (["en=x", "de,en=y"], "--text: en is there twice; expected each language once"),
        (["en=x"], "--text: expected two languages or more, found only en"),
    ],
)
def test_bad_flags_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParallelText.of_flag("text", values)


def test_files_that_do_not_belong_together_are_refused(files: Path) -> None:
    (files / "short").write_text("a\nb\n")
    with pytest.raises(ValueError, match="short has 2 lines, .*en more; line i of each must belong together"):
        ParallelText.of_flag("text", [f"en={files / 'en'}", f"x={files / 'short'}"]).check()
    with pytest.raises(ValueError, match="table: line 2: expected columns for de, fr, x separated by tabs, found 2"):
        ParallelText.of_flag("text", [f"de,fr,x={files / 'table'}"]).check()
    (files / "rows").write_text('{"text": "one"}\n{"text": "two"}\n')
    with pytest.raises(ValueError, match="rows: JSON, expected plain text, one sentence a line"):
        ParallelText.of_flag("text", [f"de={files / 'rows'}", f"x={files / 'short'}"]).check()
    with pytest.raises(ValueError, match="/dev/stdin: a pipe or device; name a file, since text is read twice"):
        ParallelText.of_flag("text", ["de=/dev/stdin", f"x={files / 'short'}"]).check()
    (files / "one").write_text("\n\n\nx\n")
    with pytest.raises(ValueError, match="one: expected two lines or more with a sentence in each language, found 1"):
        ParallelText.of_flag("text", [f"x={files / 'one'}", f"en={files / 'en'}"]).check()
