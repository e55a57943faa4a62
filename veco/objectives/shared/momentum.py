"""A momentum encoder and the queue of its vectors (MoCo, He et al., 2020), as parts of pre-training without weights.

Shape suffixes: N tokens of a view's rows, packed end to end; R rows; Q vectors of the queue; D width.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from veco.attention import PackedEnds, PackedMask
from veco.config import VecoConfig
from veco.model import VecoModel
from veco.objectives.shared.pooling import pooled
from veco.objectives.states import Batch

ENCODER, PROJECTION, QUEUE, OLDEST = "encoder.", "projection", "queue", "oldest"  # names of its tensors in a file


@dataclass(eq=False)
class Momentum:
    """An encoder whose weights follow another's, and its latest vectors, in float32 whatever the other's precision.

    It is no module, so that its tensors are neither trained nor cast nor exported with the model's. `queue_QD` has all
    its vectors replaced in turn, next that at `oldest`. `keys` are those of this rank since the last update, by
    micro-batch.
    """

    encoder: VecoModel
    projection_DD: Tensor | None
    queue_QD: Tensor
    oldest: int = 0
    keys: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, model: VecoModel, projection: nn.Linear | None, num_layers: int, queue: int) -> Momentum:
        """A copy of the first layers of `model`, and of a projection behind them, with an empty queue of zeros."""
        shape: VecoConfig = copy.deepcopy(model.config)
        shape.num_hidden_layers = num_layers
        encoder = VecoModel(shape, has_cross_attention=False).to(model.device).eval().requires_grad_(False)
        projection_DD = None if projection is None else projection.weight.detach().float().clone()
        made = cls(encoder, projection_DD, torch.zeros(queue, shape.hidden_size, device=model.device))
        made.follow(model, projection, 0.0)
        return made

    @torch.no_grad()
    def vectors(self, batch: Batch, view: str) -> Tensor:
        """Projected states (R, D) of the first token of a view's rows, in the precision of the batch's own encoder."""
        packed, dtype = batch.packed, batch.encoder.dtype
        lengths, starts = packed.sizes.lengths[view], packed.starts_of([view])
        mask = PackedMask(lengths, lengths, ends=PackedEnds(starts, starts))
        is_half = dtype != torch.float32
        with torch.autocast(starts.device.type, dtype) if is_half else contextlib.nullcontext():
            embedded_ND = self.encoder.embeddings(batch.ids_of(view), batch.positions_of(view))
            states_ND = self.encoder.sweep(embedded_ND, mask)[-1]
            first_RD = pooled(states_ND, packed, view, "cls")
            return first_RD if self.projection_DD is None else (first_RD @ self.projection_DD.t()).float()

    @torch.no_grad()
    def follow(self, model: VecoModel, projection: nn.Linear | None, momentum: float) -> None:
        """Keep so much of each weight, and take the rest of it from the model."""
        weights = dict(model.named_parameters())
        for name, own in self.encoder.named_parameters():
            own.lerp_(weights[name].to(own.dtype), 1 - momentum)
        if self.projection_DD is not None and projection is not None:
            self.projection_DD.lerp_(projection.weight.to(self.projection_DD.dtype), 1 - momentum)

    def enqueue(self, keys_RD: Tensor) -> None:
        """Put vectors in the place of the oldest; of more than the queue holds, the last."""
        size = len(self.queue_QD)
        kept_RD = keys_RD[-size:]
        places = (self.oldest + torch.arange(len(kept_RD), device=kept_RD.device)) % size
        self.queue_QD.index_copy_(0, places, kept_RD)
        self.oldest = (self.oldest + len(kept_RD)) % size

    def tensors(self) -> dict[str, Tensor]:
        """All that `load` needs to go on."""
        return {
            **{f"{ENCODER}{name}": weight for name, weight in self.encoder.state_dict().items()},
            **({} if self.projection_DD is None else {PROJECTION: self.projection_DD}),
            QUEUE: self.queue_QD,
            OLDEST: torch.tensor(self.oldest),
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with the tensors of another one of the same shape. Raises ValueError where they are not."""
        own = self.tensors()
        shapes, expected = ({name: tuple(of.shape) for name, of in found.items()} for found in (tensors, own))
        if shapes != expected:
            different = sorted(name for name in {**shapes, **expected} if shapes.get(name) != expected.get(name))
            raise ValueError(
                f"the momentum encoder's {different[0]} has shape {shapes.get(different[0])}, expected "
                f"{expected.get(different[0])}; give the objective the options that the run began with"
            )
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        self.oldest = int(tensors[OLDEST])


class MomentumModule(nn.Module):
    """The projection of an objective's queries, if it has one, and its `momentum`, which the run begins or resumes."""

    def __init__(self, config: VecoConfig, num_layers: int | None, queue: int, momentum: float, projects: bool) -> None:
        """`momentum` is the share of itself that the momentum encoder keeps in an update.

        It has the first `num_layers` of a model; None are all that there are when it begins.
        """
        super().__init__()
        self.num_layers, self.queue, self.kept_share = num_layers, queue, momentum
        self.projection = nn.Linear(config.hidden_size, config.hidden_size, bias=False) if projects else None
        self.momentum: Momentum | None = None

    def forward(self, states_RD: Tensor) -> Tensor:
        """The projected states (R, D) in float32, or the states."""
        if self.projection is None:
            return states_RD
        return self.projection(states_RD.to(self.projection.weight.dtype)).float()

    def begin(self, model: VecoModel) -> Momentum:
        """Make the momentum encoder from a model as it is; its queue has to be filled, or loaded."""
        num_layers = model.config.num_hidden_layers if self.num_layers is None else self.num_layers
        self.momentum = Momentum.of(model, self.projection, num_layers, self.queue)
        return self.momentum

    def running(self) -> Momentum:
        """The momentum encoder. Raises ValueError where it was not begun."""
        if self.momentum is None:
            raise ValueError("the objective has no momentum encoder yet: call begin(model.veco) of its module first")
        return self.momentum

    def after_update(self, model: VecoModel) -> None:
        """Let the momentum encoder follow an update of the model."""
        self.running().follow(model, self.projection, self.kept_share)
