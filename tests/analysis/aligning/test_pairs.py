"""Pairs with gold links from files: what is read, and what is refused before anything is aligned."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from analysis.aligning.pairs import PairFiles
from analysis.aligning.scores import Gold


def table(tmp_path: Path, *lines: str, first_index: int = 0) -> PairFiles:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return PairFiles([path], None, None, first_index)


def files(tmp_path: Path, first_index: int = 0, **texts: str) -> PairFiles:
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = {name: tmp_path / name for name in texts}
    return PairFiles([paths["source"], paths["target"]], paths.get("gold"), paths.get("possible"), first_index)


def test_sure_and_possible_links(tmp_path: Path) -> None:
    (pair,) = table(tmp_path, "a b\u00a0c  d\tx y\t0-0 1p1 2-1")
    assert pair.source == ["a", "b\u00a0c", "d"] and pair.target == ["x", "y"]
    assert pair.gold == Gold(frozenset({(0, 0), (2, 1)}), frozenset({(0, 0), (1, 1), (2, 1)}))
    (pair,) = files(tmp_path, source="a b\n", target="x y\n", gold="1-1\n", possible="1-1 2-2\n", first_index=1)
    assert pair.gold == Gold(frozenset({(0, 0)}), frozenset({(0, 0), (1, 1)}))


def test_without_links_and_compressed(tmp_path: Path) -> None:
    assert table(tmp_path, "a b\tx", "\tx").check() == (2, False)
    with gzip.open(tmp_path / "source.gz", "wt") as file:
        file.write("a\nb\n")
    (tmp_path / "target").write_text("x\ny\n")
    assert PairFiles([tmp_path / "source.gz", tmp_path / "target"], None, None, 0).check() == (2, False)


@pytest.mark.parametrize(
    ("line", "first_index", "message"),
    [
        ("a b\tx\t0-0 2-0", 0, "line 1: link 2-0 is of no word: the source has 2 words, 0 to 1; if .* --first-index 1"),
        ("a b\tx\t0-3", 0, "line 1: link 0-3 is of no word: the target has 1 words, 0 to 0$"),
        ("a b\tx\t3-1", 1, "line 1: link 3-1 is of no word: the source has 2 words, 1 to 2$"),
        ("a b\tx\t0-1", 1, "line 1: link 0-1 has a 0, but links count from 1; .* --first-index 0"),
        ("a b\tx\t0:0", 0, "line 1: expected links such as 0-0 1-2 or, possible, 3p4, found '0:0'"),
        ("a b", 0, "line 1: expected `source TAB target TAB links`, found 1 columns: 'a b'"),
    ],
)
def test_wrong_lines_are_refused(line: str, first_index: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        table(tmp_path, line, first_index=first_index).check()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target has 1 lines, .*source more; line i of each must belong together"):
        files(tmp_path, source="a\nb\n", target="x\n").check()
    with pytest.raises(ValueError, match="target: JSON, expected plain text, one sentence a line"):
        files(tmp_path, source="a\n", target='{"text": "x"}\n').check()
    with pytest.raises(ValueError, match="/dev/stdin: a pipe or device; name a file, since text is read twice"):
        PairFiles([Path("/dev/stdin"), tmp_path / "target"], None, None, 0).check()
    with pytest.raises(ValueError, match="empty; expected a pair of sentences a line"):
        files(tmp_path, source="", target="").check()
    with pytest.raises(ValueError, match="1 of 2 rows have links; expected all or none"):
        table(tmp_path, "a\tx\t0-0", "a\tx").check()


def test_links_that_may_count_from_1_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path, "a b c\tx y z\t1-1 2-2").check()
    assert "no link has a 0; if the file counts from 1, give --first-index 1" in capsys.readouterr().err
    table(tmp_path, "a b c\tx y z\t1-1 0-2").check()
    assert not capsys.readouterr().err


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="needs the corpora")
@pytest.mark.parametrize(
    ("language", "num_pairs", "num_sure"), [("fr", 423, 3794), ("ro", 236, 5980), ("zh", 428, 10715)]
)
def test_published_gold_links_are_read_as_what_they_are(language: str, num_pairs: int, num_sure: int) -> None:
    root = Path(os.environ["VECO_CORPORA"]) / "parallel" / "gold-align"
    texts = [root / f"en-{language}.{side}.gz" for side in ("en", language)]
    links = root / f"en-{language}.align.gz", root / f"en-{language}.align-all.gz"
    found = PairFiles(texts, *links, 0)
    assert found.check() == (num_pairs, True)
    assert sum(len(pair.gold.sure) for pair in found if pair.gold) == num_sure
    with pytest.raises(ValueError, match="has a 0, but links count from 1"):
        PairFiles(texts, *links, 1).check()
