"""Cross-lingual contrast (XLCO; InfoXLM, Chi et al., 2021) as the authors' code has it, with a queue of negatives.

A query q is the state of `<s>` after a layer, of the masked sentences of two pairs in one language; its key k is that
of the same sentences in the other language, from the momentum encoder. With the queue K and a temperature t

    L = -log exp(q . k / t) / (exp(q . k / t) + sum_{n in K} exp(q . n / t))

Source: microsoft/unilm, infoxlm, xlco.py and xlco_dataset.py. Negatives come from the queue alone, so that losses and
gradients are the same for any number of ranks and accumulation steps. In our runs kinds of batches take turns, where
InfoXLM's updates have a batch of each kind: the momentum encoder follows every update, and the queue moves on with the
bilingual ones. Two pairs in a row may be of different languages. The momentum encoder has no dropout.

Shape suffixes: R queries; Q vectors of the queue; D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from veco.config import VecoConfig
from veco.objectives.objective import (
    BILINGUAL,
    MOMENTUM,
    Count,
    ItemLosses,
    Objective,
    PassWithoutGradient,
    Route,
    Term,
)
from veco.objectives.shared.momentum import MomentumModule
from veco.objectives.shared.pooling import pooled, products
from veco.objectives.states import LAST, States
from veco.packing import Sizes
from veco.views import JOINED_X, JOINED_Y

MOST_KEYS = 10**7  # in a queue: 30 GB of vectors of base's width, far more than any was trained with


@dataclass(frozen=True)
class CrossLingualContrast(Objective):
    """InfoXLM's contrast. Its published base model has layer 8 of 12, queue 131072, momentum 0.9999, temperature 0.25.

    The queue and momentum here are the defaults of its code. `project`: a matrix behind both encoders, the momentum
    encoder's following that of the model. `normalise` is ours: cosines, with `cosine_temperature`, for small queues,
    with which dot products collapse more easily.
    """

    name = "xlco"
    kinds = (BILINGUAL,)
    views = (JOINED_X, JOINED_Y)
    routes = (Route(JOINED_X),)
    terms = (Term("xlco", (Count(JOINED_X, of_rows=True),), is_of_tokens=False),)
    momentum_view = JOINED_Y

    layer: int = 8
    queue: int = 256
    momentum: float = 0.999
    temperature: float = 0.25
    project: bool = False
    normalise: bool = False
    cosine_temperature: float = 0.05

    def problems(self) -> list[str]:
        temperatures = {name: vars(self)[name] for name in ("temperature", "cosine_temperature")}
        return [
            *(f"{name} {value} must be above 0" for name, value in temperatures.items() if value <= 0),
            *([] if 0 < self.queue <= MOST_KEYS else [f"queue {self.queue} must be from 1 to {MOST_KEYS:,}"]),
            *([] if 0 <= self.momentum < 1 else [f"momentum {self.momentum} must be from 0 to below 1"]),
            *([] if self.layer == LAST or self.layer > 0 else [f"layer {self.layer} must be -1, the last, or above 0"]),
            *(
                self.idle(["temperature"], "with normalise, cosine_temperature is read instead")
                if self.normalise
                else self.idle(["cosine_temperature"], "give normalise=true, or temperature instead")
            ),
        ]

    @property
    def deepest_layer(self) -> int | None:
        return None if self.layer == LAST else self.layer

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return () if self.layer == LAST else (self.layer,)

    def passes_without_gradient(self, sizes: Sizes) -> tuple[PassWithoutGradient, ...]:
        """The keys."""
        num_layers = None if self.layer == LAST else self.layer
        return (PassWithoutGradient(MOMENTUM, (Route(self.momentum_view),), num_layers),)

    def module(self, config: VecoConfig) -> MomentumModule:
        num_layers = None if self.layer == LAST else self.layer
        return MomentumModule(config, num_layers, self.queue, self.momentum, self.project)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        assert isinstance(module, MomentumModule)
        momentum, packed = module.running(), states.batch.packed
        queries_RD = module(pooled(states.of(Route(JOINED_X), self.layer), packed, JOINED_X, "cls"))
        keys_RD = momentum.vectors(states.batch, self.momentum_view)
        if states.batch.encoder.training:
            momentum.keys.append(keys_RD)
        queue_QD, temperature = momentum.queue_QD, self.temperature
        if self.normalise:
            queries_RD, keys_RD, queue_QD = (normalize(of, dim=1) for of in (queries_RD, keys_RD, queue_QD))
            temperature = self.cosine_temperature
        values, is_right = queued_contrast(queries_RD, keys_RD, queue_QD, temperature)
        pairs_of_a_row = -(-packed.num_pairs // len(values))
        rows = pairs_of_a_row * torch.arange(len(values), device=values.device)
        return [ItemLosses(self.name, values, rows, is_right, self.terms[0].counts[0])]


def queued_contrast(queries_RD: Tensor, keys_RD: Tensor, queue_QD: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of each query (R,), and whether its key has the largest product: the formula above."""
    positive_R1 = (queries_RD * keys_RD).sum(1, keepdim=True)
    logits = torch.cat([positive_R1, products(queries_RD, queue_QD)], dim=1) / temperature
    targets = torch.zeros(len(queries_RD), dtype=torch.int64, device=queries_RD.device)
    return cross_entropy(logits, targets, reduction="none"), logits.argmax(1) == 0
