"""Low-rank matrices (LoRA, Hu et al., 2022) in the layers of a model, by peft, as recipes ask for them."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from data_tools.cli import one_line
from training.model_parts import linear_modules
from training.recipe.adapters import AdapterRecipe
from veco.vocabulary_loss import VocabularyProjection

LORA = ".lora_"  # in the names of peft's own parameters


def lora_config(recipe: AdapterRecipe, model: PreTrainedModel, learns_whole: Sequence[str] = ()) -> Any:
    """peft's configuration of what a recipe asks for; the modules of `learns_whole` are trained beside it.

    Raises ValueError where peft is not installed, for targets that are nowhere in the model's layers, and for others
    than linear modules, whose matrices could not be merged into the model.
    """
    if importlib.util.find_spec("peft") is None:
        raise ValueError("lora_rank: peft is not installed; install it with pip install 'veco[peft]'")
    from peft import LoraConfig  # takes seconds, and is an extra

    linear = linear_modules(model)
    if recipe.lora_targets and not any(re.fullmatch(recipe.lora_targets, name) for name in linear):
        raise ValueError(
            f"lora_targets {recipe.lora_targets!r} matches no linear module of the layers, such as {linear[0]}"
        )
    for name, module in model.named_modules():
        is_plain = isinstance(module, nn.Linear) and not isinstance(module, VocabularyProjection)
        if recipe.lora_targets and re.fullmatch(recipe.lora_targets, name) and not is_plain:
            raise ValueError(
                f"lora_targets {recipe.lora_targets!r} matches {name}, of class {type(module).__name__}; expected "
                f"linear modules alone, such as {linear[0]}"
            )
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_targets or linear,
        modules_to_save=list(learns_whole) or None,
        ensure_weight_tying=bool(learns_whole and model.all_tied_weights_keys),
    )


def inject_low_rank(model: PreTrainedModel, recipe: AdapterRecipe) -> None:
    """Put low-rank matrices into a model, in place; fresh ones change no output. Raises ValueError as `lora_config`."""
    config = lora_config(recipe, model)
    from peft import inject_adapter_in_model

    with named_errors_of_peft(recipe):
        inject_adapter_in_model(config, model)


@contextmanager
def named_errors_of_peft(recipe: AdapterRecipe) -> Iterator[None]:
    """Raise ValueError in one line for targets that peft cannot adapt, and hide its warnings about transformers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers has renamed
            yield
    except ValueError as error:
        raise ValueError(f"lora_targets {recipe.lora_targets!r}: {one_line(error)}") from None
