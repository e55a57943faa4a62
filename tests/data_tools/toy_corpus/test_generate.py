"""The embedded corpus: the same files for the same seed, and held-out sentences that are in no other file."""

import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import yaml

from data_tools.files.directories import RECORD_NAME
from data_tools.toy_corpus import LANGUAGES, generate_documents, generate_pairs, generate_quadruples, realise
from data_tools.toy_corpus.clauses import MIN_WORDS
from data_tools.toy_corpus.generate import write_corpus
from data_tools.toy_corpus.meaning import Clause, Kind, Sentence

LANGUAGE_PAIRS = [("de", "en"), ("de", "fr"), ("de", "ru"), ("en", "fr"), ("en", "ru"), ("fr", "ru")]
SPLITS = {"train": 60, "valid": 20, "test": 20}


def test_streams_follow_the_seed() -> None:
    assert list(generate_quadruples(30, 1)) == list(generate_quadruples(30, 1))
    assert list(generate_quadruples(30, 1)) != list(generate_quadruples(30, 2))
    assert list(generate_documents("ru", 3, 1)) == list(generate_documents("ru", 3, 1))
    assert list(generate_documents("ru", 3, 1)) != list(generate_documents("ru", 3, 2))
    pairs = list(generate_pairs("de", "fr", 30, 1))
    assert pairs == [(quadruple["de"], quadruple["fr"]) for quadruple in generate_quadruples(30, 1)]


