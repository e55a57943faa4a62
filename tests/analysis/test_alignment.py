"""The command: links in order, scores that follow from them, chosen layers, and one line for bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from copying_translator import write_copying_translator

from analysis import alignment
from analysis.aligning import aligner
from analysis.aligning.pairs import PairFiles
from analysis.aligning.scores import Counts

SOURCES = ["dog house tree", "", "red water", "the bread is white today", "bird", "stone night river town"]
TARGETS = ["hund haus baum", "rot", "wasser rot", "das brot ist heute weiss", "vogel", "stein nacht fluss stadt"]
GOLD = ["0-0 1-1 2-2", "", "0-1 1-0", "0-0 1-1 2p2 3-4 4-3", "0-0", "0-0 1-1 2-2 3-3"]
METHODS = "softmax,argmax,itermax,match"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["alignment", *map(str, arguments)])
    alignment.main()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    rows = zip(SOURCES, TARGETS, GOLD, strict=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def texts(tmp_path: Path) -> tuple[object, ...]:
    for name, lines in (("source", SOURCES), ("target", TARGETS)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ("--source", tmp_path / "source", "--target", tmp_path / "target")


def read_links(path: Path) -> list[list[tuple[int, ...]]]:
    lines = path.read_text().split("\n")[:-1]
    return [[tuple(map(int, link.split("-"))) for link in line.split()] for line in lines]


def test_scores_are_those_of_the_links_in_the_files(
    table: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of 4 pairs and batches of few tokens: neither shows."""
    monkeypatch.setattr(aligner, "BLOCK_PAIRS", 4)
    output = tmp_path / "found"
    call(monkeypatch, tiny_model, "--data", table, "--output", output, "--max-tokens", 40, "--methods", METHODS)
    assert "6 pairs aligned, " in capsys.readouterr().out
    found = json.loads((output / "alignment.json").read_text())
    gold = [pair.gold for pair in PairFiles([table], None, None, 0)]
    assert found["layers"] == [0, 1, 2] and found["pairs"] == 6 and found["pairs_per_second"] > 0
    assert set(found["aer"]) == {"0", "1", "2"}
    for method in METHODS.split(","):
        for layer in found["layers"]:
            links = read_links(output / f"links.{method}.layer{layer}.txt")
            assert len(links) == 6 and links[1] == []
            counts = sum((Counts.of(own, right) for own, right in zip(links, gold, strict=True)), Counts())
            scores = found["scores"][method][str(layer)]
            assert scores["aer"] == counts.aer and scores["links"] == counts.num_links
            assert scores["precision"] == counts.precision and scores["recall"] == counts.recall
        assert found["chosen"][method]["layers"][0] in found["layers"]
    assert found["aer"] == {layer: own["aer"] for layer, own in found["scores"]["softmax"].items()}
    assert {path.name for path in output.iterdir()} >= {"aer.png", "aer.svg", "alignment.csv", "alignment.md"}


