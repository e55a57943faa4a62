"""Open and fill models so that no weight is missing and none is left over, for all conversions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from veco.model import refuse_pickles

Model = TypeVar("Model", bound=PreTrainedModel)

NUM_SHOWN = 6


def listed(names: Collection[str]) -> str:
    """The names in order, or the first few of them if there are many."""
    shown = sorted(names)[:NUM_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else "")


@dataclass(frozen=True)
class Conversion(Generic[Model]):
    """A converted model, and one-line notes about it."""

    model: Model
    notes: list[str]


def compared(model_class: type[Model], directory: str | Path, **settings: Any) -> tuple[Model, set[str], set[str]]:
    """The model in `directory`, the names of those of its weights that are missing there, and those of others there.

    `settings` are passed to `from_pretrained`: dtype, fields of the configuration. transformers draws missing weights
    at random and drops others, with a report; this one leaves the report to callers.
    Raises ValueError for weights of other shapes than the configuration says, and for files that are no safetensors:
    pickles are never opened.
    """
    refuse_pickles(Path(directory))
    try:
        with quiet_transformers():
            model, found = model_class.from_pretrained(
                directory, **settings, output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True
            )
    except SafetensorError as error:
        raise ValueError(f"{directory}: weights that are not safetensors ({error})") from None
    if other_shapes := {name for name, *_ in found["mismatched_keys"]}:
        raise ValueError(f"{directory}: has weights of other shapes than its config.json says: {listed(other_shapes)}")
    return model, set(found["missing_keys"]), set(found["unexpected_keys"])


def check_complete(
    model_class: type[Model], directory: str | Path, missing: Collection[str], others: Collection[str]
) -> None:
    """Raise ValueError if `compared` found weights missing, or others."""
    if missing:
        raise ValueError(f"{directory}: lacks weights of {model_class.__name__}: {listed(missing)}")
    if others:
        raise ValueError(f"{directory}: has weights that {model_class.__name__} does not have: {listed(others)}")


def open_complete(model_class: type[Model], directory: str | Path, may_lack: str = "", **settings: Any) -> Model:
    """The model in `directory`, whatever else is there; ValueError if it lacks weights.

    Those with `may_lack` in their names may be missing, and are random then. `settings` are those of `compared`.
    """
    model, missing, _ = compared(model_class, directory, **settings)
    check_complete(model_class, directory, {name for name in missing if not may_lack or may_lack not in name}, ())
    return model


def open_strictly(model_class: type[Model], directory: str | Path, **settings: Any) -> Model:
    """The model saved in `directory`, which has all of its weights and no others; ValueError if not.

    `settings` are those of `compared`.
    """
    model, missing, others = compared(model_class, directory, **settings)
    check_complete(model_class, directory, missing, others)
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting the weights that a checkpoint lacks, which are checked otherwise."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def fill(model: PreTrainedModel, weights: dict[str, Tensor], fresh: Collection[str] = ()) -> None:
    """Copy `weights` into the model by name.

    Weights with one of `fresh` in their name may be missing and keep their random values. Raises ValueError if others
    are missing, for weights left over and for other shapes.
    """
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # of other shapes, listed behind the first line
        raise ValueError("; ".join(line.strip() for line in str(error).splitlines()[1:])) from None
    tied = model.all_tied_weights_keys
    left = [name for name in missing if name not in tied and not any(part in name for part in fresh)]
    if left or unexpected:
        raise ValueError(f"weights left over: missing {listed(left)}; unexpected {listed(unexpected)}")
    model.tie_weights()
