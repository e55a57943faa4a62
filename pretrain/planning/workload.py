"""The work that a recipe asks for: the model's shape, and an update's pairs with their tokens."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from data_tools.files.yaml_files import expanded
from data_tools.shards.manifest import Manifest
from pretrain.course import RecipeCourse
from pretrain.flops import layers_flops, training_flops
from pretrain.masking import IGNORED
from pretrain.models.initial_model import XLM_ROBERTA, not_to_begin_from
from pretrain.planning.parameters import Parameters, model_without_values, most_parameters
from pretrain.recipe import SHAPE_FIELDS, PretrainRecipe
from pretrain.sources import BILINGUAL, MONO
from pretrain.stages import EVERYTHING
from pretrain.views.table import VIEWS, in_order
from training.recipe.ds_config import HALVES, read_ds_config
from training.recipe.parsing import build_recipe, laid_over, read_yaml
from training.run_directory.kinds import own_model
from veco import VecoConfig
from veco.objectives.objective import ITSELF, PassWithoutGradient, Route
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.states import sweeps_of
from veco.opening import open_config
from veco.packing import Sizes
from veco.views import View, tensors_of

# Models that a recipe may start from before they are downloaded.
KNOWN_MODELS = {"xlm-roberta-base": VecoConfig(), "xlm-roberta-large": VecoConfig.large()}


@dataclass(frozen=True)
class PairShape:
    """A pair of a kind of batch: the tokens of x, and those of y, of which a share is masked; and what it is for."""

    length: int
    mask_rate: float
    objective: ObjectiveSum

    @property
    def sizes(self) -> Sizes:
        """The sizes of its views, one row each."""
        makers = {view: VIEWS[view] for view in in_order(self.objective.views)}
        lengths = {view: (maker.sequences * self.length,) for view, maker in makers.items()}
        predicted = {
            view: maker.sequences * maker.predicted(self.length, self.mask_rate) for view, maker in makers.items()
        }
        return Sizes(lengths, predicted)

    def example(self, pairs: int, vocab_size: int) -> dict[str, Tensor]:
        """The tensors of a batch of that shape, of random pieces; the first tokens of each row are predicted."""
        views = {}
        for view, (length,) in self.sizes.lengths.items():
            ids = torch.randint(4, vocab_size - 1, (pairs, length))
            labels = torch.where(torch.arange(length) < self.sizes.num_predicted[view], ids, IGNORED)
            views[view] = View(ids, torch.ones_like(ids), labels)
        return tensors_of(views)

    def routes(self, plugged_in: bool) -> list[Route]:
        """The routes of its views on path H, or on path S."""
        sweeps = sweeps_of(list(self.objective), list(self.sizes.lengths))
        return [route for sweep in sweeps if sweep.is_plugged_in is plugged_in for route in sweep.routes]

    def tokens(self, plugged_in: bool) -> int:
        """Tokens of all sweeps on path H, or on path S."""
        return sum(self.sizes.num_tokens(route.view) for route in self.routes(plugged_in))

    @property
    def embedded_tokens(self) -> int:
        """Tokens of all views, each embedded once, and again those of which the model has written some itself."""
        written = [
            route.view for found in self.passes_without_gradient if found.encoder == ITSELF for route in found.routes
        ]
        return sum(map(self.sizes.num_tokens, (*self.sizes.lengths, *written)))

    @property
    def positions(self) -> int:
        """Positions whose vocabulary is projected with a gradient, over all parts of the objective."""
        return sum(part.num_projected(self.sizes) for part in self.objective)

    @property
    def passes_without_gradient(self) -> list[PassWithoutGradient]:
        """The passes that the objective makes beside the sweeps of its routes."""
        return [found for part in self.objective for found in part.passes_without_gradient(self.sizes)]

    def attended(self, plugged_in: bool) -> int:
        """Pairs of a query and a key, over all sweeps on path H or on path S, where cross-attention has some too."""
        lengths = {view: of_view[0] for view, of_view in self.sizes.lengths.items()}
        routes = self.routes(plugged_in)
        crossed = sum(lengths[route.view] * lengths[route.keys] for route in routes if route.keys is not None)
        return sum(lengths[route.view] ** 2 for route in routes) + crossed

    def flops(self, config: VecoConfig, recompute: bool, teacher: VecoConfig | None = None) -> float:
        """Operations of a training pass over one pair; with `recompute` the layers' forward pass is counted twice."""
        of_training = training_flops(config, self.sizes, self.objective, teacher)
        return of_training + layers_flops(config, self.sizes, self.objective) * recompute


