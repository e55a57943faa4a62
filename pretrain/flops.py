"""Floating-point operations of the model's mathematics, for the share of a machine's peak that is used."""

from __future__ import annotations

from veco import VecoConfig
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.states import sweeps_of
from veco.packing import Sizes

# A product's backward pass is two products of its size. What is computed again to save memory is not counted: model
# FLOPs utilisation (PaLM, Chowdhery et al., 2022, appendix B).
TRAINING_PASSES = 3


def forward_flops(config: VecoConfig, sizes: Sizes, objective: ObjectiveSum) -> float:
    """Operations of the matrix products in a forward pass over real tokens, without padding.

    A multiplication with its addition counts as two; of attention that is causal only half is needed. Counted are the
    layers and the language-modelling head, not what an objective computes beside them.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    per_token = 8 * width**2 + 4 * width * config.intermediate_size  # four projections, two of the feed-forward
    applying = objective.of_views(sizes.lengths)
    in_layers = 0.0
    for sweep in sweeps_of(list(applying), list(sizes.lengths)):
        for route in sweep.routes:
            lengths = sizes.lengths[route.view]
            scores = sum(length**2 for length in lengths) / (2 if sweep.sight.is_causal else 1)
            in_layers += per_token * sum(lengths) + 4 * width * scores  # scores, and the values that they weigh
            if route.keys is not None:
                keys = sizes.lengths[route.keys]
                in_layers += 4 * width**2 * (sum(lengths) + sum(keys))  # of queries and context; keys and values
                in_layers += 4 * width * sum(query * key for query, key in zip(lengths, keys, strict=True))
    predictions = [prediction for part in applying for prediction in part.predictions]
    predicted = sum(sizes.num_predicted[prediction.route.view] for prediction in predictions)
    transform = width**2 if config.lm_head_transform else 0
    return layers * in_layers + 2 * (transform + width * config.vocab_size) * predicted
