"""A tiny VECO and a tiny translation model, each made once, and sentences that translate each other."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from toy_translation import toy_model, write_toy_tokenizer
from xtreme_files import german, sentence, write_lines, write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("analysis-model") / "model"
    write_model(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, whose words have several pieces."""
    directory = tmp_path_factory.mktemp("analysis-translator") / "model"
    write_toy_tokenizer(directory)
    toy_model(directory).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def translations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """en.txt, de.txt and mixed.txt, every other word of which is German, of 40 lines; line 7 of de.txt is empty."""
    directory, draw = tmp_path_factory.mktemp("translations"), random.Random(3)
    english = [sentence(draw, 3, 9) for _ in range(40)]
    translated = [german(line) for line in english]
    both = [list(zip(own.split(), other.split(), strict=True)) for own, other in zip(english, translated, strict=True)]
    mixed = [" ".join(words[place % 2] for place, words in enumerate(line)) for line in both]
    translated[6] = ""
    for name, lines in (("en", english), ("de", translated), ("mixed", mixed)):
        write_lines(directory / f"{name}.txt", lines)
    return directory
