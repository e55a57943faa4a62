"""Model directories as the commands read and write them."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

from transformers import PreTrainedModel

import veco
from data_tools.cli import warn
from veco.config import VecoConfig
from veco.convert.families import how_to_convert
from veco.convert.weights import open_strictly
from veco.rust_errors import rust_errors_as_oserrors
from veco.sentence_transformers_files import copy_sentence_files
from veco.tokenizer import read_json
from veco.vocabulary.rows import framing_ids


def open_model(directory: Path) -> PreTrainedModel:
    """The VECO model in a directory, of the class in its config.json; ValueError for other directories."""
    if not (directory / "config.json").is_file():
        raise ValueError(f"{directory}: expected a model directory with a config.json")
    names = VecoConfig.from_pretrained(directory).architectures or []
    if len(names) != 1 or names[0] not in veco.__all__:
        advice = how_to_convert(str(read_json(directory / "config.json").get("model_type")))
        raise ValueError(
            f"{directory}: config.json names architectures {names}, expected one of VECO's classes{advice}"
        )
    return open_strictly(getattr(veco, names[0]), directory)


def check_fits(vocabulary: Sized, model: PreTrainedModel, directory: Path) -> None:
    """Raise ValueError for a vocabulary of more pieces than a model has rows. It may have spare ones, without a use."""
    if len(vocabulary) > model.config.vocab_size:
        raise ValueError(
            f"{directory}: {len(vocabulary):,} pieces, but the model has {model.config.vocab_size:,} rows: "
            "it is another model's tokenizer"
        )
    if gone := sorted(i for i in framing_ids(model) if i >= len(vocabulary)):
        raise ValueError(f"{directory}: has no piece {gone[0]}, which the model's config.json names as a special one")


def save_model(model: PreTrainedModel, source: Path, directory: Path) -> None:
    """Write a model made from that in `source`, and files of sentence-transformers if that has any, to a directory."""
    with rust_errors_as_oserrors(directory):
        model.save_pretrained(directory)
    copy_sentence_files(source, directory, model.config, warn)
