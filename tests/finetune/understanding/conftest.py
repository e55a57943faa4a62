"""What a tiny model learns from tiny files of all tasks, made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from head_worlds import WORLDS, write_world
from transformers import AutoTokenizer
from xtreme_files import TINY, write_lines

from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.understanding_task import UnderstandingTask
from training.recipe.parsing import build_recipe
from training.run import train_run


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if several processes shared the machine: tiny models are slower with threads that wait for each other."""
    monkeypatch.setenv("LOCAL_SIZE", str(len(os.sched_getaffinity(0))))


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> TextEncoder:
    return TextEncoder(AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture(scope="session")
def tagged_data(xtreme_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files, with a teacher's tags in the translated training text of POS: those of the English words."""
    root = tmp_path_factory.mktemp("tagged") / "data"
    shutil.copytree(xtreme_data, root)
    english = (root / "udpos" / "train-en.tsv").read_text().splitlines()
    path = root / "udpos" / "translate-train" / "de.tsv"
    tags = [line.partition("\t")[2] for line in english]
    words = path.read_text().splitlines()
    write_lines(path, [f"{word}\t{tag}" if word else "" for word, tag in zip(words, tags, strict=True)])
    return root


@pytest.fixture
def train(xtreme_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that trains a tiny model and returns the run's directory."""
    monkeypatch.setattr("training.run.plot_curves", lambda run_dir: "nothing: drawing takes a second")

    def run(task: str, output: str = "run", **fields: Any) -> Path:
        own = {"task": task, "data": str(xtreme_data), "init_from": str(tiny_model), "output": str(tmp_path / output)}
        recipe = build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None)
        train_run(recipe, UnderstandingTask.of_run)
        return Path(recipe.output)

    return run


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a task for each head of texts and choices, and the task files."""
    root = tmp_path_factory.mktemp("worlds")
    for head in WORLDS:
        write_world(head, root)
    return root
