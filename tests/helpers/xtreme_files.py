"""Tiny files of all nine tasks in XTREME's layout that a tiny model can learn, and that model with its tokenizer.

German is English word by word, so everything has a translation. Labels are simple: a class is the last word of the
second sentence, a tag depends on its word, an answer is the colour after the word that the question names.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import veco
from data_tools import train_tokenizer

NOUNS = {
    "dog": "hund", "house": "haus", "tree": "baum", "water": "wasser", "bread": "brot", "book": "buch",
    "stone": "stein", "night": "nacht", "river": "fluss", "bird": "vogel", "town": "stadt", "milk": "milch",
}  # fmt: skip
COLOURS = {"red": "rot", "green": "grün", "blue": "blau", "white": "weiss"}
NAMES = {"anna": "B-PER", "paul": "B-PER", "rome": "B-LOC", "paris": "B-LOC"}
CLASSES = {"yes": "ja", "no": "nein", "maybe": "vielleicht"}
GERMAN = {**NOUNS, **COLOURS, **CLASSES, **{name: name for name in NAMES}, "where": "wo"}
NLI = {"yes": "entailment", "no": "contradiction", "maybe": "neutral"}
PARAPHRASE = {"yes": "1", "no": "0"}
LANGUAGE = {"tydiqa": "fi"}  # of the second language's files; TyDiQA has no German
TASKS = ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc2018", "tatoeba")
TRAINED = TASKS[:7]
# Fields of a recipe for that model and those files.
TINY: dict[str, Any] = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "max_length": 24,
    "stride": 8,
    "max_question_length": 8,
    "max_answer_length": 4,
    "batch_size": 8,
    "epochs": 1,
    "learning_rate": 5e-3,
    "warmup_share": 0.2,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "loader_workers": 0,
}


def second_language(task: str) -> str:
    return LANGUAGE.get(task, "de")


def german(text: str) -> str:
    return " ".join(GERMAN[word] for word in text.split())


def sentence(draw: random.Random, low: int = 2, high: int = 6) -> str:
    return " ".join(draw.choices(list(NOUNS), k=draw.randint(low, high)))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def pairs(classes: dict[str, str], count: int, draw: random.Random) -> list[tuple[str, str, str]]:
    drawn = [draw.choice(list(classes)) for _ in range(count)]
    return [(sentence(draw), f"{sentence(draw)} {word}", classes[word]) for word in drawn]


def tagged(tag_of: Callable[[str], str], count: int, draw: random.Random) -> list[list[tuple[str, str]]]:
    vocabulary = [*NOUNS, *COLOURS, *NAMES]
    drawn = [draw.choices(vocabulary, k=draw.randint(2, 9)) for _ in range(count)]
    return [[(word, tag_of(word)) for word in words] for words in drawn]


def part_of_speech(word: str) -> str:
    return "ADJ" if word in COLOURS else "PROPN" if word in NAMES else "NOUN"


def questions(name: str, count: int, draw: random.Random) -> list[dict[str, Any]]:
    """Paragraphs of one question: `where book` over `… book red … dog green …` has the answer `red`."""
    paragraphs = []
    for number in range(count):
        nouns = draw.sample(list(NOUNS), 3)
        colours = draw.choices(list(COLOURS), k=3)
        asked = draw.randrange(3)
        context = " ".join(f"{noun} {colour}" for noun, colour in zip(nouns, colours, strict=True))
        start = context.index(nouns[asked]) + len(nouns[asked]) + 1
        qas = {"id": f"{name}-{number}", "question": f"where {nouns[asked]}"}
        answer = {"text": colours[asked], "answer_start": start}
        paragraphs.append({"context": context, "qas": [{**qas, "answers": [answer]}]})
    return paragraphs


def translated_paragraph(paragraph: dict[str, Any]) -> dict[str, Any]:
    """In German, with the answer's start as in English: wrong, as in machine-translated files."""
    (question,) = paragraph["qas"]
    (answer,) = question["answers"]
    texts = {"question": german(question["question"]), "answers": [{**answer, "text": german(answer["text"])}]}
    return {"context": german(paragraph["context"]), "qas": [{**question, **texts}]}


def right_paragraph(paragraph: dict[str, Any]) -> dict[str, Any]:
    """A translated one with the answer's start corrected, as in test sets."""
    translated = translated_paragraph(paragraph)
    question = translated["qas"][0]["question"].split()[1]
    start = translated["context"].index(question) + len(question) + 1
    translated["qas"][0]["answers"][0]["answer_start"] = start
    return translated


def write_xtreme(root: Path, num_train: int = 60, num_test: int = 12, seed: int = 1) -> None:
    """Write all tasks below `root` in English and a second language.

    `root`/english gets the English translations of the second language's dev and test sets.
    """
    draw = random.Random(seed)
    sizes = {"train": num_train, "dev": num_test, "test": num_test}
    for split, count in sizes.items():
        _write_pairs(root, "xnli", split, pairs(NLI, count, draw))
        _write_pairs(root, "pawsx", split, pairs(PARAPHRASE, count, draw))
        _write_tagged(root, "udpos", split, tagged(part_of_speech, count, draw))
        _write_tagged(root, "panx", split, tagged(lambda word: NAMES.get(word, "O"), count, draw))
    _write_questions(root, num_train, num_test, draw)
    _write_retrieval(root, num_test, draw)


