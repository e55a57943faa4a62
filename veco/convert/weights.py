"""Open and fill models so that no weight is missing and none is left over, for all conversions."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)

NUM_SHOWN = 6


def listed(names: Collection[str]) -> str:
    """The names in order, or the first few of them if there are many."""
    shown = sorted(names)[:NUM_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else "")


def open_strictly(model_class: type[Model], directory: str | Path, superfluous: Collection[str] = ()) -> Model:
    """The model saved in `directory`, which has all of its weights and, except for `superfluous`, no others.

    transformers draws missing weights at random and drops others, with a warning; this function raises ValueError.
    """
    try:
        model, found = model_class.from_pretrained(directory, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(f"{directory}: weights that are not safetensors ({error})") from None
    if found["missing_keys"]:
        raise ValueError(f"{directory}: lacks weights of {model_class.__name__}: {listed(found['missing_keys'])}")
    if others := set(found["unexpected_keys"]) - set(superfluous):
        raise ValueError(f"{directory}: has weights that {model_class.__name__} does not have: {listed(others)}")
    return model


def fill(model: PreTrainedModel, weights: dict[str, Tensor], fresh: str | None = None) -> None:
    """Copy `weights` into the model by name.

    Weights with `fresh` in their name may be missing and keep their random values. Raises ValueError if others are
    missing, for weights left over and for other shapes.
    """
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # of other shapes, listed behind the first line
        raise ValueError("; ".join(line.strip() for line in str(error).splitlines()[1:])) from None
    tied = model.all_tied_weights_keys
    left = [name for name in missing if name not in tied and not (fresh and fresh in name)]
    if left or unexpected:
        raise ValueError(f"weights left over: missing {listed(left)}; unexpected {listed(unexpected)}")
    model.tie_weights()
