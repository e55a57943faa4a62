"""The embedded corpus, prepared for the recipe that needs nothing from outside."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from data_tools.shards.manifest import MANIFEST_NAME
from training.commands import run_command
from training.launch import launched_rank

VOCABULARY_SIZE = 2000
WAIT_SECONDS = 600


def embedded_data(directory: Path) -> Path:
    """`directory`/data, shards of the embedded corpus, made by the public commands on the first call.

    Rank 0 makes it, other ranks wait. Raises ValueError when a command fails or nothing appears.
    """
    data = directory / "data"
    if (data / MANIFEST_NAME).is_file():
        return data
    if launched_rank() == 0:
        make(directory)
        return data
    waited = 0
    while not (data / MANIFEST_NAME).is_file():
        if waited >= WAIT_SECONDS:
            raise ValueError(f"{data}: rank 0 did not finish the embedded corpus within {WAIT_SECONDS} seconds")
        time.sleep(1)
        waited += 1
    return data


def make(directory: Path) -> None:
    """Write text, tokenizer and shards of the embedded corpus below `directory`."""
    print(f"preparing the embedded corpus in {directory}", file=sys.stderr)
    run_module("data_tools.toy_corpus", "--output", str(directory / "text"))
    mono = sorted(str(path) for path in (directory / "text" / "mono").glob("*.txt"))
    tokenizer = directory / "text" / "tokenizer"
    if not tokenizer.exists():  # an interrupted call may have got this far
        size = str(VOCABULARY_SIZE)
        run_module("data_tools.train_tokenizer", "--input", *mono, "--vocab-size", size, "--output", str(tokenizer))
    run_module("data_tools.prepare", str(directory / "text" / "corpus.yaml"), "--output", str(directory / "data"))


def run_module(name: str, *arguments: str) -> None:
    """Run `python -m name arguments`; raises ValueError when it fails."""
    if code := run_command([sys.executable, "-m", name, *arguments]):
        raise ValueError(f"python -m {name} failed with exit code {code}")
