"""The corpus of benchmarks/xtreme_corpus.py: which text goes in, and above all which does not."""

import gzip
import json
from pathlib import Path

import pytest
import yaml

from benchmarks.xtreme_corpus import make_corpus


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for language in ("en", "de", "fr"):
        write(root / f"mono/{language}.txt.gz", f"{language} text\n")
    for language in ("en", "de"):
        rows = [f"{language} premise\t{language} hypothesis {n}\tneutral\n" for n in range(3)]
        write(root / f"xtreme/xnli/train-{language}.tsv.gz", "".join(rows))
        write(root / f"xtreme/xnli/test-{language}.tsv.gz", f"{language} secret\t{language} secret\tneutral\n")
        write(root / f"mt/multi30k/train.{language}.gz", f"{language} caption\n")
    question = {"id": "1", "question": "who?", "answers": [{"text": "Ann", "answer_start": 0}]}
    article = {"title": "t", "paragraphs": [{"context": "Ann sings.", "qas": [question]}]}
    write(root / "xtreme/squad/train-v1.1.json", json.dumps({"data": [article]}))
    for language in ("sw", "en"):
        write(root / f"parallel/news/en-sw.{language}.gz", f"{language} news\n")
    return root


def test_corpus_holds_training_text_alone(source: Path, tmp_path: Path) -> None:
    make_corpus(source, tmp_path / "corpus")
    found = yaml.safe_load((tmp_path / "corpus/corpus.yaml").read_text())
    assert list(found["mono"]) == ["de", "en", "fr"]
    captions, news = source / "mt/multi30k", source / "parallel/news"
    assert found["parallel"] == {
        "de-en": [
            {"tsv": "pairs/de-en.tsv"},
            {"source": str(captions / "train.de.gz"), "target": str(captions / "train.en.gz")},
        ],
        "en-sw": [{"source": str(news / "en-sw.en.gz"), "target": str(news / "en-sw.sw.gz")}],
    }
    rows = (tmp_path / "corpus/pairs/de-en.tsv").read_text().splitlines()
    assert rows == ["de premise\ten premise", *(f"de hypothesis {n}\ten hypothesis {n}" for n in range(3))]


def test_source_without_xtreme_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no xnli/train-en.tsv; expected XTREME's layout"):
        make_corpus(tmp_path, tmp_path / "corpus")
