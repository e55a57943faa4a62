"""The command: numbers of all kinds by layer that agree with the model's vectors, figures, trees, and bad input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xtreme_files import GERMAN, write_lines

from analysis import languages
from analysis.comparing.cka import batches_of
from analysis.comparing.measures import Measure, VectorSet, compared
from analysis.comparing.procrustes import Rotation, rotated_accuracy
from analysis.comparing.retrieval import Variant, retrieval_accuracy
from finetune.understanding.retrieval.embeddings import Embedder

NAMES = ("en", "de", "mixed")
ALL_PARTS = "svcca,cka,pwcca,retrieval,classifier,procrustes"
FIGURES = ("languages", "accuracy", "matrix", "tree", "models")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["languages", *map(str, arguments)])
    languages.main()


def named(root: Path, *names: str) -> tuple[str, ...]:
    return tuple(f"{name}={root / name}.txt" for name in names)


def embedded(model: Path, root: Path, layers: list[int]) -> dict[str, np.ndarray]:
    """{language: (layers, sentences, D)} of all lines but the seventh, which is empty in German."""
    embedder = Embedder.load(model, layers, None, max_tokens=200)
    lines = {name: (root / f"{name}.txt").read_text().splitlines() for name in NAMES}
    return {name: embedder.embed(own[:6] + own[7:]) for name, own in lines.items()}


def test_everything_of_three_languages(
    translations: Path,
    tiny_model: Path,
    encoder_directory: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.figures.TEXT_IN_SVG", "none")
    output, text = tmp_path / "found", named(translations, *NAMES)
    flags = ("--compare", ALL_PARTS, "--plugged", "--batch-size", 10)
    other = ("--other-model", encoder_directory("bert"), "--other-layers", "0,3")
    call(monkeypatch, tiny_model, "--text", *text, "--output", output, *flags, *other)
    out, err = capsys.readouterr()
    assert "warning: svcca and pwcca: 39 sentences for vectors of width 32; with fewer than 10 for each" in err
    assert "## Means over all pairs by layer" in out and "## Pairs in layer 1" in out
    found = json.loads((output / "languages.json").read_text())
    assert found["layers"] == [0, 1, 2] and found["sentences"] == 39 and found["main_layer"] == 1

    vectors, others = (
        embedded(tiny_model, translations, [0, 1, 2]),
        embedded(encoder_directory("bert"), translations, [3]),
    )
    batches = batches_of(39, 10, seed=1)
    x, y = vectors["en"][2], vectors["mixed"][2]
    pair = found["pairs"]["2"]["en-mixed"]
    measures = compared(VectorSet(x, batches), VectorSet(y, batches), list(Measure))
    # With 39 sentences, rounding in directions of hardly any variance shows in canonical correlations.
    assert {name: pair[name] for name in measures} == pytest.approx(measures, abs=5e-3)
    assert pair["cka"] == pytest.approx(measures["cka"], abs=1e-4)
    for variant in Variant:
        assert pair[variant] == retrieval_accuracy(x, y, variant)
    assert pair["cosine"] > 0.5 and found["means"]["cosine"]["2"] == pytest.approx(
        np.mean([own["cosine"] for own in found["pairs"]["2"].values()])
    )
    assert found["classifier"]["chance"]["0"] == pytest.approx(1 / 3) and found["classifier"]["before"]["0"] > 0.6
    # The embeddings do not attend to anything.
    first = found["pairs"]["0"]["en-de"]
    assert first["h_s_first"] == first["h_s_second"] == pytest.approx(1) and first["s_s"] == pytest.approx(first["cka"])
    assert found["pairs"]["2"]["en-de"]["h_s_first"] < 0.9999
    of_models = compared(VectorSet(x, batches), VectorSet(others["en"][0], batches), [Measure.CKA])["cka"]
    assert set(found["models"]["2"]) == {"0", "3"}
    assert found["models"]["2"]["3"]["en"] == pytest.approx(of_models, abs=1e-4)

    with open(output / "languages.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["first"], row["second"]) for row in rows[:3]] == [
        ("0", "en", "de"),
        ("0", "en", "mixed"),
        ("0", "de", "mixed"),
    ]
    assert len(rows) == 9 and float(rows[7]["cka"]) == pair["cka"]
    for layer in (0, 1, 2):
        tree = (output / f"tree.layer{layer}.nwk").read_text()
        assert tree.endswith(");\n") and all(name in tree for name in NAMES)
    figures = {name: (output / f"{name}.svg").read_text() for name in FIGURES}
    for name, labels in {
        "languages": ("SVCCA", "CKA", "PWCCA", "en-mixed", "CKA, plugged out and in", "S of both"),
        "accuracy": ("translations found, %", "csls", "offset", "rotated", "languages told, %", "chance"),
        "matrix": ("SVCCA in layer 1", *NAMES),
        "tree": ("1 − SVCCA", "languages in layer 1", *NAMES),
        "models": ("CKA of two models", "layer of the model", "layer of the other model"),
    }.items():
        assert all(f">{label}<" in figures[name] for label in labels), name
        assert (output / f"{name}.png").stat().st_size > 5_000


def test_second_call_leaves_nothing_of_the_first(
    translations: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three languages, then one pair, of which there is no tree, and some of its sentences."""
    output = tmp_path / "found"
    call(monkeypatch, tiny_model, "--text", *named(translations, *NAMES), "--output", output, "--layers", "1")
    assert (output / "tree.layer1.nwk").is_file() and (output / "accuracy.png").is_file()
    (output / "mine.txt").write_text("kept")
    text = ("--text", *named(translations, "en", "de"))
    call(monkeypatch, tiny_model, *text, "--output", output, "--layers", "0,2", "--compare", "cka", "--sentences", 20)
    results = {f"languages.{end}" for end in ("json", "csv", "md", "png", "svg")} | {"matrix.png", "matrix.svg"}
    assert {path.name for path in output.iterdir()} == {*results, "mine.txt", ".made_by.tsv"}
    found = json.loads((output / "languages.json").read_text())
    assert found["sentences"] == 20 and set(found["pairs"]["2"]["en-de"]) == {"cka"} and found["classifier"] == {}


