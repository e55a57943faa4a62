from pathlib import Path

import pytest

from data_tools.corpus import Corpus, Input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tokenizer directory and some empty text files."""
    (tmp_path / "tokenizer").mkdir()
    names = "a.de.txt b.de.txt.gz c.de.jsonl.zst p1.de p1.en p2.de p2.en x.tsv.gz t.tmx deep/er/f.txt odd[1].txt"
    for name in [*names.split(), "q.parquet"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def _load(folder: Path, text: str) -> Corpus:
    path = folder / "corpus.yaml"
    path.write_text(text, encoding="utf-8")
    return Corpus.load(path)


def test_all_forms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_TEST_FOLDER", str(folder))
    corpus = _load(
        folder,
        """
        tokenizer: tokenizer
        mono:
          de: ["?.de.*", "odd[1].txt"]
          fr: "${VECO_TEST_FOLDER}/**/f.txt"
        parallel:
          de-en:
            - {source: p*.de, target: p*.en}
            - {tsv: x.tsv.gz}
        """,
    )
    assert corpus.tokenizer == folder / "tokenizer"
    pair = ("de", "en")
    assert corpus.inputs == (
        Input(("de",), (folder / "a.de.txt",), "text"),
        Input(("de",), (folder / "b.de.txt.gz",), "text"),
        Input(("de",), (folder / "c.de.jsonl.zst",), "jsonl"),
        Input(("de",), (folder / "odd[1].txt",), "text"),
        Input(("fr",), (folder / "deep/er/f.txt",), "text"),
        Input(pair, (folder / "p1.de", folder / "p1.en"), "text"),
        Input(pair, (folder / "p2.de", folder / "p2.en"), "text"),
        Input(pair, (folder / "x.tsv.gz",), "tsv"),
    )
    assert [item.name for item in corpus.inputs[::7]] == ["mono/de", "parallel/de-en"]


def test_all_problems_are_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECO_NOT_SET", raising=False)
    with pytest.raises(ValueError) as error_info:
        _load(
            folder,
            """
            tokeniser: tokenizer
            mono:
              no: [a.de.txt]
              de: ["none*.txt", "${VECO_NOT_SET}/x.txt", deep, q.parquet, {hub: wikipedia}, 7]
              fr: []
              ../up: [a.de.txt]
            parallel:
              de_en: [{tsv: x.tsv.gz}]
              de-en: [{source: p*.de, target: p1.en}, {tmx: t.tmx}, {source: p1.de}]
              en-de: [{tsv: x.tsv.gz}]
            """,
        )
    message = str(error_info.value)
    for problem in (
        "unknown key 'tokeniser'; expected tokenizer, mono, parallel",
        "tokenizer: expected a directory",
        "mono: the key False is not text",
        "mono/de: none*.txt: no such file",
        "the environment variable VECO_NOT_SET is not set",
        "deep: a directory",
        "parquet files are not supported yet",
        "mono/de: hub is not supported yet",
        "mono/de: expected a file name or glob, found 7",
        "mono/fr: names no files",
        "mono/../up: expected a language code",
        "parallel/de_en: expected two languages",
        "p*.de matches 2 files, p1.en matches 1",
        "parallel/de-en: tmx is not supported yet",
        "parallel/de-en: expected {source: …, target: …} or {tsv: …}, found {'source': 'p1.de'}",
        "parallel/en-de: the same two languages come twice",
    ):
        assert problem in message, problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokenizer: tokenizer\nmono: {de: [a.de.txt, '?.de.txt']}", "mono/de: .*a.de.txt is named twice"),
        ("tokenizer: tokenizer\nmono:\n  de: a.de.txt\n  de: b.de.txt.gz", "line 3 not YAML as expected: key 'de'"),
        ("tokenizer: tokenizer", "names no text"),
        ("tokenizer: none\nmono: {de: a.de.txt}", "none: no such directory"),
        ("tokenizer: [", "not YAML"),
        ("- a", "found list"),
        ("", "found NoneType"),
        ("tokenizer: tokenizer\nmono: [a.de.txt]", "mono: expected languages and their files, found list"),
        ("tokenizer: tokenizer\nmono: {de: x.tsv.gz}", "holds pairs"),
        ("tokenizer: tokenizer\nparallel: {de-en: {source: c.de.jsonl.zst, target: p1.en}}", "source and target are"),
    ],
)
def test_single_problems(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _load(folder, text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: no such file"):
        Corpus.load(tmp_path / "none.yaml")
