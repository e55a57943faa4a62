"""A model that another one learns from, as a part of pre-training without weights of the student's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from veco.config import VecoConfig
from veco.masked_lm import VecoWithLMHead
from veco.objectives.objective import Objective
from veco.objectives.states import Batch, States
from veco.soft_targets import SoftTargets


@dataclass(eq=False)
class Teacher:
    """A trained model, whole on each rank, without dropout and without gradient.

    It is no module, so that its tensors are neither trained nor cut into parts nor exported with the student's.
    `fingerprint` identifies it.
    """

    model: VecoWithLMHead
    fingerprint: str = ""

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    def __str__(self) -> str:
        shape = self.config
        return f"{shape.num_hidden_layers} layers of width {shape.hidden_size}, {self.fingerprint[:8]}"

    @property
    def config(self) -> VecoConfig:
        return self.model.config

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move its weights to where, and into what, the student computes."""
        self.model.to(device=device, dtype=dtype)

    @torch.no_grad()
    def states(self, batch: Batch, objectives: Sequence[Objective]) -> States:
        """Its states of a student's batch on the routes that objectives read."""
        return States(replace(batch, encoder=self.model.veco, lm_head=self.model.lm_head), objectives, {})

    @torch.no_grad()
    def soft_targets(self, states_NE: Tensor, temperature: float) -> SoftTargets:
        """What its logits at states of its last layer are made of."""
        head = self.model.lm_head
        weight, bias = head.decoder.weight, head.decoder.bias
        return SoftTargets(head.transformed(states_NE).to(weight.dtype), weight, bias, temperature)


def projection_to(width: int, student: PreTrainedModel) -> nn.Linear | None:
    """A matrix from a student's width to that of its teacher, drawn as its own weights are; None where it has it."""
    own = int(student.config.hidden_size)
    if own == width:
        return None
    projection = nn.Linear(own, width)
    student._init_weights(projection)
    return projection


class TaughtModule(nn.Module):
    """A teacher, once there is one, and the projection of the student's states to its width, where it needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher: Teacher | None = None
        self.projection: nn.Linear | None = None

    def forward(self, states_ND: Tensor) -> Tensor:
        """States in the teacher's width."""
        if self.projection is None:
            return states_ND
        projected: Tensor = self.projection(states_ND.to(self.projection.weight.dtype))
        return projected

    def running(self) -> Teacher:
        """The teacher. Raises ValueError where there is none yet."""
        if self.teacher is None:
            raise ValueError("the objective has no teacher yet: give it one by veco.objectives.distil.teach(model, …)")
        return self.teacher
