"""Small random encoders of transformers, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from small_encoders import write_encoder


@pytest.fixture(scope="session")
def encoder_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a name of ENCODERS to the directory of that encoder."""
    root = tmp_path_factory.mktemp("encoders")

    @cache
    def directory(name: str) -> Path:
        write_encoder(name, root / name)
        return root / name

    return directory