@dataclass(frozen=True)
class KindOfUpdate:
    """Updates of one kind of batch: how many pairs a global batch has, at their longest and at their mean length."""

    batch_pairs: int
    longest: PairShape
    average: PairShape


@dataclass(frozen=True)
class Part:
    """Updates of a run that are alike, and the kinds of them that take turns."""

    updates: int
    kinds: Mapping[str, KindOfUpdate]

    @property
    def updates_of_a_kind(self) -> float:
        return self.updates / len(self.kinds)


@dataclass(frozen=True)
class Workload:
    """The inputs of a plan: a recipe, its model, the parts of the run one after the other, and the assumptions made."""

    recipe: PretrainRecipe
    config: VecoConfig
    parts: tuple[Part, ...]
    parameters: Parameters  # the most that some part has
    notes: tuple[str, ...] = ()
    teacher: VecoConfig | None = None

    @property
    def kinds(self) -> dict[str, KindOfUpdate]:
        """The largest updates of each kind, by the tokens of a global batch."""
        found: dict[str, KindOfUpdate] = {}
        for name, kind in (item for part in self.parts for item in part.kinds.items()):
            if name not in found or tokens_of(kind) > tokens_of(found[name]):
                found[name] = kind
        return found

    def flops(self, shape: PairShape, recompute: bool) -> float:
        """Operations of a training pass over one pair of that shape."""
        return shape.flops(self.config, recompute, self.teacher)


def tokens_of(kind: KindOfUpdate) -> tuple[int, int, int]:
    """Tokens of x and of y in a global batch at their longest; of equal ones, those with more to predict are more.

    Of equal ones again, those with more passes without gradient.
    """
    pairs, longest = kind.batch_pairs, kind.longest
    return pairs * longest.length, pairs * longest.positions, len(longest.passes_without_gradient)


