"""Tiny files of all tasks, and a tiny model, made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from xtreme_files import write_model, write_xtreme

from finetune.understanding.rows.encoding import TextEncoder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if several processes shared the machine: tiny models are slower with threads that wait for each other."""
    monkeypatch.setenv("LOCAL_SIZE", str(len(os.sched_getaffinity(0))))


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


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> TextEncoder:
    return TextEncoder(AutoTokenizer.from_pretrained(tiny_model))
