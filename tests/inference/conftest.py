"""A tiny VECO, whose first states are those of transformers' XLM-R, and what was exported of it, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from xtreme_files import write_model

from finetune.exported.settings import EngineName
from inference.export_encoder import ExportOptions, export_encoder

LAYER = 2


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inference-model") / "model"
    write_model(directory, num_hidden_layers=3)
    return directory


@pytest.fixture(scope="session")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A function from an engine and a precision to the tiny model, exported at LAYER."""
    for library in ("ctranslate2", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    root = tmp_path_factory.mktemp("exported")

    @cache
    def directory(engine: str, precision: str) -> Path:
        export_encoder(tiny_model, root / f"{engine}-{precision}", ExportOptions(EngineName(engine), precision, LAYER))
        return root / f"{engine}-{precision}"

    return directory
