"""Flags that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from finetune.exported.settings import is_exported
from finetune.model_directory import model_directory
from finetune.placement import Placement, add_dtype_flag, add_max_tokens_flag
from finetune.understanding.retrieval.embeddings import Embedder
from finetune.understanding.retrieval.matching import Similarity
from finetune.understanding.retrieval.retriever import Retriever
from finetune.understanding.tasks.task import Task
from training.run_directory.kinds import Kind

NumberT = TypeVar("NumberT", int, float)
ENCODERS = (Kind.PRETRAINING, Kind.TASK)  # runs whose models embed sentences


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every prediction: data, languages, batches, precision."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="ROOT",
        help="root of the task's files, a copy of a hub data set's Parquet, or hub:NAME",
    )
    parser.add_argument("--languages", default="", help="such as de,fr (default: all that there are)")
    add_max_tokens_flag(parser)
    add_dtype_flag(parser)


def add_retrieval_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags by which sentences are embedded and compared, except for the layer."""
    parser.add_argument("--max-length", type=int, help="longest sentence in tokens (default: the model's)")
    parser.add_argument(
        "--similarity",
        choices=[similarity.value for similarity in Similarity],
        default=Similarity.COSINE.value,
        help="of two sentences (default %(default)s)",
    )
    parser.add_argument("--centre", action="store_true", help="subtract the mean embedding of each language")
    parser.add_argument("--whiten", action="store_true", help="also give all directions the same variance")


def encoder_directory(path: Path) -> Path:
    """The directory of an encoder of sentences: an exported one, or the model that `path` leads to.

    Raises ValueError where there is none that reads text.
    """
    return path if is_exported(path) else model_directory(path, ENCODERS)


def load_retriever(
    task: Task, model: Path, layers: Sequence[int] | int | None, options: argparse.Namespace
) -> Retriever:
    """The retriever that the flags describe; raises ValueError as `Embedder.load` does."""
    embedder = Embedder.load(model, layers, options.max_length, options.max_tokens, Placement.of(options.dtype))
    return Retriever(task, embedder, Similarity(options.similarity), options.centre, options.whiten)


class Truncating(Protocol):
    """What cuts sentences to `max_length` tokens, and counts those."""

    max_length: int
    num_truncated: int


def report_truncated(reader: Truncating) -> None:
    """Report the number of truncated sentences."""
    if reader.num_truncated:
        print(f"{reader.num_truncated:,} sentences cut to {reader.max_length} tokens", file=sys.stderr)


def numbers(flag: str, text: str, kind: Callable[[str], NumberT]) -> list[NumberT]:
    """The comma-separated numbers of a flag. Raises ValueError for anything else, and for duplicates."""
    try:
        found = [kind(value) for value in text.split(",")]
    except ValueError:
        raise ValueError(f"--{flag} {text}: expected numbers separated by commas, such as 1,2,3") from None
    if len(set(found)) < len(found):
        raise ValueError(f"--{flag} {text}: expected each number once")
    return found
