"""Tiny files of all tasks, a tiny model, and small random encoders of transformers, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from xtreme_files import write_model, write_xtreme


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