def parts_of(recipe: PretrainRecipe) -> list[tuple[int, PretrainRecipe]]:
    """Updates, and the recipe half-way through them, of each part of a run in which samples are drawn alike."""
    borders = [*RecipeCourse(recipe).borders(), recipe.total_steps]
    return [(end - begin, recipe.at((begin + end) // 2)) for begin, end in pairwise(borders)]


def read_recipe(path: Path, given: Mapping[str, str] = MappingProxyType({})) -> PretrainRecipe:
    """The recipe of a file with the fields that are `given`, as texts, in their place.

    Where its run, its data and its first model will lie need not be known yet. Raises ValueError with what is wrong.
    """
    values = laid_over(PretrainRecipe, read_yaml(path), given)
    for name in ("output", "data", "init_from", "teacher"):
        if isinstance(values.get(name), str):
            values[name] = expanded_or_name(values[name])
    return build_recipe(PretrainRecipe, values | {"output": values.get("output") or "."}, path)


def recipe_precision(recipe: PretrainRecipe) -> str:
    """The precision that a ds_config sets: "bf16", "fp16" or "float32"."""
    config = read_ds_config(recipe.ds_config)
    return next((name for name in HALVES if config.get(name, {}).get("enabled")), "float32")


def expanded_or_name(text: str) -> str:
    """A path with its variables filled in, or its last part where one of them is not set."""
    try:
        return expanded(text)
    except ValueError:
        return Path(text).name


def plan_workload(
    recipe: PretrainRecipe,
    manifest: Manifest | None,
    lengths: Sequence[Mapping[str, float]],
    vocab_size: int | None,
) -> Workload:
    """The workload of a recipe.

    `lengths` are the mean tokens of x and y by kind, for each of `parts_of`; empty where there are no data yet.
    """
    pad = manifest.special.pad if manifest else VecoConfig.pad_token_id
    config, notes = model_shape(recipe, vocab_size or (manifest.vocab_size if manifest else None), pad)
    teacher, notes_of_teacher = teacher_shape(recipe, config)
    notes = (*notes, *notes_of_teacher)
    if manifest is None:
        notes = (*notes, "no --data: both kinds of batch, every row as long as the recipe allows")
    parts = parts_of(recipe)
    work = [
        Part(updates, kinds_of_updates(of_part, known))
        for (updates, of_part), known in zip(parts, lengths or [{}] * len(parts), strict=True)
    ]
    if len(parts) > 1:
        notes = (
            *notes,
            "memory is that of the largest batches of each kind, time and operations those of the whole run",
        )
    if any(of_part.trains != EVERYTHING for _, of_part in parts):
        notes = (
            *notes,
            "updates that train a part of the model alone: time and activations are those of training everything, more "
            "than it takes",
        )
    try:
        model = model_without_values(recipe, config, teacher)
    except ValueError as error:
        assumed = "; ".join(notes_of_teacher)
        raise ValueError(f"{error} ({assumed})" if assumed else str(error)) from None
    most = most_parameters(model, [of_part for _, of_part in parts])
    return Workload(recipe, model.config, tuple(work), most, notes, teacher)


def kinds_of_updates(recipe: PretrainRecipe, lengths: Mapping[str, float]) -> dict[str, KindOfUpdate]:
    """The kinds of updates of a recipe without stages; `lengths` as `plan_workload` has them of one part."""
    objective = ObjectiveSum.of(recipe.objective)
    of_recipe = {
        MONO: (recipe.mono_batch_pairs, recipe.mono_max_length, recipe.mono_mask_rate),
        BILINGUAL: (recipe.bilingual_batch_pairs, recipe.bilingual_max_length, recipe.bilingual_mask_rate),
    }
    kinds = {}
    for kind in lengths or [kind for kind in of_recipe if objective.of_kind(kind).parts]:
        pairs, longest, rate = of_recipe[kind]
        shape = PairShape(longest, rate, objective.of_kind(kind))
        average = min(longest, max(3, round(lengths.get(kind, longest))))
        kinds[kind] = KindOfUpdate(pairs, shape, dataclasses.replace(shape, length=average))
    return kinds


def model_shape(
    recipe: PretrainRecipe, vocab_size: int | None, pad_token_id: int | None
) -> tuple[VecoConfig, tuple[str, ...]]:
    """The shape of a recipe's model, and what was assumed for it; size and padding are of a new one's vocabulary.

    Raises ValueError for a model to start from that is neither here nor one of KNOWN_MODELS, or no VECO and no XLM-R.
    """
    dropouts = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    if recipe.init_from is None:
        shape: dict[str, Any] = {name: recipe.__dict__[name] for name in SHAPE_FIELDS} | {"pad_token_id": pad_token_id}
        if vocab_size is None:
            vocab_size = VecoConfig().vocab_size
            note = f"a vocabulary of {vocab_size:,} pieces, XLM-R's: --data or --vocab_size sets another one"
            return VecoConfig(vocab_size=vocab_size, **shape, **dropouts), (note,)
        return VecoConfig(vocab_size=vocab_size, **shape, **dropouts), ()
    if (known := known_shape(Path(recipe.init_from), "init_from")) is None:
        expected = f"expected a model's directory, or one that is called {', '.join(KNOWN_MODELS)}"
        raise ValueError(f"init_from {recipe.init_from}: {expected}")
    config, notes = known
    for name, value in dropouts.items():
        setattr(config, name, value)
    return config, notes


def teacher_shape(recipe: PretrainRecipe, config: VecoConfig) -> tuple[VecoConfig | None, tuple[str, ...]]:
    """The shape of a recipe's teacher, if any, and what was assumed for it: VECO-large where it is yet to be trained.

    `config` is the student's, whose vocabulary a teacher that is nowhere has.
    """
    if recipe.teacher is None:
        return None, ()
    directory = own_model(Path(recipe.teacher)) or Path(recipe.teacher)
    if (known := known_shape(directory, "teacher")) is None:
        note = f"a teacher of VECO-large's shape: there is no model in {directory} yet"
        vocabulary = {"pad_token_id": config.pad_token_id, "padding_position": config.padding_position}
        return VecoConfig.large(vocab_size=config.vocab_size, **vocabulary), (note,)
    return known


def known_shape(directory: Path, field: str) -> tuple[VecoConfig, tuple[str, ...]] | None:
    """The configuration of a model as a VECO, and what was assumed for it.

    None if it is neither here nor of KNOWN_MODELS. Raises ValueError, which names `field`, for another kind of model.
    """
    if (directory / "config.json").is_file():
        found = open_config(directory)
        if isinstance(found, VecoConfig):
            return found, ()
        if found.model_type != XLM_ROBERTA:
            raise ValueError(not_to_begin_from(field, directory, found.model_type))
        shape = {name: vars(found)[name] for name in (*SHAPE_FIELDS, "pad_token_id", "vocab_size")}
        return VecoConfig(**shape), ()
    if directory.name in KNOWN_MODELS:
        notes = (f"the shape of {directory.name}: there is no {directory} here",)
        return copy.deepcopy(KNOWN_MODELS[directory.name]), notes
    return None
