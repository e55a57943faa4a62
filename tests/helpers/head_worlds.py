"""Tiny tasks that a tiny model can learn, one for each head of texts and choices, as task files with JSON lines.

German is English word by word. What is to be predicted depends on single words: the last one, a colour, the marked one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from xtreme_files import CLASSES, COLOURS, NOUNS, german, sentence, write_lines

Example = dict[str, Any]
NUMBERS = {"yes": 2.0, "maybe": 1.0, "no": 0.0}
SPLITS = {"train": 100, "dev": 20, "test": 20}


def one_text(draw: random.Random) -> list[Example]:
    """A class by the last word."""
    label = draw.choice(list(CLASSES))
    return [{"a": f"{sentence(draw)} {label}", "label": label}]


def colours(draw: random.Random) -> list[Example]:
    """Any number of colours, in a text or a pair of them."""
    labels = draw.sample(["red", "green", "blue"], draw.randint(0, 3))
    return [{"a": sentence(draw, 1, 3), "b": " ".join([*labels, sentence(draw, 1, 2)]), "label": labels}]


def similarity(draw: random.Random) -> list[Example]:
    """A number by the last word."""
    word = draw.choice(list(NUMBERS))
    return [{"a": sentence(draw), "b": f"{sentence(draw)} {word}", "label": NUMBERS[word]}]


def marked_word(draw: random.Random) -> list[Example]:
    """Whether the marked word of the second text, which has a noun and a colour, is the colour."""
    noun, colour = draw.choice(list(NOUNS)), draw.choice(list(COLOURS))
    is_colour = draw.random() < 0.5
    words = draw.sample([noun, colour], 2)
    number = words.index(colour if is_colour else noun)
    return [{"a": sentence(draw, 2, 2), "b": " ".join(words), "words": f"0-{number}", "label": "FT"[is_colour]}]


def candidates(draw: random.Random) -> list[Example]:
    """Three candidates of a query, with the grades of their last words."""
    query = sentence(draw, 3, 4)
    words = draw.sample(list(NUMBERS), 3)
    return [{"a": query, "b": f"{sentence(draw, 1, 3)} {word}", "label": NUMBERS[word]} for word in words]


def endings(draw: random.Random) -> list[Example]:
    """The right one of three choices ends with yes."""
    words = draw.sample(["yes", "no", "maybe"], 3)
    choices = {f"c{number}": f"{sentence(draw, 1, 3)} {word}" for number, word in enumerate(words)}
    return [{"a": sentence(draw), **choices, "label": words.index("yes")}]


# Of each head: how its examples are made, their columns, and its metrics.
WORLDS: dict[str, tuple[Callable[[random.Random], list[Example]], dict[str, Any], list[str]]] = {
    "sequence": (one_text, {"text_a": "a"}, ["accuracy", "f1", "macro_f1", "matthews"]),
    "multilabel": (colours, {"text_a": "a", "text_b": "b"}, ["micro_f1", "macro_f1", "exact_match"]),
    "regression": (similarity, {"text_a": "a", "text_b": "b"}, ["pearson", "spearman"]),
    "context_word": (marked_word, {"text_a": "a", "text_b": "b", "words": "words"}, ["accuracy", "f1", "macro_f1"]),
    "ranking": (candidates, {"text_a": "a", "text_b": "b"}, ["ndcg", "map"]),
    "choice": (endings, {"text_a": "a", "choices": ["c0", "c1", "c2"]}, ["accuracy"]),
}


def translated(example: Example) -> Example:
    """An example in German; the labels stay."""
    texts = {key: german(text) for key, text in example.items() if key in ("a", "b", "c0", "c1", "c2")}
    return {**example, **texts}


def write_world(head: str, root: Path) -> Path:
    """Write the files of a head's task below `root`, and its task file, whose path is returned.

    `root`/english has the English translations of the German dev and test files.
    """
    make, columns, metrics = WORLDS[head]
    draw = random.Random(head)
    for split, size in SPLITS.items():
        examples: list[Example] = []
        while len(examples) < size:
            examples += make(draw)
        english = [json.dumps(example) for example in examples]
        write_lines(root / head / f"{split}-en.jsonl", english)
        write_lines(root / head / f"{split}-de.jsonl", [json.dumps(translated(example)) for example in examples])
        write_lines(root / "english" / head / f"{split}-de.jsonl", english)
    content = {
        "name": head,
        "head": head,
        "languages": ["en", "de"],
        "train_languages": ["en"],
        "files": {
            "train": f"{head}/train-{{language}}.jsonl",
            "translate_train": f"{head}/train-{{language}}.jsonl",
            "dev": f"{head}/dev-{{language}}.jsonl",
            "test": f"{head}/test-{{language}}.jsonl",
        },
        "format": {"kind": "jsonl", "label": "label", **columns},
        "metrics": metrics,
        "positive_label": {"sequence": "yes", "context_word": "T"}.get(head),
    }
    path = root / f"{head}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
