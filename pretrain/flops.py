"""Floating-point operations of the model's mathematics, for the share of a machine's peak that is used."""

from __future__ import annotations

from veco import VecoConfig
from veco.objectives.objective import PassWithoutGradient, Route
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.states import sweeps_of
from veco.packing import Sizes

# A product's backward pass is two products of its size. What is computed again to save memory is not counted: model
# FLOPs utilisation (PaLM, Chowdhery et al., 2022, appendix B).
TRAINING_PASSES = 3


def training_flops(
    config: VecoConfig, sizes: Sizes, objective: ObjectiveSum, teacher: VecoConfig | None = None
) -> float:
    """Operations of a forward and a backward pass over real tokens, with the passes that have no gradient.

    `teacher` is the shape of the model that an objective learns from; without it none does.
    """
    applying = objective.of_batch(sizes.lengths)
    without_gradient = sum(
        pass_flops(config, teacher, sizes, found) for part in applying for found in part.passes_without_gradient(sizes)
    )
    return TRAINING_PASSES * forward_flops(config, sizes, applying) + without_gradient


def forward_flops(config: VecoConfig, sizes: Sizes, objective: ObjectiveSum) -> float:
    """Operations of the matrix products in the forward pass that has a gradient, over real tokens, without padding.

    A multiplication with its addition counts as two; of attention that is causal only half is needed. Counted are the
    layers and the language-modelling head, not what an objective computes beside them.
    """
    applying = objective.of_batch(sizes.lengths)
    return layers_flops(config, sizes, applying) + head_flops(
        config, sum(part.num_projected(sizes) for part in applying)
    )


def layers_flops(config: VecoConfig, sizes: Sizes, objective: ObjectiveSum) -> float:
    """Those of `forward_flops` that are in the layers."""
    routes = [route for sweep in sweeps_of(list(objective), list(sizes.lengths)) for route in sweep.routes]
    return config.num_hidden_layers * sum(route_flops(config, sizes, route) for route in routes)


def route_flops(config: VecoConfig, sizes: Sizes, route: Route) -> float:
    """Operations of one layer on a route."""
    width, lengths = config.hidden_size, sizes.lengths[route.view]
    per_token = 8 * width**2 + 4 * width * config.intermediate_size  # four projections, two of the feed-forward
    scores = sum(length**2 for length in lengths) / (2 if route.sight.is_causal else 1)
    found = per_token * sum(lengths) + 4 * width * scores  # scores, and the values that they weigh
    if route.keys is not None:
        keys = sizes.lengths[route.keys]
        found += 4 * width**2 * (sum(lengths) + sum(keys))  # of queries and context; keys and values
        found += 4 * width * sum(query * key for query, key in zip(lengths, keys, strict=True))
    return found


def head_flops(config: VecoConfig, positions: int) -> float:
    """Operations of the language-modelling head at so many positions."""
    transform = config.hidden_size**2 if config.lm_head_transform else 0
    return 2 * (transform + config.hidden_size * config.vocab_size) * positions


def pass_flops(config: VecoConfig, teacher: VecoConfig | None, sizes: Sizes, found: PassWithoutGradient) -> float:
    """Operations of a pass without gradient, of a model of that shape or of its teacher."""
    shape = found.encoder_of(config, teacher)
    in_layers = found.depth_in(shape) * sum(route_flops(shape, sizes, route) for route in found.routes)
    return in_layers + head_flops(shape, found.num_projected)
