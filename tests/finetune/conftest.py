"""Tiny files of all tasks, a tiny model, and small random encoders of transformers, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from small_encoders import write_encoder
from xtreme_files import write_model, write_xtreme


@pytest.fixture(scope="session")
def encoder_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a name of ENCODERS to the directory of that encoder."""
    root = tmp_path_factory.mktemp("encoders")

    @cache
    def directory(name: str) -> Path:
        write_encoder(name, root / name)
        return root / name

    return directory


@pytest.fixture(scope="session")
def xtreme_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("xtreme") / "data"
    write_xtreme(root)
    return root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("xtreme-model") / "model"
    write_model(directory)
    return directory
