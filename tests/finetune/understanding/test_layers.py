"""The layer of each language is that of the others: by hand, with embeddings of known layers, and as a command."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from finetune.understanding import evaluate, layers, predict
from finetune.understanding.layers import LayerScores, best_elsewhere, scores_of
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Similarity
from finetune.understanding.retrieval.retriever import Retriever
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named

TASKS = catalogue_named(XTREME).tasks

# Layer 4 is best over the others of German, 8 over those of Finnish and French. German's own best is 8.
BY_HAND = LayerScores([4, 8], {"de": [10.0, 90.0], "fi": [50.0, 20.0], "fr": [60.0, 80.0]})


def test_a_layer_is_chosen_without_the_scores_of_its_language() -> None:
    assert BY_HAND.chosen == {"de": (4, 10.0), "fi": (8, 20.0), "fr": (8, 80.0)}
    assert BY_HAND.averages == pytest.approx([40, 190 / 3])
    assert BY_HAND.average == pytest.approx(110 / 3)


def test_whatever_a_language_scores_its_layer_stays() -> None:
    drawn = np.random.default_rng(0).uniform(0, 100, size=(5, 7))
    scores = {f"l{number}": list(own) for number, own in enumerate(drawn)}
    for number, language in enumerate(scores):
        expected = int(np.delete(drawn, number, axis=0).mean(axis=0).argmax())
        assert best_elsewhere(scores, language) == expected
        assert best_elsewhere({**scores, language: list(100 - drawn[number])}, language) == expected


def test_of_equal_layers_the_lowest_in_any_order() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 when numbers are added up one by one."""
    scores = {"de": [0.0, 9.0], "fi": [0.3, 0.1], "fr": [0.2, 0.2], "it": [0.1, 0.3]}
    assert sum((0.3, 0.2, 0.1)) < 0.1 + 0.2 + 0.3
    assert best_elsewhere(scores, "de") == 0


def test_the_table() -> None:
    assert BY_HAND.markdown("Tatoeba, accuracy").splitlines() == [
        "| Tatoeba, accuracy | de | fi | fr | avg |",
        "| --- | --- | --- | --- | --- |",
        "| layer 4 | 10.0 | 50.0 | 60.0 | 40.0 |",
        "| layer 8 | 90.0 | 20.0 | 80.0 | 63.3 |",
        "| best layer of the others | 4 | 8 | 8 |  |",
        "| **with that layer** | 10.0 | 20.0 | 80.0 | 36.7 |",
    ]


class KnownEmbedder(Embedder):
    """Number i is the direction i in the second layer; in the first only even numbers are, the others are all alike."""

    def __init__(self) -> None:
        self.layers = [3, 7]
        self.asked: list[str] = []

    def embed(self, sentences: Sequence[str], name: str = "") -> np.ndarray:
        self.asked += sentences
        directions = [int("".join(filter(str.isdigit, sentence))) for sentence in sentences]
        right = np.eye(13, dtype=np.float32)[directions]
        blurred = np.eye(13, dtype=np.float32)[[d if d % 2 == 0 else 12 for d in directions]]
        return np.stack([blurred, right])


def write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize("similarity", Similarity)
def test_scores_of_known_layers(similarity: Similarity, tmp_path: Path) -> None:
    """Layer 3 finds the 6 even ones of 12 and, of the odd ones, which are all alike, 1 by chance; layer 7 finds all."""
    write(tmp_path / "tatoeba" / "tatoeba.de-en.de", [f"zahl {number}" for number in range(12)])
    write(tmp_path / "tatoeba" / "tatoeba.de-en.en", [f"number {number}" for number in range(12)])
    embedder = KnownEmbedder()
    ((_, found),) = scores_of(Retriever(TASKS["tatoeba"], embedder, similarity), ["de"], str(tmp_path))
    assert found == pytest.approx([7 / 12 * 100, 100])
    assert len(embedder.asked) == len(set(embedder.asked)) == 24


class LeaningEmbedder(Embedder):
    """Sentence i against `number i` has the cosine 0.9 in the first layer, 0.4 in the second; `noise i` 0.5 and 0.1."""

    def __init__(self) -> None:
        self.layers = [3, 7]

    def embed(self, sentences: Sequence[str], name: str = "") -> np.ndarray:
        cosines = {"zahl": (1.0, 1.0), "number": (0.9, 0.4), "noise": (0.5, 0.1)}
        vectors = np.zeros((2, len(sentences), 20), dtype=np.float32)
        for row, (kind, number) in enumerate(sentence.split() for sentence in sentences):
            for layer, cosine in enumerate(cosines[kind]):
                vectors[layer, row, int(number)] = cosine
                vectors[layer, row, 10 + int(number)] = (1 - cosine**2) ** 0.5
        return vectors