def _write_pairs(root: Path, task: str, split: str, rows: list[tuple[str, str, str]]) -> None:
    english = ["\t".join(row) for row in rows]
    write_lines(root / task / f"{split}-en.tsv", english)
    write_lines(root / task / f"{split}-de.tsv", ["\t".join([german(a), german(b), label]) for a, b, label in rows])
    write_lines(root / "english" / task / f"{split}-de.tsv", english)


def _write_tagged(root: Path, task: str, split: str, sentences: list[list[tuple[str, str]]]) -> None:
    def lines(form: Callable[[str, str], str]) -> list[str]:
        return [line for words in sentences for line in [*(form(*word) for word in words), ""]]

    write_lines(root / task / f"{split}-en.tsv", lines(lambda word, tag: f"{word}\t{tag}"))
    if split == "train":
        write_lines(root / task / "translate-train" / "de.tsv", lines(lambda word, tag: GERMAN[word]))
    else:
        write_lines(root / task / f"{split}-de.tsv", lines(lambda word, tag: f"{GERMAN[word]}\t{tag}"))
        write_lines(root / "english" / task / f"{split}-de.tsv", lines(lambda word, tag: word))


def _write_questions(root: Path, num_train: int, num_test: int, draw: random.Random) -> None:
    def write(name: str, paragraphs: list[dict[str, Any]]) -> None:
        write_lines(root / name, [json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]})])

    train, dev, test = (
        questions("train", num_train, draw),
        questions("dev", num_test, draw),
        questions("q", num_test, draw),
    )
    translated, right = [translated_paragraph(p) for p in train], [right_paragraph(p) for p in test]
    write("squad/train-v1.1.json", train)
    write("squad/dev-v1.1.json", dev)
    write("squad/translated/train-v1.1.de.json", translated)
    write("xquad/xquad.en.json", test)
    write("xquad/xquad.de.json", right)
    write("english/xquad/xquad.de.json", test)
    for split, english in (("dev", dev), ("test", test)):
        file = f"mlqa/MLQA_V1/{split}/{split}-context-{{0}}-question-{{0}}.json"
        write(file.format("en"), english)
        write(file.format("de"), [right_paragraph(p) for p in english])
        write("english/" + file.format("de"), english)
    gold = "tydiqa/tydiqa-goldp-v1.1-{0}/tydiqa.goldp.{1}.{0}.json"
    write(gold.format("train", "en"), train)
    write("tydiqa/translate-train/tydiqa.translate.train.en-fi.json", translated)
    write(gold.format("dev", "en"), test)
    write(gold.format("dev", "fi"), right)
    write("english/" + gold.format("dev", "fi"), test)


def _write_retrieval(root: Path, count: int, draw: random.Random) -> None:
    for split in ("dev", "test"):
        english = [sentence(draw, 3, 8) for _ in range(count)]
        paired = range(count // 2)  # the others have no translation
        german_side = [german(english[i]) for i in paired] + [german(sentence(draw, 3, 8)) for _ in paired]
        prefix = root / "bucc2018" / f"de-en.{split}"
        write_lines(prefix.with_suffix(f".{split}.en"), [f"en-{i:03}\t{line}" for i, line in enumerate(english)])
        write_lines(prefix.with_suffix(f".{split}.de"), [f"de-{i:03}\t{line}" for i, line in enumerate(german_side)])
        write_lines(prefix.with_suffix(f".{split}.gold"), [f"de-{i:03}\ten-{i:03}" for i in paired])
    english = [sentence(draw, 3, 8) for _ in range(count)]
    write_lines(root / "tatoeba" / "tatoeba.de-en.en", english)
    write_lines(root / "tatoeba" / "tatoeba.de-en.de", map(german, english))


def write_model(directory: Path, **shape: Any) -> None:
    """A random VECO and a tokenizer of the words above."""
    text = directory.with_suffix(".txt")
    draw = random.Random(0)
    vocabulary = [*GERMAN, *GERMAN.values()]
    write_lines(text, [" ".join(draw.choices(vocabulary, k=8)) for _ in range(400)])
    command = ["train_tokenizer", "--input", str(text), "--vocab-size", "70", "--output", str(directory)]
    with mock.patch.object(sys, "argv", command):  # in this process, which has imported what takes seconds to import
        train_tokenizer.main()
    torch.manual_seed(0)
    config = veco.VecoConfig(
        vocab_size=70,
        **{
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 66,
            "initializer_range": 0.1,
            **shape,
        },
    )
    veco.VecoForMaskedLM(config).save_pretrained(directory)
