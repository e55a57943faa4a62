"""Objective: a part of what is pre-trained for, and the words in which it says what it needs.

An objective names the views of a batch that it reads (see `veco.views`; `pretrain/views` makes them), the routes on
which these go through the layers, and its terms. It predicts pieces of the vocabulary, or has losses of its own.
`veco.objectives.states` sends all views of all objectives along their routes together, each route once.

Shape suffixes: N tokens of a view's rows, packed end to end; R rows of a view; P predicted tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from veco.config import VecoConfig
from veco.packing import Sizes

if TYPE_CHECKING:
    from veco.objectives.states import Batch, States

MONO, BILINGUAL = "mono", "bilingual"  # kinds of batches: of adjacent segments, and of translations
# Resources beside the text, and the fields of a recipe that name them.
LEXICON, THESAURUS, TEACHER = "lexicon", "thesaurus", "teacher"
# Encoders of a pass without gradient beside a TEACHER: the model itself, and a copy that follows it.
ITSELF, MOMENTUM = "itself", "momentum"


@dataclass(frozen=True)
class Sight:
    """Which tokens of its row a token attends to: all of them, those up to it, or those of some classes.

    A token of class i attends to those of class j where `attends_to[i][j]`; the objective tells the classes. Routes of
    equal sight go through the layers together, so `name` tells apart only for a reader.
    """

    name: str
    is_causal: bool = False
    attends_to: tuple[tuple[bool, ...], ...] | None = None


FULL, CAUSAL = Sight("full"), Sight("causal", is_causal=True)


@dataclass(frozen=True)
class Route:
    """The way of a view through the layers: path H, or with `keys` path S.

    `keys` is another view, whose last states on path H (of full sight) the cross-attention of each layer reads; row i
    reads those of row i. They are behind a stop-gradient (VECO, ACL 2021, section 2.2) unless `keys_learn`.
    """

    view: str
    sight: Sight = FULL
    keys: str | None = None
    keys_learn: bool = False


@dataclass(frozen=True)
class PassWithoutGradient:
    """A forward pass that an objective makes beside the sweeps of its routes, for counts of operations and memory.

    It goes on these routes through the first `num_layers` layers (None: all) of an `encoder`, which is ITSELF, MOMENTUM
    or TEACHER, and projects `num_projected` positions to the vocabulary. `keeps_states`: those after every layer.
    """

    encoder: str
    routes: tuple[Route, ...]
    num_layers: int | None = None
    num_projected: int = 0
    keeps_states: bool = False

    def encoder_of(self, model: VecoConfig, teacher: VecoConfig | None) -> VecoConfig:
        """The shape of the encoder, of a model of that shape or of its teacher."""
        if self.encoder != TEACHER:
            return model
        assert teacher is not None, "an objective that needs a teacher has one"
        return teacher

    def depth_in(self, encoder: VecoConfig) -> int:
        """The layers that it goes through in an encoder of that shape."""
        return encoder.num_hidden_layers if self.num_layers is None else self.num_layers


@dataclass(frozen=True)
class Count:
    """The number of items that a term's mean is over: the predicted tokens of a view, or its rows."""

    view: str
    of_rows: bool = False

    def of(self, sizes: Sizes) -> int:
        return len(sizes.lengths[self.view]) if self.of_rows else sizes.num_predicted[self.view]


class Term(NamedTuple):
    """A loss that metrics show by its name: the sum of the means over each of its `counts`.

    `is_of_tokens`: it is in nats a token, which a perplexity can be made of. `weight` is its factor among the terms of
    its objective. `is_judged`: an item comes out right or wrong, so that there is a share of right ones.
    """

    name: str
    counts: tuple[Count, ...]
    is_of_tokens: bool = True
    weight: float = 1.0
    is_judged: bool = True


class Prediction(NamedTuple):
    """Cross-entropies that predict the labels of a view from its states on a route, by the language-modelling head."""

    term: str
    route: Route


class ItemLosses(NamedTuple):
    """Losses (n,) of a term's items in float32, the batch's pair that each belongs to, and whether each came out right.

    `counted` is that one of the term's counts, of which these are the items.
    """

    term: str
    values: Tensor
    rows: Tensor
    is_right: Tensor
    counted: Count


@dataclass(frozen=True)
class Objective:
    """Base of all objectives. The fields of a subclass are its options, which a recipe gives in brackets.

    It applies to a batch that has its views. Instances are values: they compare by their options, and travel to loader
    processes; parameters of their own are in `module`.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = (MONO, BILINGUAL)  # the kinds of batches that it is for
    needs: ClassVar[tuple[str, ...]] = ()  # the resources without which its views, or its losses, cannot be made
    uses: ClassVar[tuple[str, ...]] = ()  # further resources that these are made with where a recipe gives them
    # The view of the keys of its `Momentum` (veco.objectives.shared), a copy of the encoder that follows each update;
    # its module has one. Empty: it has none.
    momentum_view: ClassVar[str] = ""

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the views that it reads."""
        raise NotImplementedError

    @property
    def contrasts_pairs(self) -> bool:
        """Whether it contrasts pairs inside groups, which `veco.objectives.shared.pooling.groups` makes of a batch."""
        return False

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes whose states it reads, beside those of its predictions."""
        return ()

    @property
    def terms(self) -> tuple[Term, ...]:
        """Its terms."""
        raise NotImplementedError

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The predictions of pieces of the vocabulary that it asks for."""
        return ()

    @property
    def trains_head(self) -> bool:
        """Whether a loss of it depends on the language-modelling head."""
        return bool(self.predictions)

    @property
    def deepest_layer(self) -> int | None:
        """The deepest layer that a loss of it depends on, 0 = the embeddings; None: the last."""
        return None

    def num_projected(self, sizes: Sizes) -> int:
        """Positions of a batch of that size whose vocabulary is projected with a gradient."""
        return sum(sizes.num_predicted[prediction.route.view] for prediction in self.predictions)

    def passes_without_gradient(self, sizes: Sizes) -> tuple[PassWithoutGradient, ...]:
        """The passes over a batch of that size that it makes beside the sweeps of its routes."""
        return ()

    def problems(self) -> list[str]:
        """One sentence for each option that is not allowed."""
        return []

    def idle(self, names: Collection[str], reason: str) -> list[str]:
        """One sentence, with the reason, for each of these options that is given though nothing reads it."""
        defaults = {option.name: option.default for option in fields(self)}
        given = {name: vars(self)[name] for name in names if vars(self)[name] != defaults[name]}
        return [f"{name} {value} has no effect: {reason}" for name, value in given.items()]

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        """The layers whose states it reads on its routes beside the last, 0 = the embeddings."""
        return ()

    def module(self, config: VecoConfig) -> nn.Module | None:
        """The parameters that it has beside the model's, if any; drawn by the model's own rule."""
        return None

    def token_classes(self, route: Route, batch: Batch) -> Tensor:
        """Classes int64 (N,) of the tokens of a route whose sight asks for them."""
        raise NotImplementedError

    def embedded(self, batch: Batch, module: nn.Module | None) -> Mapping[str, Tensor]:
        """Embedded tokens (N, D) of those of its views that are not the embeddings of their ids."""
        return {}

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        """Its losses beside its predictions'."""
        return []

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """Every route that it asks for, each once."""
        return tuple(dict.fromkeys((*self.routes, *(prediction.route for prediction in self.predictions))))

    @property
    def trains_cross_attention(self) -> bool:
        """Whether a loss of it depends on the cross-attention."""
        return any(route.keys is not None for route in self.all_routes)