def test_rotation_of_a_dictionary_is_tested_on_all_sentences(
    translations: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of words, German first; the pair without a dictionary has no numbers."""
    write_lines(tmp_path / "words.tsv", [f"{german}\t{english}" for english, german in GERMAN.items()])
    text = ("--text", *named(translations, *NAMES), "--dictionary", f"de,en={tmp_path / 'words.tsv'}")
    flags = ("--compare", "procrustes", "--layers", "2")
    call(monkeypatch, tiny_model, *text, "--output", tmp_path / "found", *flags)
    found = json.loads((tmp_path / "found" / "languages.json").read_text())["pairs"]["2"]
    embedder = Embedder.load(tiny_model, [2], None, max_tokens=200)
    words = [embedder.embed(side)[0] for side in (list(GERMAN), list(GERMAN.values()))]
    vectors = embedded(tiny_model, translations, [2])
    x, y = vectors["en"][0], vectors["de"][0]
    right = rotated_accuracy(Rotation(x.mean(axis=0), y.mean(axis=0), Rotation.learned(*words).matrix), x, y)
    assert found["en-de"] == pytest.approx(right) and found["en-mixed"] == {}
    assert not (tmp_path / "found" / "matrix.png").exists()


def test_sentences_that_either_model_cuts_are_reported(
    translations: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--compare", "cka", "--layers", "1", "--other-layers", "2", "--max-length", "5", "--output", tmp_path)
    call(monkeypatch, tiny_model, "--text", *named(translations, "en", "de"), "--other-model", tiny_model, *flags)
    assert capsys.readouterr().err.count(" sentences cut to 5 tokens\n") == 2


def test_the_classifier_alone(
    translations: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ("--text", *named(translations, *NAMES))
    call(monkeypatch, tiny_model, *text, "--output", tmp_path, "--compare", "classifier", "--layers", "1")
    with open(tmp_path / "languages.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["layer", "before", "centred", "chance"] and float(row["before"]) > 0.6
    assert "Pairs" not in (tmp_path / "languages.md").read_text()
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {"accuracy"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--compare", "cka,rsa"), "--compare cka,rsa: expected cka, svcca, pwcca, retrieval, classifier, procrustes"),
        (("--sentences", "7"), "--sentences 7: expected at least 8"),
        (("--batch-size", "5"), "--batch-size 5: expected at least 8"),
        (("--dictionary", "en,fr=x"), "--dictionary x: --text has no fr, but en, de"),
        (("--dictionary", "en,de=x", "--compare", "cka"), "--dictionary: is for procrustes; add it to --compare"),
        (("--batch-size", "9", "--compare", "retrieval"), "--batch-size 9: is of cka, --plugged and --other-model"),
        (("--other-layers", "1"), "--other-layers: expected --other-model, whose layers they are"),
        (("--main-layer", "1", "--layers", "0,2"), "--main-layer 1: expected one of --layers 0,2"),
        (("--layers", "3"), "--layers 3: .* has layers 1 to 2, and 0, but no 3"),
    ],
)
def test_bad_flags_are_refused(
    flags: tuple[str, ...],
    message: str,
    translations: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = ("--text", *named(translations, "en", "de"))
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, *text, "--output", tmp_path / "found", *flags)
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_what_cannot_be_compared_is_refused(
    translations: Path,
    encoder_directory: Callable[[str], Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, output = ("--text", *named(translations, "en", "de")), ("--output", tmp_path / "found")
    with pytest.raises(ValueError, match="a bert has no cross-attention to plug in"):
        call(monkeypatch, encoder_directory("bert"), *text, *output, "--plugged")
    with pytest.raises(ValueError, match="--other-layers 4: .* has layers 1 to 3, and 0, but no 4"):
        other = ("--other-model", encoder_directory("bert"), "--other-layers", "4")
        call(monkeypatch, tiny_model, *text, *output, *other)
    (tmp_path / "short").write_text("a\nb\nc\n")
    short = ("--text", f"x={tmp_path / 'short'}", f"y={tmp_path / 'short'}")
    with pytest.raises(ValueError, match="3 sentences: expected at least 4 for CKA"):
        call(monkeypatch, tiny_model, *short, *output)
    with pytest.raises(ValueError, match="is in it; choose another --output"):
        call(monkeypatch, tiny_model, *text, "--output", translations)
