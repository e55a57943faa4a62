"""Precision and attention of a run on CPU, chosen by timing: processors differ by more than a factor of two in both.

A bfloat16 product takes a tenth of the time of a float32 one where there is a matrix unit for it, half where there are
instructions, and nearly twice where there are none. A GPU's precision is what its ds_config says.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from training.engine.interface import Ranks
from training.recipe.base import TrainingRecipe
from training.recipe.ds_config import asks_for_bf16, read_ds_config
from training.recipe.parsing import read_yaml
from veco.attention import attend

RecipeT = TypeVar("RecipeT", bound=TrainingRecipe)
# Shapes that keep a core busy for some milliseconds: of a product, and of an attention as packed rows have it.
ROWS, WIDTH, INNER_WIDTH = 256, 512, 2048
HEADS, TOKENS, HEAD_WIDTH = 12, 128, 64
REPEATS = 4
# What is not faster by more than this is not worth another rounding than the ds_config asks for, or than usual.
WORTH = 1.2


class Timed(NamedTuple):
    """The choice of one field, and the milliseconds that it rests on; none where nothing had to be timed."""

    choice: str
    milliseconds: Mapping[str, float]

    def __str__(self) -> str:
        times = ", ".join(f"{name} {value:.1f} ms" for name, value in self.milliseconds.items())
        return f"{self.choice} (timed: {times})" if times else self.choice


def with_timed_choices(
    recipe: RecipeT, attention_dropout: float, ranks: Ranks, recipe_before: Path | None
) -> tuple[RecipeT, dict[str, str]]:
    """The recipe with `cpu_precision` and `attention` chosen where they are "auto", and what to say of them.

    Rank 0 takes the times, and all ranks get its choice. A resumed run, from the checkpoint whose recipe is
    `recipe_before`, keeps what it had, so that it continues bit for bit. On an accelerator nothing is chosen.
    """
    if ranks.device.type != "cpu":
        return recipe, {}
    if recipe_before is not None:
        recipe = _with_earlier_choices(recipe, read_yaml(recipe_before))
    is_bf16_asked = asks_for_bf16(read_ds_config(recipe.ds_config))
    precision = Timed(recipe.cpu_precision, {})
    if is_bf16_asked and recipe.cpu_precision == "auto":
        precision = _faster_on_rank_0(ranks, product_times, "bf16")
    is_bf16 = is_bf16_asked and precision.choice != "float32"
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    attention = Timed(recipe.attention, {})
    if recipe.attention == "auto":
        usual = "eager" if is_bf16 or attention_dropout else "sdpa"
        attention = _faster_on_rank_0(ranks, lambda: attention_times(dtype, attention_dropout), usual)
    chosen = dataclasses.replace(recipe, cpu_precision=precision.choice, attention=attention.choice)
    told = str(precision) if is_bf16_asked else "as in the ds_config"
    return chosen, {"threads a rank": str(torch.get_num_threads()), "precision": told, "attention": str(attention)}


def _with_earlier_choices(recipe: RecipeT, before: Mapping[str, Any]) -> RecipeT:
    """The recipe with "auto" replaced by what a checkpoint's recipe has; another ds_config is a new question."""
    is_same = before["ds_config"] == recipe.ds_config and before["engine"] == recipe.engine
    names = [name for name in ("cpu_precision", "attention") if name in before and is_same]
    earlier = {name: before[name] for name in names if dataclasses.asdict(recipe)[name] == "auto"}
    return dataclasses.replace(recipe, **earlier)


def _faster_on_rank_0(ranks: Ranks, take_times: Callable[[], Mapping[str, float]], usual: str) -> Timed:
    """The fastest by the times of rank 0; `usual` unless another one is faster by more than WORTH."""
    names = sorted(("bf16", "float32") if usual == "bf16" else ("eager", "sdpa"))
    own = take_times() if ranks.rank == 0 else dict.fromkeys(names, 0.0)
    seconds = ranks.sum_over_ranks(torch.tensor([own[name] for name in names], dtype=torch.float64)).tolist()
    times = dict(zip(names, seconds, strict=True))
    fastest = min(names, key=times.__getitem__)
    choice = fastest if times[fastest] * WORTH < times[usual] else usual
    return Timed(choice, {name: 1000 * value for name, value in times.items()})


@cache
def product_times() -> Mapping[str, float]:
    """Seconds of a matrix product, forward and backward, by precision."""

    def step(dtype: torch.dtype) -> Callable[[], None]:
        states = torch.randn(ROWS, WIDTH).to(dtype).requires_grad_()
        weight = torch.randn(INNER_WIDTH, WIDTH).to(dtype).requires_grad_()
        return lambda: linear(states, weight).sum().backward()

    return fastest_times({"bf16": step(torch.bfloat16), "float32": step(torch.float32)})


@cache
def attention_times(dtype: torch.dtype, dropout_p: float) -> Mapping[str, float]:
    """Seconds of an attention, forward and backward, by back end."""

    def step(back_end: str) -> Callable[[], None]:
        query, key, value = (_heads(dtype) for _ in range(3))
        return lambda: attend(query, key, value, dropout_p=dropout_p, back_end=back_end).sum().backward()

    return fastest_times({"eager": step("eager"), "sdpa": step("sdpa")})


def _heads(dtype: torch.dtype) -> Tensor:
    return torch.randn(1, HEADS, TOKENS, HEAD_WIDTH).to(dtype).requires_grad_()


def fastest_times(functions: Mapping[str, Callable[[], None]]) -> Mapping[str, float]:
    """The shortest time of each function in REPEATS turns after a first one. Draws no number from torch's generator.

    The shortest, because whatever else a machine does can only make it longer.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    with torch.random.fork_rng(devices=[]):
        for _ in range(REPEATS + 1):
            for name, function in functions.items():
                started = time.perf_counter()
                function()
                times[name].append(time.perf_counter() - started)
    return {name: min(values[1:]) for name, values in times.items()}
