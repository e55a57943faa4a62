"""Distillation: a student learns what a trained teacher computes from the same masked text, plugged out and in.

Three terms, each with a weight, of which 0 leaves it out:

- relations: those of `shared.relations` (MiniLMv2), the mean over queries, keys and values, of the student's
  last layer and the teacher's layer `layer`: of the self-attention on path H, and plugged in of the cross-attention on
  path S, whose queries are of one sentence, keys and values of the other. The published layer of XLM-R large is 19 of
  24, the published relation heads are 48 and 64 (all unverified). Nothing behind the queries, keys and values of the
  student's last layer learns from them, so another term, or `mlm`, must teach that.
- states: squared differences of the last layers' states, or with `every_layer` also of the embeddings and of each
  layer l of the student from layer round(l * teacher's layers / student's layers) (TinyBERT, Jiao et al., 2020). A
  student of another width has a matrix in front of the comparison, which is thrown away with the teacher.
- logits: the teacher's probabilities of all pieces at predicted places (Hinton et al., 2015; `veco.soft_targets`).

All are means over rows or predicted tokens, so losses are the same for any number of ranks and accumulation steps.

Shape suffixes: N tokens of a view's rows, packed end to end; R rows; P predicted tokens; D, E width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from veco.attention import PackedEnds, PackedMask
from veco.config import VecoConfig
from veco.layer import VecoLayer
from veco.model import VecoModel
from veco.objectives.objective import (
    TEACHER,
    Count,
    ItemLosses,
    Objective,
    PassWithoutGradient,
    Route,
    Term,
)
from veco.objectives.shared.relations import compared_layers, mean_state_distance, relation_divergence
from veco.objectives.shared.teacher import TaughtModule
from veco.objectives.states import LAST, Batch, States
from veco.packing import Sizes
from veco.views import X, Y

RELATIONS, STATES, LOGITS = "relations", "states", "logits"
PATHS = {False: "distil", True: "distil_cross"}  # beginnings of the names of terms on path H, and on path S


class Vectors(NamedTuple):
    """Vectors (N, D) that are related to each other, and the view whose tokens they are of."""

    view: str
    vectors_ND: Tensor


@dataclass(frozen=True)
class Distillation(Objective):
    """What a teacher computes; `plugged_in` adds what it computes on path S, each term with the same weight.

    `layer` is the teacher's, counted from 1, whose relations are learned; -1 is the last.
    """

    name = "distil"
    needs = (TEACHER,)
    views = (X, Y)

    relations: float = 1.0
    states: float = 0.0
    logits: float = 0.0
    layer: int = LAST
    heads: int = 16
    every_layer: bool = False
    temperature: float = 1.0
    plugged_in: bool = False

    def problems(self) -> list[str]:
        weights = self._weights
        return [
            *(f"{name} {weight} must not be negative" for name, weight in weights.items() if not weight >= 0),
            *([] if any(weights.values()) else [f"one of {', '.join(weights)} must be above 0"]),
            *([] if self.layer == LAST or self.layer > 0 else [f"layer {self.layer} must be -1, the last, or above 0"]),
            *([] if self.heads > 0 else [f"heads {self.heads} must be above 0"]),
            *([] if self.temperature > 0 else [f"temperature {self.temperature} must be above 0"]),
            *([] if self.relations else self.idle(["layer", "heads"], "they are of relations, whose weight is 0")),
            *([] if self.states else self.idle(["every_layer"], "it is of states, whose weight is 0")),
            *([] if self.logits else self.idle(["temperature"], "it is of logits, whose weight is 0")),
        ]

    @property
    def _weights(self) -> dict[str, float]:
        return {RELATIONS: self.relations, STATES: self.states, LOGITS: self.logits}

    @property
    def routes(self) -> tuple[Route, ...]:
        plugged_in = (Route(X, keys=Y), Route(Y, keys=X)) if self.plugged_in else ()
        return (Route(X), Route(Y), *plugged_in)

    @property
    def terms(self) -> tuple[Term, ...]:
        return tuple(
            Term(
                f"{path}_{name}",
                tuple(Count(view, of_rows=name != LOGITS) for view in self.views),
                is_of_tokens=False,
                weight=weight,
                is_judged=name == LOGITS,
            )
            for is_plugged_in, path in PATHS.items()
            for name, weight in self._weights.items()
            if weight and (self.plugged_in or not is_plugged_in)
        )

    @property
    def trains_head(self) -> bool:
        return self.logits > 0

    def num_projected(self, sizes: Sizes) -> int:
        """Those whose logits are compared with the teacher's."""
        return sum(sizes.num_predicted[route.view] for route in self.routes) if self.logits else 0

    def passes_without_gradient(self, sizes: Sizes) -> tuple[PassWithoutGradient, ...]:
        """The teacher's."""
        keeps_states = bool(self.relations or (self.states and self.every_layer))
        return (PassWithoutGradient(TEACHER, self.routes, None, self.num_projected(sizes), keeps_states),)

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        inside = range(config.num_hidden_layers) if self.states and self.every_layer else ()
        return (*inside, *([config.num_hidden_layers - 1] if self.relations else []))

    def module(self, config: VecoConfig) -> TaughtModule:
        return TaughtModule()

    def check(self, student: VecoConfig, teacher: VecoConfig) -> None:
        """Raise ValueError where a student of that shape cannot learn this from a teacher of that one."""
        of_teacher = teacher.num_hidden_layers
        if self.layer > of_teacher:
            raise ValueError(f"distil: layer {self.layer} must be at most {of_teacher}, the layers of the teacher")
        widths = {"student": student.hidden_size, "teacher": teacher.hidden_size}
        undivided = [f"the {whose}'s width {width}" for whose, width in widths.items() if width % self.heads]
        if self.relations and undivided:
            raise ValueError(f"distil: heads {self.heads} must divide {' and '.join(undivided)}")
        if student.vocab_size > teacher.vocab_size and self.logits:
            raise ValueError(
                f"distil: the student has {student.vocab_size:,} pieces, more than the {teacher.vocab_size:,} of the "
                "teacher, whose logits it is to learn; leave logits out, or take the teacher's vocabulary"
            )

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        assert isinstance(module, TaughtModule)
        teacher = module.running()
        taught = teacher.states(states.batch, [self])
        found: list[ItemLosses] = []
        for route in self.routes:
            by_name = {
                RELATIONS: self._relation_losses,
                STATES: self._state_losses,
                LOGITS: self._logit_losses,
            }
            for name, weight in self._weights.items():
                if weight:
                    values, is_right = by_name[name](route, states, taught, module)
                    found.append(self._items(name, route, states.batch, values, is_right))
        return found

    def _items(self, name: str, route: Route, batch: Batch, values: Tensor, is_right: Tensor | None) -> ItemLosses:
        """Losses of the rows of a route, or of its predicted tokens, for which alone there is a right and a wrong."""
        term, packed = f"{PATHS[route.keys is not None]}_{name}", batch.packed
        if is_right is not None:
            return ItemLosses(term, values, packed.rows[packed.predictions(route.view)], is_right, Count(route.view))
        rows = torch.arange(len(values), device=values.device)
        return ItemLosses(term, values, rows, rows < 0, Count(route.view, of_rows=True))

    def _relation_losses(
        self, route: Route, states: States, taught: States, module: TaughtModule
    ) -> tuple[Tensor, None]:
        of_student = related(states, route, states.batch.encoder.config.num_hidden_layers)
        with torch.no_grad():
            of_teacher = related(taught, route, self._layer_of(taught.batch.encoder.config))
        losses = [
            relation_divergence(own.vectors_ND, theirs.vectors_ND, states.batch.padding_of(own.view), self.heads)
            for own, theirs in zip(of_student, of_teacher, strict=True)
        ]
        return torch.stack(losses).mean(0), None

    def _layer_of(self, teacher: VecoConfig) -> int:
        return teacher.num_hidden_layers if self.layer == LAST else self.layer

    def _state_losses(self, route: Route, states: States, taught: States, module: TaughtModule) -> tuple[Tensor, None]:
        padding = states.batch.padding_of(route.view)
        of_student, of_teacher = states.batch.encoder.config, taught.batch.encoder.config
        compared = compared_layers(of_student.num_hidden_layers, of_teacher.num_hidden_layers, self.every_layer)
        pairs = ((module(states.of(route, own)), taught.of(route, theirs)) for own, theirs in compared)
        return mean_state_distance(pairs, padding), None

    def _logit_losses(
        self, route: Route, states: States, taught: States, module: TaughtModule
    ) -> tuple[Tensor, Tensor]:
        packed = states.batch.packed
        places = packed.predicted[packed.predictions(route.view)] - packed.tokens(route.view).start
        soft = module.running().soft_targets(taught.of(route).index_select(0, places), self.temperature)
        values, agrees = states.batch.lm_head(states.of(route).index_select(0, places), soft_targets=soft)
        return values, agrees


def related(states: States, route: Route, layer: int) -> list[Vectors]:
    """Queries, keys and values of a layer, counted from 1, on a route: of cross-attention where it is plugged in."""
    encoder: VecoModel = states.batch.encoder
    module = encoder.layers[layer - 1]
    assert isinstance(module, VecoLayer)
    before_ND = states.of(route, layer - 1)
    if route.keys is None:
        own = module.self_attention
        return [Vectors(route.view, projection(before_ND)) for projection in (own.q_proj, own.k_proj, own.v_proj)]
    packed = states.batch.packed
    lengths, starts = packed.sizes.lengths[route.view], packed.starts_of([route.view])
    # The states inside a layer are not kept. With dropout these are of another draw than those that went on.
    asking_ND = module.self_attended(before_ND, PackedMask(lengths, lengths, ends=PackedEnds(starts, starts)))
    read_MD = states.of(Route(route.keys)).detach()  # behind the same stop-gradient as in the layer
    across = module.cross_attention
    return [
        Vectors(route.view, across.q_proj(asking_ND)),
        Vectors(route.keys, across.k_proj(read_MD)),
        Vectors(route.keys, across.v_proj(read_MD)),
    ]
