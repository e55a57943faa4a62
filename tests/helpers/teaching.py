"""Students with a teacher, of small shapes."""

from __future__ import annotations

import copy
from typing import Any

import torch

from pretrain.models.teacher import teach
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.distil import Distillation
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.teacher import Teacher


def shaped(config: VecoConfig, **changes: Any) -> VecoConfig:
    """A configuration with some values changed."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def teacher_of(config: VecoConfig, seed: int = 11) -> Teacher:
    """A teacher of random weights, in float64."""
    torch.manual_seed(seed)
    return Teacher(VecoForPreTraining(config, "mlm").double())


def student_of(config: VecoConfig, objective: str, teacher: Teacher, seed: int = 12) -> VecoForPreTraining:
    """A student of random weights, in float64."""
    torch.manual_seed(seed)
    model = VecoForPreTraining(config, objective)
    teach(model, teacher, [part for part in ObjectiveSum.of(objective) if isinstance(part, Distillation)])
    return model.double()