def test_thresholds_are_of_each_layer(tmp_path: Path) -> None:
    """BUCC, cosine: 4 pairs and 2 sentences without translations; 0.7 cuts in one layer, 0.25 in the other."""
    for split in ("dev", "test"):
        prefix = f"{tmp_path}/bucc2018/de-en.{split}."
        write(Path(prefix + "de"), [f"de-{number}\tzahl {number}" for number in range(6)])
        write(
            Path(prefix + "en"), [f"en-{number}\t{'number' if number < 4 else 'noise'} {number}" for number in range(6)]
        )
        write(Path(prefix + "gold"), [f"de-{number}\ten-{number}" for number in range(4)])
    found = scores_of(Retriever(TASKS["bucc2018"], LeaningEmbedder(), Similarity.COSINE), ["de"], str(tmp_path))
    assert list(found) == [("de", [100, 100])]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["layers", *map(str, arguments)])
    layers.main()


def in_language(name: str, language: str) -> str:
    """The file of another language that has the form of a German one."""
    return re.sub(r"\bde\b", language, name)


@pytest.fixture(scope="module")
def two_languages(xtreme_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The German sentences also as Finnish ones, some rows later, and BUCC's as French ones."""
    root = tmp_path_factory.mktemp("two")
    for path in (xtreme_data / "tatoeba").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        write(root / "tatoeba" / path.name, lines)
        write(root / "tatoeba" / in_language(path.name, "fi"), lines[3:] + lines[:2])
    for path in (xtreme_data / "bucc2018").iterdir():
        for language in ("de", "fr"):
            write(root / "bucc2018" / in_language(path.name, language), path.read_text(encoding="utf-8").splitlines())
    return root


@pytest.mark.parametrize("task", ["tatoeba", "bucc2018"])
def test_scores_are_those_of_predict_and_evaluate(
    task: str, two_languages: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--task", task, "--data", two_languages, "--similarity", "margin", "--centre")
    call(monkeypatch, tiny_model, *flags, "--output", tmp_path / "found")
    found = json.loads((tmp_path / "found" / f"{task}.json").read_text())
    for layer in (0, 1, 2):
        into = tmp_path / f"layer{layer}"
        monkeypatch.setattr(
            sys, "argv", ["predict", *map(str, (tiny_model, *flags, "--layer", layer, "--output", into))]
        )
        predict.main()
        scores = evaluate.evaluate(into, two_languages, catalogue_named(XTREME)).scores[task]
        assert found["layers"][str(layer)] == pytest.approx(
            {language: own[found["metric"]] for language, own in scores.items()}
        )
    assert set(found["chosen"]) == set(found["layers"]["0"]) - {"avg"}
    assert (tmp_path / "found" / f"{task}.md").read_text().count("| layer ") == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layers", "1,3"], "layer 3: .* has layers 1 to 2, and 0"),
        (["--layers", "one"], "--layers one: expected numbers separated by commas"),
        (["--languages", "de,xx"], "languages: tatoeba has no xx, only ar, he"),
        (["--languages", "de,nl"], "has no test file of tatoeba in nl"),
        (["--languages", "de,de"], "a layer is chosen on the other languages, and there is only de"),
    ],
)
def test_bad_flags_are_refused(
    flags: list[str],
    message: str,
    two_languages: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("--task", "tatoeba", "--data", two_languages, "--output", tmp_path / "found", *flags)
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, *arguments)
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_hidden_labels_are_refused(
    xtreme_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (xtreme_data / "tatoeba").iterdir():
        for language in ("de", "fi"):  # under XTREME's own names
            name = in_language(path.name.removeprefix("tatoeba."), language)
            write(tmp_path / "tatoeba" / name, path.read_text(encoding="utf-8").splitlines())
    arguments = ("--task", "tatoeba", "--data", tmp_path, "--output", tmp_path / "found", "--layers", "1")
    with pytest.raises(ValueError, match="the translations in 'de' are not known"):
        call(monkeypatch, tiny_model, *arguments)