def test_excluded_sentences_do_not_occur() -> None:
    first = list(generate_quadruples(50, 3))
    excluded = {first[0]["en"], first[1]["ru"]}
    again = list(generate_quadruples(50, 3, excluded))
    assert again[:48] == first[2:]
    [document] = generate_documents("de", 1, 4)
    [shorter] = generate_documents("de", 1, 4, {document[0]})
    assert shorter == document[1:]


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="no language 'xx'"):
        realise(Sentence(Clause(Kind.WEATHER, verb="rain")), "xx")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpus")
    write_corpus(directory, documents=40, pairs=50, splits=SPLITS, seed=1)
    return directory


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_same_seed_same_bytes(corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "same", documents=40, pairs=50, splits=SPLITS, seed=1)
    write_corpus(tmp_path / "other", documents=40, pairs=50, splits=SPLITS, seed=2)
    files = sorted(
        path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file() and path.name != RECORD_NAME
    )
    assert len(files) == 4 + 2 * len(LANGUAGE_PAIRS) + 3 * 4 + 1
    for name in files:
        assert (corpus / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
        if name.suffix != ".yaml":
            assert (corpus / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_files_of_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mono").mkdir()
    (tmp_path / "mono" / "en.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds mono/en\.txt, not written by data_tools\.toy_corpus"):
        write_corpus(tmp_path, documents=3, pairs=4, splits={"test": 2}, seed=1, languages=["ru", "en"])
    assert (tmp_path / "mono" / "en.txt").read_text() == "mine"
    for seed in (1, 2):  # its own it may replace
        write_corpus(tmp_path, documents=3, pairs=4, splits={"test": 2}, seed=seed, languages=["ru", "de"])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_some_of_the_languages(tmp_path: Path) -> None:
    write_corpus(tmp_path, documents=3, pairs=4, splits={"test": 2}, seed=1, languages=["ru", "en"])
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    pairs = {"parallel/en-ru.en", "parallel/en-ru.ru"}
    assert files == {RECORD_NAME, "corpus.yaml", "mono/en.txt", "mono/ru.txt", "mt/test.en", "mt/test.ru"} | pairs
    written = yaml.safe_load((tmp_path / "corpus.yaml").read_text(encoding="utf-8"))
    assert list(written["mono"]) == ["ru", "en"] and list(written["parallel"]) == ["en-ru"]
    with pytest.raises(ValueError, match="no language 'xx'"):
        write_corpus(tmp_path, documents=3, pairs=4, splits={}, seed=1, languages=["xx"])
    with pytest.raises(ValueError, match="language de is given twice; name each once"):
        write_corpus(tmp_path / "twice", documents=3, pairs=4, splits={}, seed=1, languages=["de", "en", "de"])
    assert not (tmp_path / "twice").exists()


def test_held_out_sentences_are_nowhere_else(corpus: Path) -> None:
    for language in LANGUAGES:
        held_out = [line for split in SPLITS for line in lines(corpus / "mt" / f"{split}.{language}")]
        assert len(held_out) == len(set(held_out)) == sum(SPLITS.values())
        seen = set(lines(corpus / "mono" / f"{language}.txt"))
        for path in (corpus / "parallel").glob(f"*.{language}"):
            seen.update(lines(path))
        assert not seen.intersection(held_out)


def test_pairs_are_aligned_and_differ_between_language_pairs(corpus: Path) -> None:
    translations = {quadruple["en"]: quadruple for quadruple in islice(generate_quadruples(400, 1), 400)}
    by_language: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for first, second in LANGUAGE_PAIRS:
        for language in (first, second):
            by_language[language] += lines(corpus / "parallel" / f"{first}-{second}.{language}")
    for texts in by_language.values():
        assert len(texts) == len(set(texts)) == 3 * 50
    for german, english in zip(lines(corpus / "parallel/de-en.de"), lines(corpus / "parallel/de-en.en"), strict=True):
        assert translations[english]["de"] == german


def test_monolingual_text_is_not_parallel(corpus: Path) -> None:
    documents = {language: list(generate_documents(language, 40, 1)) for language in LANGUAGES}
    lengths = {tuple(len(document) for document in documents[language]) for language in LANGUAGES}
    assert len(lengths) == len(LANGUAGES)
    text = (corpus / "mono" / "en.txt").read_text(encoding="utf-8")
    assert len(text.strip().split("\n\n")) == 40


@pytest.fixture(scope="module")
def everyday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of few words, large enough for every construction."""
    directory = tmp_path_factory.mktemp("everyday")
    write_corpus(directory, 60, 800, {"train": 400, "valid": 20, "test": 200}, 1, ("de", "en"), num_words=5)
    return directory


def distinct_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d]+", text.lower()) if len(word) > 1}


# German that asks for word order, agreement and subordinate clauses: verbs last, brackets, inversion, endings.
CONSTRUCTIONS = (
    r", weil .+ (ist|war|hat|haben|wird|werden)\.$",
    r", obwohl ",
    r"^Wenn .+, (hat|haben|wird|werden) ",
    r", dass ",
    r", um .+ zu \w+en\.$",
    r", (der|die|das) .+, ",
    r"^(Hat|Haben|Wird|Werden) .+\?$",
    r"^(Gestern|Morgen|Jetzt|Bald) \w+ ",
    r"\b(ist|sind) .*ge\w+(en|t)\.$",
    r"\b(hat|haben) .*ge\w+(en|t)\.$",
    r"\b(will|kann|muss|wollen|können|müssen) .+en\.$",
    r"\bkeine[nr]?\b",
    r"\beinen \w+en ",
    r" (älter|größer|kleiner) als ",
    r"\b\d\d\b",
)


def test_few_words_keep_the_whole_grammar(everyday: Path) -> None:
    few = (everyday / "parallel/de-en.de").read_text(encoding="utf-8")
    every_word = "\n".join(german for german, _ in generate_pairs("de", "en", 800, seed=1))
    assert len(distinct_words(few)) < 0.6 * len(distinct_words(every_word))
    for pattern in CONSTRUCTIONS:
        found = [len(re.findall(pattern, text, re.MULTILINE)) for text in (few, every_word)]
        assert found[0] >= 2 and found[0] >= found[1] / 3, f"{pattern}: {found}"


def test_few_words_keep_the_test_text_held_out(everyday: Path) -> None:
    for language in ("de", "en"):
        test = set(lines(everyday / f"mt/test.{language}"))
        assert len(test) == 200
        for name in (
            f"mt/train.{language}",
            f"mt/valid.{language}",
            f"parallel/de-en.{language}",
            f"mono/{language}.txt",
        ):
            assert not test & set(lines(everyday / name)), name


def test_fewest_words_still_make_sentences_and_documents() -> None:
    sentences = list(generate_pairs("en", "de", 300, seed=3, num_words=MIN_WORDS))
    assert len(set(sentences)) == 300
    assert all(map(len, generate_documents("ru", 40, seed=3, num_words=MIN_WORDS)))


def test_corpus_yaml_names_existing_files(corpus: Path) -> None:
    content = yaml.safe_load((corpus / "corpus.yaml").read_text(encoding="utf-8"))
    assert content["tokenizer"] == "tokenizer"
    named_files = [path for paths in content["mono"].values() for path in paths]
    named_files += [entry[side] for [entry] in content["parallel"].values() for side in ("source", "target")]
    assert len(named_files) == 4 + 12
    assert all((corpus / name).is_file() for name in named_files)
    for pair, [entry] in content["parallel"].items():
        source, target = pair.split("-")
        assert entry["source"].endswith(f".{source}") and entry["target"].endswith(f".{target}")


def test_command_line_writes_files_and_refuses_bad_sizes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_tools.toy_corpus", "--output", str(tmp_path / "out"), "--documents", "2"]
    sizes = ["--pairs", "2", "--train", "2", "--valid", "2", "--test", "2"]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "out/mt/test.ru")) == 2
    failed = subprocess.run([*command, "--pairs", "0"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip() == "error: --pairs must be at least 1, found 0"
    failed = subprocess.run([*command, "--words", "1"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip() == f"error: --words must be at least {MIN_WORDS}, found 1"
