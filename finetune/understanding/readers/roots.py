"""The places that a task's files are read from: directories, copies of the hub's Parquet files, and the hub itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune.understanding.tasks.task import Split

Root = Path | str
PREFIX = "hub:"  # before the name of a data set of the hub, such as hub:google/xtreme


@dataclass(frozen=True)
class Source:
    """A split in a language, and the root of its files."""

    split: Split
    language: str
    root: Root


def is_hub(root: str) -> bool:
    """Whether a root is read by `datasets`: a name of the hub, or a directory of directories of Parquet files."""
    return root.startswith(PREFIX) or any(Path(root).glob("*/*.parquet"))


def check_root(root: str, name: str) -> None:
    """Raise ValueError for a directory that does not exist; `name` is the flag or field that names it."""
    if root and not is_hub(root) and not Path(root).is_dir():
        raise ValueError(f"{name} {root}: no such directory")
