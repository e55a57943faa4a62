"""Model directories as the commands read and write them."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

import veco
from veco.config import VecoConfig
from veco.convert.weights import open_strictly


def open_model(directory: Path) -> PreTrainedModel:
    """The VECO model in a directory, of the class in its config.json; ValueError for other directories."""
    if not (directory / "config.json").is_file():
        raise ValueError(f"{directory}: expected a model directory with a config.json")
    names = VecoConfig.from_pretrained(directory).architectures or []
    if len(names) != 1 or names[0] not in veco.__all__:
        raise ValueError(f"{directory}: config.json names architectures {names}, expected one of VECO's classes")
    return open_strictly(getattr(veco, names[0]), directory)
