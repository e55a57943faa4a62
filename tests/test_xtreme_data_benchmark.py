"""benchmarks/xtreme_data.py: which text is in the corpus, and above all which is not; files of pairs."""

import gzip
import json
from pathlib import Path

import pytest
import yaml
from row_alignment import align_rows
from xtreme_data import WORD, make_captions, make_corpus, make_files

from finetune.understanding.readers.examples_of_task import read_questions, read_retrieval, read_tagged, read_texts
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.task import Split

TASKS = catalogue_named(XTREME).tasks


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for language in ("en", "de", "fr", "sw"):
        write(root / f"mono/{language}.txt.gz", f"{language} text\n")
    for language in ("en", "de"):
        rows = [f"{language} premise\t{language} hypothesis {n}\tneutral\n" for n in range(3)]
        rows += ["a dog\t\tneutral\n" if language == "de" else "a dog\tit barks\tneutral\n"]  # not translated
        write(root / f"xtreme/xnli/train-{language}.tsv.gz", "".join(rows))
        write(root / f"xtreme/xnli/test-{language}.tsv.gz", f"{language} secret\t{language} secret\tneutral\n")
        write(root / f"mt/multi30k/train.{language}.gz", f"{language} caption\n")
    question = {"id": "1", "question": "who?", "answers": [{"text": "Ann", "answer_start": 0}]}
    article = {"title": "t", "paragraphs": [{"context": "Ann sings.", "qas": [question]}]}
    write(root / "xtreme/squad/train-v1.1.json", json.dumps({"data": [article]}))
    for language in ("sw", "en"):
        write(root / f"parallel/news/en-sw.{language}.gz", f"{language} news\n")
    return root


def test_corpus_has_training_text_only(source: Path, tmp_path: Path) -> None:
    make_corpus(source, tmp_path / "corpus")
    found = yaml.safe_load((tmp_path / "corpus/corpus.yaml").read_text())
    assert list(found["mono"]) == ["de", "en", "fr", "sw"]
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


def test_corpus_of_some_languages_has_their_text_alone(source: Path, tmp_path: Path) -> None:
    make_corpus(source, tmp_path / "corpus", ["sw", "fr"])
    found = yaml.safe_load((tmp_path / "corpus/corpus.yaml").read_text())
    assert (list(found["mono"]), list(found["parallel"])) == (["en", "fr", "sw"], ["en-sw"])
    assert not list((tmp_path / "corpus/pairs").iterdir())  # Swahili has no translations of XNLI here
    with pytest.raises(ValueError, match=r"--languages xx: expected some of de en fr sw, as in .*mono"):
        make_corpus(source, tmp_path / "other", ["xx"])


def test_source_without_xtreme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no xnli/train-en.tsv; expected XTREME's layout"):
        make_corpus(tmp_path, tmp_path / "corpus")


def mlqa(language: str, questions: list[str]) -> str:
    """A file with an article for each question, titled with the question's number."""
    answers = [{"text": "Ann", "answer_start": 0}]
    articles = [
        {
            "title": f"{language if language != 'en' else ''}{number}",
            "paragraphs": [
                {
                    "context": f"Ann {language}",
                    "qas": [{"id": number, "question": f"{language} who?", "answers": answers}],
                }
            ],
        }
        for number in questions
    ]
    return json.dumps({"data": articles})


def test_files_include_an_mlqa_test_set_and_english_originals(source: Path, tmp_path: Path) -> None:
    numbers = [str(number) for number in range(20)]
    for language, questions in (("en", numbers), ("de", numbers[5:])):
        write(
            source / f"xtreme/mlqa/MLQA_V1/dev/dev-context-{language}-question-{language}.json",
            mlqa(language, questions),
        )
    root = tmp_path / "files"
    make_files(source / "xtreme", root)

    def ids(split: Split, language: str, directory: Path) -> set[str]:
        return {question.id for question in read_questions(TASKS["mlqa"], split, language, directory)}

    dev, test = (ids(split, "en", root) for split in (Split.DEV, Split.TEST))
    assert dev and test and not dev & test and dev | test == set(numbers)
    assert ids(Split.TEST, "de", root) == test & set(numbers[5:])
    assert ids(Split.TEST, "de", root / "english") == test
    rows = [pair.text_a for pair in read_texts(TASKS["xnli"], Split.TEST, "de", root / "english")]
    assert rows == ["en secret"]


def test_languages_option_limits_the_files(source: Path, tmp_path: Path) -> None:
    numbers = [str(number) for number in range(20)]
    for language in ("en", "de", "es"):
        name = f"xtreme/mlqa/MLQA_V1/dev/dev-context-{language}-question-{language}.json"
        write(source / name, mlqa(language, numbers))
        for side in (language, "en"):
            write(source / f"xtreme/tatoeba/tatoeba.{language}-en.{side}.gz", "text\n")
    make_files(source / "xtreme", tmp_path / "files", ["de"])
    found = {path.relative_to(tmp_path / "files") for path in (tmp_path / "files").rglob("*.*")}
    names = {path.name for path in found if path.parts[0] in ("tatoeba", "xnli")}
    tatoeba = {f"tatoeba.{language}-en.{side}.gz" for language in ("de", "en") for side in (language, "en")}
    assert names == tatoeba | {f"{part}-{language}.tsv.gz" for part in ("train", "test") for language in ("de", "en")}
    assert languages_with(TASKS["mlqa"], Split.DEV, tmp_path / "files") == ("en", "de")
    with pytest.raises(ValueError, match="--languages english: expected some of af ar"):
        make_files(source / "xtreme", tmp_path / "other", ["english"])


