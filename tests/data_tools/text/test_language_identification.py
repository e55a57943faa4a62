import pickle
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pytest
from language_models import NUM_THREADS, train_language_model

from data_tools.text.language_identification import LanguageIdentifier, read_labels

LABELS = {"__label__de", "__label__en", "__label__ru"}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> dict[str, Path]:
    """Model files of all layouts: as they are trained, quantised, and quantised in every way there is."""
    directory = tmp_path_factory.mktemp("models")
    paths = {name: directory / f"{name}.bin" for name in ("plain", "small", "smallest")}
    train_language_model(paths["plain"], {language: lines[::3] for language, lines in sentences.items()})
    few = {language: lines[::7] for language, lines in sentences.items()}
    model = train_language_model(paths["small"], few, loss="hs", wordNgrams=2, bucket=2000)
    model.quantize()
    model.save_model(str(paths["small"]))
    many = {f"{language}_{i}": [line] for language, lines in few.items() for i, line in enumerate(lines)}
    model = train_language_model(paths["smallest"], many, bucket=2000)
    model.quantize(str(paths["smallest"].with_suffix(".train.txt")), qnorm=True, qout=True, cutoff=300)
    model.save_model(str(paths["smallest"]))
    return paths


@pytest.mark.parametrize("name", ["plain", "small", "smallest"])
def test_labels_are_those_that_fasttext_reads(name: str, models: dict[str, Path]) -> None:
    assert list(read_labels(models[name])) == fasttext.load_model(str(models[name])).get_labels()


@pytest.mark.parametrize("name", ["plain", "small", "smallest"])
@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1])
def test_a_truncated_model_is_refused(name: str, share: float, models: dict[str, Path], tmp_path: Path) -> None:
    content = models[name].read_bytes()
    path = tmp_path / "cut.bin"
    path.write_bytes(content[: max(8, int(share * len(content)) - 1)])
    with pytest.raises(ValueError, match=r"cut\.bin: damaged or cut short \([\d,]+ bytes\); fetch it again"):
        read_labels(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"no model, but text", b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0"])
def test_a_file_that_is_not_a_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lid.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lid\.bin: not a fastText model; expected a file such as lid\.176\.bin"):
        read_labels(path)


def test_a_model_of_word_vectors_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("some words here and there\n" * 20)
    model = fasttext.train_unsupervised(str(text), dim=10, bucket=10, thread=NUM_THREADS, verbose=0)
    model.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(
        ValueError, match=r"vectors\.bin: a model of word vectors; expected a model for language identification"
    ):
        read_labels(tmp_path / "vectors.bin")


def test_probabilities_are_sums_over_labels(models: dict[str, Path], sentences: dict[str, list[str]]) -> None:
    lines = [line for group in sentences.values() for line in group[::50]] + ["", "12", "письмо on the table"]
    model = fasttext.load_model(str(models["plain"]))

    def expected(labels: set[str], line: str) -> float:
        predicted: tuple[Any, Any] = model.predict(line, k=3)
        return sum(p for label, p in zip(*predicted, strict=True) if label in labels)

    for labels in ({"__label__de"}, {"__label__de", "__label__ru"}, LABELS):
        found = LanguageIdentifier(models["plain"], frozenset(labels)).probabilities(lines)
        np.testing.assert_allclose(found, [expected(labels, line) for line in lines], atol=1e-5)


def test_languages_are_identified(
    models: dict[str, Path], sentences: dict[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    for language, lines in sentences.items():
        identifier = LanguageIdentifier(models["plain"], frozenset({f"__label__{language}"}))
        copy = pickle.loads(pickle.dumps(identifier))
        assert (copy.probabilities(lines[1::3]) > 0.5).mean() > 0.95
        assert identifier.probabilities([]).shape == (0,)
        line = lines[-1]
        assert identifier.probabilities([line.replace(" ", "\n")]) == pytest.approx(identifier.probabilities([line]))
    assert capfd.readouterr() == ("", "")
