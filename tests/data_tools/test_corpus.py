from pathlib import Path

import pytest

from data_tools.corpus import Corpus
from data_tools.inputs import Input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tokenizer directory and some empty text files."""
    (tmp_path / "tokenizer").mkdir()
    names = "a.de.txt b.de.txt.gz c.de.jsonl.zst p1.de p1.en p2.de p2.en x.tsv.gz t.tmx o.zip deep/er/f.txt odd[1].txt"
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
          fr:
            - "${VECO_TEST_FOLDER}/**/f.txt"
            - {text: a.de.txt, split_sentences: true}
            - {jsonl: c.de.jsonl.zst, column: content, split_sentences: true}
            - {parquet: q.parquet}
            - {hub: some/wiki, config: "1.fr", split: "train[:1%]", revision: abc}
        parallel:
          de-en:
            - {source: p*.de, target: p*.en}
            - {tsv: x.tsv.gz}
            - {tmx: t.tmx}
            - {opus: o.zip}
            - {parquet: q.parquet, column: [german, english]}
            - {hub: deep}
        """,
    )
    assert corpus.tokenizer == folder / "tokenizer"
    pair = ("de", "en")

    def at(*names: str) -> tuple[str, ...]:
        return tuple(str(folder / name) for name in names)

    assert corpus.inputs == (
        Input(("de",), "text", at("a.de.txt")),
        Input(("de",), "text", at("b.de.txt.gz")),
        Input(("de",), "jsonl", at("c.de.jsonl.zst"), ("text",)),
        Input(("de",), "text", at("odd[1].txt")),
        Input(("fr",), "text", at("deep/er/f.txt")),
        Input(("fr",), "text", at("a.de.txt"), split_sentences=True),
        Input(("fr",), "jsonl", at("c.de.jsonl.zst"), ("content",), split_sentences=True),
        Input(("fr",), "parquet", at("q.parquet"), ("text",)),
        Input(("fr",), "hub", ("some/wiki",), ("text",), config="1.fr", split="train[:1%]", revision="abc"),
        Input(pair, "moses", at("p1.de", "p1.en")),
        Input(pair, "moses", at("p2.de", "p2.en")),
        Input(pair, "tsv", at("x.tsv.gz")),
        Input(pair, "tmx", at("t.tmx")),
        Input(pair, "opus", at("o.zip")),
        Input(pair, "parquet", at("q.parquet"), ("german", "english")),
        Input(pair, "hub", at("deep"), ("translation",), split="train"),
    )
    assert [item.name for item in corpus.inputs[::9]] == ["mono/de", "parallel/de-en"]
    assert corpus.valid == 0


def test_settings(folder: Path) -> None:
    corpus = _load(
        folder,
        """
        tokenizer: tokenizer
        valid: 0.25
        deduplicate: {exact: true}
        filters: {digits: 0.5}
        mono: {de: a.de.txt}
        """,
    )
    assert corpus.valid == 0.25
    assert corpus.deduplication.exact and corpus.deduplication.minhash is None
    assert corpus.filters.digits == 0.5


def test_the_tokenizer_may_be_yet_to_come(folder: Path) -> None:
    (folder / "corpus.yaml").write_text("tokenizer: none\nmono: {de: a.de.txt}")
    assert len(Corpus.load(folder / "corpus.yaml", needs_tokenizer=False).inputs) == 1


def test_all_problems_are_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECO_NOT_SET", raising=False)
    with pytest.raises(ValueError) as error_info:
        _load(
            folder,
            """
            tokeniser: tokenizer
            mono:
              no: [a.de.txt]
              de:
                - "none*.txt"
                - "${VECO_NOT_SET}/x.txt"
                - deep
                - 7
                - {text: a.de.txt, jsonl: c.de.jsonl.zst}
                - {text: a.de.txt, column: x}
                - {jsonl: c.de.jsonl.zst, column: [a, b], split_sentences: 1}
                - {hub: wiki, config: 20231101}
              fr: []
              ../up: [a.de.txt]
            parallel:
              de_en: [{tsv: x.tsv.gz}]
              de-en: [{source: p*.de, target: p1.en}, {tsv: x.tsv.gz, column: a}, {source: p1.de}]
              en-de: [{tsv: x.tsv.gz}]
            """,
        )
    message = str(error_info.value)
    for problem in (
        "unknown key 'tokeniser'; expected tokenizer, valid, filters, deduplicate, mono, parallel",
        "tokenizer: expected a directory",
        "mono: the key False is not text",
        "mono/de: none*.txt: no such file",
        "the environment variable VECO_NOT_SET is not set",
        "deep: a directory",
        "mono/de: expected an entry with one of text: …, jsonl: …, parquet: …, hub: …; found 7",
        "found {'text': 'a.de.txt', 'jsonl': 'c.de.jsonl.zst'}",
        "mono/de: text: unknown key 'column'; beside text expected only split_sentences",
        "mono/de: column: expected a column's name, found ['a', 'b']",
        "mono/de: split_sentences: expected true or false, found 1",
        "mono/de: config: expected text, found 20231101; put it in quotes",
        "mono/fr: names no files",
        "mono/../up: expected a language code",
        "parallel/de_en: expected two languages",
        "p*.de matches 2 files, p1.en matches 1",
        "parallel/de-en: tsv: unknown key 'column'; beside tsv expected nothing else",
        "parallel/de-en: expected a file name or glob, found None",
        "parallel/en-de: the same two languages come twice",
    ):
        assert problem in message, problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokenizer: tokenizer\nmono: {de: [a.de.txt, '?.de.txt']}", "mono/de: .*a.de.txt is named twice"),
        ("tokenizer: tokenizer\nmono:\n  de: a.de.txt\n  de: b.de.txt.gz", "line 4 not YAML as expected: key 'de'"),
        ("tokenizer: tokenizer", "names no text"),
        ("tokenizer: none\nmono: {de: a.de.txt}", "none: no such directory"),
        ("tokenizer: [", "not YAML"),
        ("- a", "found a list"),
        ("", "tokenizer: expected a directory"),
        ("tokenizer: tokenizer\nmono: [a.de.txt]", "mono: expected languages and their files, found list"),
        ("tokenizer: tokenizer\nmono: {de: x.tsv.gz}", "hold pairs; name it under parallel, as tsv: …"),
        ("tokenizer: tokenizer\nmono: {de: 'nope://x/y.txt'}", "mono/de: .*nope"),
        ("tokenizer: tokenizer\nvalid: 1\nmono: {de: a.de.txt}", r"valid: expected a share in \[0, 1\), found 1"),
        ("tokenizer: tokenizer\nfilters: {digit: 1}\nmono: {de: a.de.txt}", "filters: .*digit"),
        ("tokenizer: tokenizer\ndeduplicate: {exakt: true}\nmono: {de: a.de.txt}", "deduplicate: .*exakt"),
        ("tokenizer: tokenizer\nparallel: {de-en: {source: c.de.jsonl.zst, target: p1.en}}", "source and target are"),
    ],
)
def test_single_problems(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _load(folder, text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: no such file"):
        Corpus.load(tmp_path / "none.yaml")
