"""A tiny VECO and small encoders of transformers, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from xtreme_files import write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("analysis-model") / "model"
    write_model(directory)
    return directory
