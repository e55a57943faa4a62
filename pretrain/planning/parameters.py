"""Numbers of parameters of a run, read off its model, which is built without values: no memory is needed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import torch

from pretrain.models.initial_model import add_adapter
from pretrain.models.kept_layers import keep_layers
from pretrain.models.teacher import distillations, teach
from pretrain.models.trained_parameters import is_trained
from pretrain.momentum import modules_with_momentum
from pretrain.recipe import PretrainRecipe
from training.low_rank import inject_low_rank
from veco import VecoConfig, VecoForPreTraining
from veco.adapters.attach import active_adapters
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.teacher import TaughtModule, Teacher


@dataclass(frozen=True)
class Parameters:
    """Numbers of a model's parameters: all of them, those that are trained, and those of the largest trained tensor.

    Beside the model lie, whole on each rank, `taught_by` parameters of a teacher in the model's precision, and
    `momentum_bytes` of encoders that follow it, with their queues.
    """

    model: int
    trained: int
    largest: int
    taught_by: int = 0
    momentum_bytes: int = 0


def model_without_values(recipe: PretrainRecipe, config: VecoConfig, teacher: VecoConfig | None) -> VecoForPreTraining:
    """The model of a run on torch's meta device, with the layers, adapters and teacher that the run leaves or gives it.

    `config` is that of the model which it begins from. Raises ValueError as the run does that builds it.
    """
    with torch.device("meta"):
        model = VecoForPreTraining(copy.deepcopy(config), ObjectiveSum.union(recipe.objectives()))
        if recipe.init_from and recipe.keep_layers:
            keep_layers(model, recipe.keep_layers)
        if recipe.adapter:
            add_adapter(model, recipe)
        if recipe.lora_rank:
            inject_low_rank(model, recipe)
        if teacher is not None:
            teach(model, Teacher(VecoForPreTraining(teacher, "mlm")), distillations(recipe))
    return model


def most_parameters(model: VecoForPreTraining, parts: Iterable[PretrainRecipe]) -> Parameters:
    """The most of each number that a model of `model_without_values` has in the parts of its run."""
    found = [astuple(parameters_of(model, part)) for part in parts]
    return Parameters(*map(max, zip(*found, strict=True)))


def parameters_of(model: VecoForPreTraining, part: PretrainRecipe) -> Parameters:
    """The numbers of a model of `model_without_values` in a part of its run."""
    active, used = active_adapters(model), {objective.name for objective in ObjectiveSum.of(part.objective)}
    trained = [weight.numel() for name, weight in model.named_parameters() if is_trained(name, part, active)]
    with torch.device("meta"):
        momenta = [module.begin(model.veco) for name, module in modules_with_momentum(model).items() if name in used]
        momentum_bytes = sum(tensor.nbytes for momentum in momenta for tensor in momentum.tensors().values())
    taught = [module for module in model.objective_modules.values() if isinstance(module, TaughtModule)]
    teachers = [module.teacher.model for module in taught if module.teacher is not None]
    return Parameters(
        sum(weight.numel() for weight in model.parameters()),
        sum(trained),
        max(trained, default=0),
        sum(weight.numel() for teacher in teachers for weight in teacher.parameters()),
        momentum_bytes,
    )