def test_second_call_leaves_nothing_of_the_first(
    table: Path, texts: tuple[object, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found"
    call(monkeypatch, tiny_model, "--data", table, "--output", output, "--methods", "argmax,match", "--layers", "1,2")
    (output / "mine.txt").write_text("kept")
    call(monkeypatch, tiny_model, *texts, "--output", output, "--methods", "argmax", "--layers", "1")
    results = {"alignment.json", "alignment.csv", "alignment.md", "links.argmax.layer1.txt"}
    assert {path.name for path in output.iterdir()} == {*results, "mine.txt", ".made_by.tsv"}


def test_batches_do_not_show(
    texts: tuple[object, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gold links, the usual layer alone; a pair at a time or all at once."""
    for name, max_tokens in (("one", 2), ("all", 8000)):
        call(monkeypatch, tiny_model, *texts, "--output", tmp_path / name, "--max-tokens", max_tokens)
    names = {f"links.{method}.layer1.txt" for method in METHODS.split(",")}
    written = {path.name for path in (tmp_path / "one").iterdir()} - {".made_by.tsv"}
    assert written == names | {"alignment.json", "alignment.csv", "alignment.md"}
    for name in names:
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "all" / name).read_text()
    assert len(read_links(tmp_path / "one" / "links.match.layer1.txt")[3]) == 5


def test_plugged_in_words_and_a_layer_of_development(
    table: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (
        "--by",
        "plugged-states",
        "--units",
        "words",
        "--methods",
        "argmax",
        "--dev-data",
        table,
        "--layers",
        "1,2",
    )
    call(monkeypatch, tiny_model, "--data", table, "--output", tmp_path / "in", *flags)
    found = json.loads((tmp_path / "in" / "alignment.json").read_text())
    best = min(found["aer"], key=lambda layer: found["aer"][layer])
    assert found["chosen_on"] == "development" and found["by"] == "plugged-states"
    assert found["chosen"]["argmax"]["layers"] == [int(best)] * 2
    assert found["chosen"]["argmax"]["aer"] == found["aer"][best]
    call(monkeypatch, tiny_model, "--data", table, "--output", tmp_path / "out", *flags[2:])
    other = json.loads((tmp_path / "out" / "alignment.json").read_text())
    assert other["scores"] != found["scores"]


@pytest.mark.parametrize(("by", "threshold"), [("states", 0.001), ("cross-attention", 0.1)])
def test_the_threshold_of_softmax_follows_what_is_compared(
    by: str, threshold: float, table: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--data", table, "--by", by, "--methods", "softmax", "--layers", "1")
    call(monkeypatch, tiny_model, *flags, "--output", tmp_path / "usual")
    call(monkeypatch, tiny_model, *flags, "--threshold", threshold, "--output", tmp_path / "given")
    name = "links.softmax.layer1.txt"
    assert (tmp_path / "usual" / name).read_text() == (tmp_path / "given" / name).read_text()
    assert json.loads((tmp_path / "usual" / "alignment.json").read_text())["threshold"] == threshold


def test_a_translation_model_aligns_what_it_attends_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model made by hand, in which each target word that is read attends to the source word that it translates."""
    write_copying_translator(tmp_path / "model")
    rows = ["w1 w2 w3\tv3 v1 v2 v1\t2-0 0-1 1-2 0-3", "w4\tv4\t0-0", "w5 w6\tv6 v5\t1-0 0-1"]
    (tmp_path / "pairs.tsv").write_text("".join(f"{row}\n" for row in rows))
    flags: tuple[object, ...] = ("--data", tmp_path / "pairs.tsv", "--by", "decoder-attention")
    call(monkeypatch, tmp_path / "model", *flags, "--output", tmp_path / "reads")
    found = json.loads((tmp_path / "reads" / "alignment.json").read_text())
    assert found["methods"][0] == "each-target" and found["aer"] == {"1": 0.0} and found["decoder_state"] == "reads"
    assert found["scores"]["argmax"]["1"]["precision"] == 1 and found["scores"]["argmax"]["1"]["links"] == 6

    flags = (*flags, "--methods", "each-target", "--decoder-state", "predicts")
    call(monkeypatch, tmp_path / "model", *flags, "--output", tmp_path / "predicts")
    links = read_links(tmp_path / "predicts" / "links.each-target.layer1.txt")
    # The state that predicts a word has read the one before it; what the start attends to is not known.
    assert [[link for link in own if link[1]] for own in links] == [[(0, 2), (1, 3), (2, 1)], [], [(1, 1)]]
    assert json.loads((tmp_path / "predicts" / "alignment.json").read_text())["aer"]["1"] > 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--methods", "argmax,median"),
            "argmax,median: expected argmax, itermax, match, softmax, each-target, found",
        ),
        (("--methods", "argmax,argmax"), "expected each once"),
        (("--layers", "3"), "--layers 3: .* has layers 1 to 2, and 0, but no 3"),
        (
            ("--by", "cross-attention", "--layers", "0,1"),
            "--layers 0,1: 0, the embeddings, have no attention; expected 1",
        ),
        (("--distortion", "0.5", "--by", "cross-attention"), "--distortion 0.5: is of states; leave it out with --by"),
        (("--by", "decoder-attention"), "holds VecoForMaskedLM, expected VecoForConditionalGeneration"),
        (("--distortion", "2"), "--distortion 2.0: expected 0 to 1"),
        (("--methods", "softmax", "--distortion", "0.5"), "--distortion 0.5: is of the methods other than softmax"),
        (("--methods", "argmax,match", "--rounds", "3"), "--rounds 3: is of the method itermax; leave it out"),
        (("--methods", "argmax", "--threshold", "0.1"), "--threshold 0.1: is of the method softmax; leave it out"),
        (("--decoder-state", "predicts"), "--decoder-state predicts: is of --by decoder-attention; leave it out"),
        (("--first-index", "1"), "has a 0, but links count from 1"),
        (("--gold", "x"), "--data has sentences and links; leave out --gold"),
        (("--dev-source", "x"), "expected either --dev-data, or --dev-source and --dev-target"),
        (("--max-tokens", "0"), "argument --max-tokens: expected a whole number of at least 1, found 0"),
    ],
)
def test_bad_flags_are_refused(
    flags: tuple[str, ...],
    message: str,
    table: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, "--data", table, "--output", tmp_path / "found", *flags)
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_what_cannot_be_aligned_is_refused(
    texts: tuple[object, ...],
    encoder_directory: Callable[[str], Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = ("--output", tmp_path / "found")
    with pytest.raises(ValueError, match="expected --data, or --source and --target"):
        call(monkeypatch, tiny_model, *output)
    with pytest.raises(ValueError, match="a bert has no cross-attention to plug in"):
        call(monkeypatch, encoder_directory("bert"), *texts, *output, "--by", "plugged-states")
    with pytest.raises(ValueError, match="is in it; choose another --output"):
        call(monkeypatch, tiny_model, *texts, "--output", tmp_path)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "alignment.json").write_text("mine")
    with pytest.raises(ValueError, match="holds alignment.json, not written by analysis.alignment"):
        call(monkeypatch, tiny_model, *texts, *output)
