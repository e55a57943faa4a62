"""The command: shares that follow from the weights, figures with their labels, and one line for bad input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from copying_translator import write_copying_translator
from matplotlib import image

from analysis import attention, figures
from analysis.attending import reading
from analysis.attending.shares import METRICS

SOURCES = ["dog house tree", "", "red water", "the bread is white today", "bird", "stone night river town"]
TARGETS = ["hund haus baum", "rot", "wasser rot", "das brot ist heute weiss", "vogel", "stein nacht fluss stadt"]
PAIR = ("--sentence", "the bread is white", "--translation", "das brot ist $x^2$")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["attention", *map(str, arguments)])
    attention.main()


@pytest.fixture
def files(tmp_path: Path) -> tuple[object, ...]:
    for name, lines in (("source", SOURCES), ("target", TARGETS)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ("--source", tmp_path / "source", "--target", tmp_path / "target")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which takes seconds."""
    monkeypatch.setattr(figures, "save", lambda *_: None)


def check_figures(output: Path, labels: dict[str, list[str]]) -> None:
    """Every figure is there, is not of one colour, and has its labels: matplotlib writes each text in a comment."""
    assert {path.stem for path in output.glob("*.png")} == set(labels)
    for name, expected in labels.items():
        pixels = image.imread(output / f"{name}.png")[..., :3]
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
        svg = (output / f"{name}.svg").read_text(encoding="utf-8")
        for label in expected:
            assert f"<!-- {label} -->" in svg, (name, label)