def test_files_appear_whole_or_not_at_all(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dev file of mlqa for the language 'en'"):
        make_files(source / "xtreme", tmp_path / "files")
    assert not list(tmp_path.glob("*files*"))
    name = "xtreme/mlqa/MLQA_V1/dev/dev-context-en-question-en.json"
    write(source / name, mlqa("en", ["1", "2"]))
    make_files(source / "xtreme", tmp_path / "files")
    with pytest.raises(ValueError, match="files: exists already"):
        make_files(source / "xtreme", tmp_path / "files")


ORIGINALS = ["In 1987 Kathy left Leeds.", "Oslo lies north.", "Pete Beale sang.", "Rome was not built in 1988."]


@pytest.mark.parametrize(
    ("translations", "partners"),
    [
        (["Kathy verließ Leeds 1987.", "Oslo liegt im Norden.", "Pete Beale sang.", "Rome … 1988."], [0, 1, 2, 3]),
        (["Kathy verließ Leeds 1987.", "Pete Beale sang."], [0, 2]),  # two were not translated
        (["Kathy 1987.", "Etwas anderes.", "Pete Beale sang."], [0, 1, 2]),  # nothing in common, but a partner is left
        (["Pete Beale sang.", "Rome … 1988.", "Nichts."], [2, 3, None]),  # its original is missing
        (["Rome … 1988."], [3]),
    ],
)
def test_rows_are_aligned_with_their_originals_in_order(translations: list[str], partners: list[int | None]) -> None:
    assert align_rows(ORIGINALS, translations) == partners


def test_pawsx_gets_pairs_and_pos_and_ner_get_words_to_label(source: Path, tmp_path: Path) -> None:
    write(source / "xtreme/mlqa/MLQA_V1/dev/dev-context-en-question-en.json", mlqa("en", ["1", "2"]))
    german = ['Kathy verließ "Leeds" 1987.', "Pete Beale sang."]
    for part, translations in (("train", german), ("dev", german), ("test", [*german, "Nichts."])):
        english = ORIGINALS if part != "test" else ORIGINALS[:3]
        write(source / f"xtreme/pawsx/{part}-en.tsv", "".join(f"{text}\tboth\t1\n" for text in english))
        write(source / f"xtreme/pawsx/{part}-de.tsv", "".join(f"{text}\tbeide\t1\n" for text in translations))
    make_files(source / "xtreme", tmp_path / "files")
    pawsx, root = TASKS["pawsx"], tmp_path / "files"
    pairs = list(read_texts(pawsx, Split.TRANSLATE_TRAIN, "de", root))
    assert [(pair.original, pair.text_a, pair.text_b, pair.label) for pair in pairs] == [
        ((ORIGINALS[0], "both"), german[0], "beide", "1"),
        ((ORIGINALS[2], "both"), german[1], "beide", "1"),
    ]
    assert [pair.text_a for pair in read_texts(pawsx, Split.DEV, "de", root / "english")] == ORIGINALS[::2]
    tests = [pair.text_a for pair in read_texts(pawsx, Split.TEST, "de", root / "english")]
    assert tests == [ORIGINALS[0], ORIGINALS[2], "Nichts."]  # the third is the row itself
    for name in ("udpos", "panx"):
        sentences = list(read_tagged(TASKS[name], Split.TRANSLATE_TRAIN, "de", root))
        assert {one.tags for one in sentences} == {None}
        assert sentences[0].words == ("de", "premise")
    assert languages_with(TASKS["udpos"], Split.TRANSLATE_TRAIN, root) == ("de",)


def test_sentence_is_split_into_words(source: Path, tmp_path: Path) -> None:
    write(source / "xtreme/mlqa/MLQA_V1/dev/dev-context-en-question-en.json", mlqa("en", ["1", "2"]))
    row = "L'homme d’Uruguay, dit-il, n'a que 3.5 € (hier).\tOui!\tneutral\n"
    write(source / "xtreme/xnli/train-fr.tsv", row)
    make_files(source / "xtreme", tmp_path / "files")
    first, second = read_tagged(TASKS["udpos"], Split.TRANSLATE_TRAIN, "fr", tmp_path / "files")
    assert " ".join(first.words) == "L' homme d’ Uruguay , dit-il , n' a que 3.5 € ( hier ) ."
    assert second.words == ("Oui", "!")


def test_words_keep_their_combining_marks() -> None:
    assert WORD.findall("उसने कहा, माँ, मैं घर आया हूं।") == ["उसने", "कहा", ",", "माँ", ",", "मैं", "घर", "आया", "हूं", "।"]


def test_captions_become_retrieval_sets(tmp_path: Path) -> None:
    source, root = tmp_path / "multi30k", tmp_path / "captions"
    for part in ("val", "test_2016_flickr"):
        for language in ("en", "de", "cs"):
            write(source / f"{part}.{language}.gz", "".join(f"{part} {language} {n}\n" for n in range(9)))
    make_captions(source, root)
    for split, part in ((Split.DEV, "val"), (Split.TEST, "test_2016_flickr")):
        found = read_retrieval(TASKS["bucc2018"], split, "de", root)
        assert found.source_sentences == [f"{part} de {n}" for n in range(6)]
        assert found.target_sentences == [f"{part} en {n}" for n in range(3, 9)]
        assert found.gold == {(f"de-{n}", f"en-{n}") for n in (3, 4, 5)}
    assert read_retrieval(TASKS["tatoeba"], Split.TEST, "de", root).source_sentences[8] == "test_2016_flickr de 8"
    assert languages_with(TASKS["bucc2018"], Split.TEST, root) == ("de",)
    (source / "val.en.gz").unlink()
    with pytest.raises(ValueError, match="multi30k: expected val and test_2016_flickr in en"):
        make_captions(source, tmp_path / "other")
