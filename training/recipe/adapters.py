"""The fields of recipes that may train adapters beside a model: bottlenecks, and LoRA's matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from training.recipe.base import TrainingRecipe
from training.recipe.checks import above_zero, at_least, below_one, broken, not_negative
from training.recipe.option import option

ADAPTER_KINDS = ("pfeiffer", "houlsby")  # those of veco.adapter_config, whose import --help should not wait for
KINDS_IN_WORDS = " or ".join(ADAPTER_KINDS)


@dataclass(frozen=True, kw_only=True)
class AdapterRecipe(TrainingRecipe):
    """A recipe of training that may add adapters to its model."""

    adapter: str = option(
        "",
        "bottleneck adapters to add to a VECO: pfeiffer, behind each layer's feed-forward module, or houlsby, behind "
        "its self-attention, too; empty = none",
    )
    adapter_reduction: int = option(16, "adapter: the model's width over that of the bottlenecks")
    adapter_skips_last: bool = option(False, "adapter: no bottlenecks in the last layer (MAD-X 2.0)")
    lora_rank: int = option(0, "rank of low-rank matrices (LoRA, by peft) in the layers, which are merged; 0 = none")
    lora_alpha: int = option(16, "LoRA: the matrices' outputs are multiplied by lora_alpha / lora_rank")
    lora_dropout: float = option(0.0, "LoRA: dropout of the matrices' inputs")
    lora_targets: str = option(
        "",
        "LoRA: regular expression for the names of the modules that get matrices, such as "
        r".*\.self_attention\.[qv]_proj; empty = all linear modules of the layers",
    )

    def problems(self) -> list[str]:
        found = [
            *super().problems(),
            *broken(self, ("adapter",), ("", *ADAPTER_KINDS).__contains__, f"must be {KINDS_IN_WORDS}; empty = none"),
            *at_least(self, 1, "adapter_reduction"),
            *not_negative(self, "lora_rank"),
            *above_zero(self, "lora_alpha"),
            *below_one(self, "lora_dropout"),
        ]
        if self.lora_targets and not self.lora_rank:
            found.append("lora_targets needs lora_rank")
        try:
            re.compile(self.lora_targets)
        except re.error as error:
            found.append(f"lora_targets {self.lora_targets!r} is no regular expression: {error}")
        return found

    def adapter_layers(self, depth: int) -> int | None:
        """How many layers of a model of that depth, the first ones, have bottlenecks; None is all."""
        return depth - 1 if self.adapter_skips_last else None

    def needs_adapter(self, *names: str) -> list[str]:
        """A sentence for each field of these that is set although no adapter is."""
        defaults = self.defaults()
        given = [name for name in names if vars(self)[name] != defaults[name]]
        return [] if self.adapter else [f"{name} needs adapter: {KINDS_IN_WORDS}" for name in given]
