"""A tiny VECO and a tiny translation model, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_translation import toy_model, write_toy_tokenizer
from xtreme_files import write_model


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
