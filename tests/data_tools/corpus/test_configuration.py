import gzip
import os
from pathlib import Path

import pytest

from data_tools.corpus.configuration import Corpus
from data_tools.corpus.inputs import Input
from data_tools.readers import InputReader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tokenizer directory and some empty text files."""
    (tmp_path / "tokenizer").mkdir()
    names = "a.de.txt b.de.txt.gz c.de.jsonl.zst p1.de p1.en p2.de p2.en x.tsv.gz t.tmx o.zip deep/er/f.txt odd[1].txt"
    for name in [*names.split(), *["q.parquet", "y.csv", "z.NDJSON", "n.json"]]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def _load(folder: Path, text: str) -> Corpus:
    path = folder / "corpus.yaml"
    path.write_text(text, encoding="utf-8")
    return Corpus.load(path)


def test_every_kind_of_entry_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            - n.json
            - z.ND*
            - {tsv: x.tsv.gz, column: 3}
            - {csv: y.csv, column: content, split_sentences: true}
            - {hub: some/wiki, config: "1.fr", split: "train[:1%]", revision: abc}
        parallel:
          de-en:
            - {source: p*.de, target: p*.en}
            - {tsv: x.tsv.gz}
            - {tmx: t.tmx}
            - {opus: o.zip}
            - {parquet: q.parquet, column: [german, english]}
            - {tsv: x.tsv.gz, column: [2, 3]}
            - {csv: y.csv, column: [de, en]}
            - {tmx: t.tmx, codes: {de: de-CH}}
            - {hub: deep, codes: {en: eng_Latn, de: deu_Latn}}
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
        Input(("fr",), "jsonl", at("n.json"), ("text",)),
        Input(("fr",), "jsonl", at("z.NDJSON"), ("text",)),
        Input(("fr",), "tsv", at("x.tsv.gz"), (3,)),
        Input(("fr",), "csv", at("y.csv"), ("content",), split_sentences=True),
        Input(("fr",), "hub", ("some/wiki",), ("text",), config="1.fr", split="train[:1%]", revision="abc"),
        Input(pair, "moses", at("p1.de", "p1.en")),
        Input(pair, "moses", at("p2.de", "p2.en")),
        Input(pair, "tsv", at("x.tsv.gz")),
        Input(pair, "tmx", at("t.tmx")),
        Input(pair, "opus", at("o.zip")),
        Input(pair, "parquet", at("q.parquet"), ("german", "english")),
        Input(pair, "tsv", at("x.tsv.gz"), (2, 3)),
        Input(pair, "csv", at("y.csv"), ("de", "en")),
        Input(pair, "tmx", at("t.tmx"), codes=("de-CH", "en")),
        Input(pair, "hub", at("deep"), ("translation",), split="train", codes=("deu_Latn", "eng_Latn")),
    )
    assert [item.name for item in corpus.inputs[::13]] == ["mono/de", "parallel/de-en"]
    assert corpus.warnings == ()
    assert corpus.valid == 0


def test_filters_and_deduplication_are_read(folder: Path) -> None:
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


def test_the_tokenizer_need_not_exist_yet(folder: Path) -> None:
    (folder / "corpus.yaml").write_text("tokenizer: none\nmono: {de: a.de.txt}")
    assert len(Corpus.load(folder / "corpus.yaml", needs_tokenizer=False).inputs) == 1


def test_all_problems_are_reported_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
              de-en:
                - {source: p*.de, target: p1.en}
                - {tsv: x.tsv.gz, column: a}
                - {csv: y.csv}
                - {csv: y.csv, column: [1, en]}
                - {tsv: x.tsv.gz, column: [0, 1]}
                - {source: p1.de}
                - {tmx: t.tmx, codes: {fr: fr-CA}}
                - {opus: o.zip, codes: {de: 3}}
                - {tsv: x.tsv.gz, codes: {de: de-CH}}
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
        "mono/de: expected an entry with one of text: …, jsonl: …, parquet: …, tsv: …, csv: …, hub: …; found 7",
        "found {'text': 'a.de.txt', 'jsonl': 'c.de.jsonl.zst'}",
        "mono/de: text: unknown key 'column'; beside text expected only split_sentences",
        "mono/de: column: expected a column's name, found ['a', 'b']",
        "mono/de: split_sentences: expected true or false, found 1",
        "mono/de: config: expected text, found 20231101; put it in quotes",
        "mono/fr: no files given",
        "mono/../up: expected a language code",
        "parallel/de_en: expected two languages",
        "p*.de matches 2 files, p1.en matches 1",
        "de-en: column: expected 2 as numbers from 1, or as names in the first row of the file, found 'a'",
        "parallel/de-en: csv: say which column to read",
        "first row of the file, found [1, 'en']",
        "first row of the file, found [0, 1]",
        "parallel/de-en: codes: 'fr': not a language of this pair; expected de or en",
        "parallel/de-en: codes: expected the code of de or en in the file, for example {de: de-XX}, found {'de': 3}",
        "parallel/de-en: tsv: unknown key 'codes'; beside tsv expected only column",
        "parallel/de-en: expected a file name or glob, found None",
        "parallel/en-de: the same two languages are given twice",
    ):
        assert problem in message, problem


def test_files_declared_as_text_may_have_any_suffix(folder: Path) -> None:
    for name in ("a.srt", "a.odt.gz", "a.sgm"):
        (folder / name).write_bytes(gzip.compress(b"eins\n") if name.endswith(".gz") else b"eins\n")
    corpus = _load(
        folder,
        """
        tokenizer: tokenizer
        mono: {srt: {text: a.srt}, odt: {text: a.odt.gz}}
        parallel: {srt-sgm: {source: a.srt, target: a.sgm}}
        """,
    )
    read: list[object] = []
    for item in corpus.inputs:
        with InputReader(item, None) as reader:
            read.extend(reader.documents() if len(item.languages) == 1 else reader.pairs())
    assert read == [["eins"], ["eins"], ("eins", "eins")]
    with pytest.raises(ValueError, match="mono/srt: .*a.srt: by its suffix .srt subtitles, .* or rename it"):
        _load(folder, "tokenizer: tokenizer\nmono: {srt: a.srt}")


def test_minhash_without_documents_gives_a_warning(folder: Path) -> None:
    text = "tokenizer: tokenizer\ndeduplicate: {minhash: true}\nparallel: {de-en: [{source: p1.de, target: p1.en}]}\n"
    (warning,) = _load(folder, text).warnings
    assert warning.startswith("deduplicate: minhash compares documents of mono alone, and there are none; ")
    assert _load(folder, f"{text}mono: {{de: a.de.txt}}").warnings == ()


def test_paired_files_whose_names_do_not_match_give_a_warning(folder: Path) -> None:
    for name in ("q1.de", "q2.de", "q1.en", "q3.en"):
        (folder / name).touch()
    text = "tokenizer: tokenizer\nparallel: {de-en: [{source: %s, target: %s}]}"
    (warning,) = _load(folder, text % ("q*.de", "q*.en")).warnings
    assert warning.startswith("parallel/de-en: files are paired in sorted order, and the names of some do not match: ")
    assert warning.endswith(f"{folder}/q2.de with {folder}/q3.en")
    assert _load(folder, text % ("p*.de", "p*.en")).warnings == ()
    assert _load(folder, text % ("q2.de", "q3.en")).warnings == ()


def test_one_source_may_have_two_translations(folder: Path) -> None:
    (folder / "p3.de").symlink_to("p1.de")
    (folder / "p3.en").touch()
    corpus = _load(folder, "tokenizer: tokenizer\nparallel: {de-en: [{source: p*.de, target: p*.en}]}")
    assert len(corpus.inputs) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokenizer: tokenizer\nmono: {de: [a.de.txt, '?.de.txt']}", "mono/de: .*a.de.txt is given twice"),
        ("tokenizer: tokenizer\nmono:\n  de: a.de.txt\n  de: b.de.txt.gz", "line 4: key 'de'"),
        ("tokenizer: tokenizer", "no text: expected files"),
        (
            "tokenizer: tokenizer\nmono: {de: a.de.txt, deu_Latn: b.de.txt.gz}",
            "mono/deu_Latn: deu_Latn is the same language as de of mono/de; use one code for it",
        ),
        (
            "tokenizer: tokenizer\nparallel: {de-en: c.tsv, eng-deu: c.tsv}",
            "parallel/eng-deu: the same two languages are given",
        ),
        (
            "tokenizer: tokenizer\nmono: {de: a.de.txt}\nparallel: {deu-en: {tsv: x.tsv.gz}}",
            "corpus.yaml: parallel/deu-en: deu is the same language as de of mono/de; use one code for it$",
        ),
        (
            "tokenizer: tokenizer\nparallel: {de-en: {tsv: x.tsv.gz}, fr-eng: {tsv: x.tsv.gz}}",
            "corpus.yaml: parallel/fr-eng: eng is the same language as en of parallel/de-en; use one code for it$",
        ),
        (
            "tokenizer: tokenizer\nparallel: {zh_Hant-en: {tmx: t.tmx, codes: {zh_Hant: zh-TW, xx: a}}}",
            "zh_Hant-en: codes: 'xx': not a language of this pair; expected zh_Hant or en$",
        ),
        (
            "tokenizer: tokenizer\nparallel: {de-DE: c.tsv}",
            "parallel/de-DE: expected two languages .* as de-en or zh_CN-en",
        ),
        ("tokenizer: none\nmono: {de: a.de.txt}", "none: no such directory"),
        ("tokenizer: [", "not valid YAML"),
        ("- a", "found a list"),
        ("", "tokenizer: expected a directory"),
        ("tokenizer: tokenizer\nmono: [a.de.txt]", "mono: expected languages and their files, found list"),
        (
            "tokenizer: tokenizer\nmono: {de: x.tsv.gz}",
            "mono/de: .*x.tsv.gz: a table; .* {tsv: …, co",
        ),
        ("tokenizer: tokenizer\nmono: {de: {tsv: x.tsv.gz}}", "mono/de: tsv: say which column to read"),
        ("tokenizer: tokenizer\nmono: {de: t.tmx}", "hold pairs; in a corpus, name it under parallel, as tmx: …"),
        ("tokenizer: tokenizer\nmono: {de: news.tar.gz}", r"mono/de: .*news.tar.gz: by its suffix .tar an archive"),
        ("tokenizer: tokenizer\nmono: {de: {text: n.json}}", "mono/de: .*n.json: by its suffix jsonl, expected plain"),
        ("tokenizer: tokenizer\nmono: {de: pipe}", "mono/de: .*pipe: a pipe or device; name a file"),
        ("tokenizer: tokenizer\nmono: {de: [a.de.txt, link.txt]}", "link.txt is given twice, as .*a.de.txt, which is"),
        ("tokenizer: tokenizer\nmono: {de: [a.de.txt, hard.txt]}", "hard.txt is given twice, as .*a.de.txt, which is"),
        ("tokenizer: tokenizer\nmono: {de: 'nope://x/y.txt'}", "mono/de: .*nope"),
        ("tokenizer: tokenizer\nvalid: 1\nmono: {de: a.de.txt}", r"valid: expected a share in \[0, 1\), found 1"),
        ("tokenizer: tokenizer\nfilters: {digit: 1}\nmono: {de: a.de.txt}", "filters: .*digit"),
        ("tokenizer: tokenizer\ndeduplicate: {exakt: true}\nmono: {de: a.de.txt}", "deduplicate: .*exakt"),
        (
            "tokenizer: tokenizer\nparallel: {de-en: {source: c.de.jsonl.zst, target: p1.en}}",
            "expected plain text, one sentence a",
        ),
    ],
)
def test_a_problem_is_named(folder: Path, text: str, message: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "news.tar.gz").touch()
    (folder / "link.txt").symlink_to("a.de.txt")
    (folder / "hard.txt").hardlink_to(folder / "a.de.txt")
    with pytest.raises(ValueError, match=message):
        _load(folder, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: no such file"):
        Corpus.load(tmp_path / "none.yaml")
