"""Fixtures for the tests of translation."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_translation import toy_model, write_toy_tokenizer


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two directions with its tokenizer, as training would save it; not to be changed."""
    directory = tmp_path_factory.mktemp("translation") / "model"
    write_toy_tokenizer(directory)
    toy_model(directory).save_pretrained(directory)
    return directory
