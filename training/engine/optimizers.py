"""The optimizers of the plain engine: AdamW, or Muon for the layers' matrices and AdamW for the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from training.engine.adam import is_fusible, trained_parameters
from training.engine.deepspeed_config import adam_settings, muon_settings
from training.recipe.base import TrainingRecipe
from veco.layer import VecoLayer


def build_optimizers(model: nn.Module, recipe: TrainingRecipe, in_bf16: bool) -> dict[str, torch.optim.Optimizer]:
    """The recipe's optimizers of all that `model` trains, by the names that checkpoints have for their states.

    Muon multiplies in bfloat16 or in float32, as the forward pass does. Raises ValueError when it has no matrix.
    """
    matrices = layers_matrices(model) if recipe.optimizer == "muon" else []
    by_muon = {id(matrix) for matrix in matrices}
    others = [parameter for _, parameter in trained_parameters(model) if id(parameter) not in by_muon]
    found: dict[str, torch.optim.Optimizer] = {
        "optimizer": torch.optim.AdamW(others, **adam_settings(recipe), fused=is_fusible(others))
    }
    if recipe.optimizer == "muon":
        if not matrices:
            raise ValueError("optimizer 'muon': no matrix of a VECO layer is trained; use optimizer 'adamw'")
        found["muon"] = Muon(matrices, in_bf16=in_bf16, **muon_settings(recipe))
    return found


def layers_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained matrices of attention and feed-forward modules: not embeddings, biases, norms and heads.

    Which they are is Keller Jordan's advice (2024, kellerjordan.github.io/posts/muon).
    """
    layers = [module for module in model.modules() if isinstance(module, VecoLayer)]
    return [row for layer in layers for _, row in trained_parameters(layer) if row.ndim == 2]


class Muon(torch.optim.Muon):
    """torch's Muon, which multiplies in bfloat16 only where that is asked for.

    Processors that merely emulate bfloat16 take 25 times longer with it.
    """

    def __init__(self, params: Iterable[nn.Parameter], *, in_bf16: bool, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.in_bf16 = in_bf16

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        with contextlib.nullcontext() if self.in_bf16 else StayInFloat32():
            return super().step(closure)


class StayInFloat32(TorchFunctionMode):
    """Gives code that asks for a tensor in bfloat16 a copy in the tensor's own type."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0].clone() if func is Tensor.bfloat16 else func(*args, **(kwargs or {}))