def test_shares_and_maps_of_all_readings(
    files: tuple[object, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found"
    call(monkeypatch, tiny_model, *files, *PAIR, "--by", "plugged-out,tlm,plugged-in", "--output", output)
    found = json.loads((output / "attention.json").read_text())
    assert found["by"] == ["plugged-out", "tlm", "plugged-in"] and found["texts"] == 6 and found["layers"] == [1, 2]
    for by, present in (
        ("plugged-out", {"own", "special"}),
        ("tlm", {"own", "other", "special"}),
        ("plugged-in", {"other", "special"}),
    ):
        for layer in ("1", "2"):
            for side in ("all", "source", "target"):
                means = found["scores"][by][layer][side]
                assert {name for name in ("own", "other", "special") if means[name] is not None} == present
                assert sum(means[name] for name in present) == pytest.approx(1, abs=1e-6)
            heads = found["heads"][by][layer]
            assert len(heads) == 2
            for name in present:
                mean = sum(of_head[name] for of_head in heads) / 2
                assert mean == pytest.approx(found["scores"][by][layer]["all"][name], abs=1e-6)
            given = {metric: own[layer] for metric, own in found["means"][by].items()}
            of_all = found["scores"][by][layer]["all"]
            assert given == {metric: mean for metric, mean in of_all.items() if mean is not None}
    assert found["scores"]["tlm"]["1"]["all"]["uniform"] == found["scores"]["tlm"]["2"]["all"]["uniform"]
    with (output / "attention.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * (3 + 2)
    (row,) = (row for row in rows if (row["by"], row["layer"], row["head"]) == ("tlm", "2", "1"))
    assert float(row["other"]) == found["heads"]["tlm"]["2"][1]["other"] and list(row)[4:] == list(METRICS)
    words = ["the", "bread", "is", "white", "das", "brot", "ist", "$x^2$", "&lt;s&gt;"]
    check_figures(
        output,
        {
            "attention": ["weight on the other sentence, %", "tlm", "plugged-in", "tlm, if uniform", "layer"],
            "heads": ["tlm: on the other", "plugged-out: on its own sentence", "head", "weight, %"],
            **{f"map.{by}.layer1": [*words, "attends", "is attended to"] for by in found["by"]},
        },
    )
    assert [(one["by"], one["layer"], one["head"]) for one in found["maps"]] == [
        *[("plugged-out", 1, "mean")] * 2,
        ("tlm", 1, "mean"),
        *[("plugged-in", 1, "mean")] * 2,
    ]
    for one in found["maps"]:
        assert np.array(one["weights"]).sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_blocks_and_batches_do_not_show(
    files: tuple[object, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, block, max_tokens in (("few", 2, 20), ("all", 100, 8000)):
        monkeypatch.setattr(reading, "BLOCK_PAIRS", block)
        flags = ("--by", "tlm,plugged-in", "--max-tokens", max_tokens)
        call(monkeypatch, tiny_model, *files, *flags, "--output", tmp_path / name)
    few, whole = (json.loads((tmp_path / name / "attention.json").read_text())["scores"] for name in ("few", "all"))
    assert set(few) == {"tlm", "plugged-in"}
    for by, layers in few.items():
        for layer, sides in layers.items():
            for side, means in sides.items():
                assert means == pytest.approx(whole[by][layer][side], abs=1e-5)


def test_sentences_alone_and_chosen_layers_heads_and_pieces(
    encoder_directory: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found"
    flags = ("--layers", "3", "--heads", "mean,1", "--units", "pieces", "--output", output)
    call(monkeypatch, encoder_directory("bert"), "--sentence", "the 北京 house", *flags)
    found = json.loads((output / "attention.json").read_text())
    assert found["texts"] == 1 and set(found["scores"]["plugged-out"]) == {"3"}
    assert set(found["scores"]["plugged-out"]["3"]) == {"all", "source"}
    labels = ["[CLS]", "北", "京", "[SEP]"]
    check_figures(
        output,
        {
            "attention": ["weight on special tokens, %", "spread over the sentence, %"],
            "heads": ["plugged-out: on its own sentence"],
            **{f"map.plugged-out.layer3{head}": labels for head in ("", ".head1")},
        },
    )
    monkeypatch.setattr(figures, "save", lambda *_: None)
    call(monkeypatch, encoder_directory("bert"), "--sentence", "house", "--output", output)
    assert not list(output.glob("*.png")), "those of the first call are gone"
    found = json.loads((output / "attention.json").read_text())
    assert found["layers"] == [1, 2, 3] and [one["layer"] for one in found["maps"]] == [2], "the middle one"


def test_without_its_figures_a_command_has_not_finished(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has once its JSON is there."""

    def fail(_: object, paths: Sequence[Path]) -> None:
        if paths[0].name.startswith("map."):
            raise OSError("disk full")

    monkeypatch.setattr(figures, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        call(monkeypatch, tiny_model, *PAIR, "--by", "tlm", "--output", tmp_path / "found")
    assert not (tmp_path / "found" / "attention.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_translation_model_attends_to_what_it_translates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model made by hand: each word that is read attends to its source, or the one that was predicted before."""
    write_copying_translator(tmp_path / "model")
    pair = ("--sentence", "w1 w2 w3", "--translation", "v3 v1 v2")
    for state, expected in (("reads", ["w3", "w1", "w2"]), ("predicts", [None, "w3", "w1"])):
        flags = ("--by", "decoder", "--decoder-state", state, "--output", tmp_path / state)
        call(monkeypatch, tmp_path / "model", *pair, *flags)
        found = json.loads((tmp_path / state / "attention.json").read_text())
        (one,) = found["maps"]
        assert one["columns"] == ["<s>", "w1", "w2", "w3", "</s>"]
        best = {row: one["columns"][int(np.argmax(own))] for row, own in zip(one["rows"], one["weights"], strict=True)}
        for word, source in zip(("v3", "v1", "v2"), expected, strict=True):
            assert source is None or best[word] == source
        assert found["decoder_state"] == state and set(found["scores"]["decoder"]["1"]) == {"all", "target"}
    call(monkeypatch, tmp_path / "model", *pair[:2], "--by", "decoder", "--output", tmp_path / "own")
    (of_own,) = json.loads((tmp_path / "own" / "attention.json").read_text())["maps_of"]
    assert of_own["sentence"] == ["w1", "w2", "w3"] and of_own["translation"] is not None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected --source FILE, --sentence TEXT or both"),
        (("--sentence", "a", "--by", "tlm"), "--by tlm reads pairs: expected --translation beside --sentence"),
        (("--translation", "a", "--source", "{source}"), "--translation: expected --sentence too"),
        (("--source", "{source}", "--by", "plugged-in"), "--by plugged-in reads pairs: expected --target beside"),
        (("--sentence", " "), "--sentence and --translation: expected words in each"),
        (("--sentence", "a", "--translation", ""), "--sentence and --translation: expected words in each"),
        (("--sentence", "a", "--by", "all"), "--by all: expected plugged-out, tlm, plugged-in, decoder, found 'all'"),
        (("--sentence", "a", "--by", "tlm,decoder"), "decoder is of a translation model, the others of an encoder"),
        (("--sentence", "a", "--by", "decoder"), "holds VecoForMaskedLM, expected VecoForConditionalGeneration"),
        (("--sentence", "a", "--heads", "1,x"), "--heads 1,x: expected numbers from 0, or mean, found 'x'"),
        (("--sentence", "a", "--heads", "1,1"), "--heads 1,1: expected each once"),
        (("--sentence", "a", "--heads", "2"), "--heads 2: the model has heads 0 to 1"),
        (("--sentence", "a", "--layers", "0"), "--layers 0: 0, the embeddings, have no attention; expected 1 to 2"),
        (("--sentence", "a", "--layers", "3"), "--layers 3: .* has attention in layers 1 to 2, but no 3"),
        (("--source", "{empty}"), "empty: no line has a word; expected a sentence a line"),
        (("--source", "/dev/stdin"), "/dev/stdin: a pipe or device; name a file, since text is read twice"),
        (("--source", "{source}", "--units", "pieces"), "--units pieces: is of the heat maps of --sentence"),
        (("--sentence", "a", "--target-language", "de"), "--target-language de: is of --by decoder; leave it out"),
        (("--source", "{json}"), "json: JSON, expected plain text, one sentence a line"),
        (
            ("--sentence", "a", "--max-tokens", "0"),
            "argument --max-tokens: expected a whole number of at least 1, found 0",
        ),
    ],
)
def test_bad_flags_are_refused(
    flags: tuple[str, ...],
    message: str,
    files: tuple[object, ...],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "json").write_text('{"text": "a b"}\n')
    given = [flag.format(**{name: tmp_path / name for name in ("source", "empty", "json")}) for flag in flags]
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, *given, "--output", tmp_path / "found")
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_an_encoder_is_not_plugged_in(
    encoder_directory: Callable[[str], Path],
    files: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="a bert has no cross-attention to plug in; expected a VECO"):
        call(monkeypatch, encoder_directory("bert"), *files, "--by", "tlm,plugged-in", "--output", tmp_path / "found")
