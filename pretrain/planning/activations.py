"""Bytes that a micro-step needs beside weights, gradients and optimizer, counted from the model's code.

A layer keeps for its backward pass, for each token: its input, queries, keys, values and context, the input of each
LayerNorm and the output of the first ones, each as wide as the model; the inner states of the feed-forward module
before their activation (veco/feed_forward.py computes the activated ones again); a byte for each element that dropout
sees; and float32 statistics of LayerNorm and of the fused attention. Plugged in, its cross-attention comes on top. A
layer whose activations are recomputed keeps its input alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.planning.workload import PairShape
from veco import VecoConfig
from veco.objectives.objective import PassWithoutGradient
from veco.vocabulary_loss import BLOCK_LOGITS, CHUNK_POSITIONS

FLOAT32 = 4
NORM_STATISTICS = 2 * FLOAT32  # mean and deviation of a token
BLOCK_COPIES = 2  # of a block of logits in float32: with its bias, and after softmax


@dataclass(frozen=True)
class Storage:
    """Storage of activations: bytes of a number, whether layers are recomputed, and the kind of device.

    A CPU (`on_cpu`) writes attention weights out to drop some of them, which a card's kernels do not, and converts the
    logits to float32 by few rows at a time.
    """

    number: int = 2
    recompute: bool = False
    on_cpu: bool = False


@dataclass(frozen=True)
class Sweep:
    """The tokens of a sweep through the layers, and the bytes that each layer keeps of them if it is not recomputed."""

    tokens: int
    layer: int


@dataclass(frozen=True)
class MicroStep:
    """Bytes of a micro-step: kept for the backward pass, and needed beside these at its moments.

    These are the vocabulary's loss, the backward pass of the first layer, and that of the first one of the H sweep
    after the S sweep. What is done by then keeps nothing any more, so the numbers may be negative. Passes without
    gradient, through a teacher or a momentum encoder, come between the forward and the backward pass.
    """

    kept: int
    logits: int
    first_layer: int
    h_layer: int
    without_gradient: int = 0


def micro_step(
    config: VecoConfig, shape: PairShape, pairs: int, storage: Storage, teacher: VecoConfig | None = None
) -> MicroStep:
    """Memory of a micro-step of `pairs` pairs of that shape."""
    width, number = config.hidden_size, storage.number
    h_tokens, s_tokens = (pairs * shape.tokens(plugged_in) for plugged_in in (False, True))
    h_scores, s_scores = (pairs * shape.attended(plugged_in) for plugged_in in (False, True))
    masks = config.hidden_dropout_prob > 0
    h_layer = h_tokens * token_bytes(config, number, plugged_in=False) + score_bytes(config, storage, h_scores)
    s_layer = s_tokens * token_bytes(config, number, plugged_in=True) + score_bytes(config, storage, s_scores)
    if storage.recompute:
        of_layers = config.num_hidden_layers * (h_tokens + s_tokens) * width * number
    else:
        of_layers = config.num_hidden_layers * (h_layer + s_layer)
    embeddings = pairs * shape.embedded_tokens * (width * (number + masks) + NORM_STATISTICS)
    positions = pairs * shape.positions
    # The predicted states, and three times in the head's transformation.
    head = positions * ((1 + 3 * config.lm_head_transform) * width * number + NORM_STATISTICS)
    # The first input of S is that of H; in its stead there are the states of the pair, once for all layers.
    kept = of_layers + embeddings + head
    first, of_h = layer_bytes(config, storage, Sweep(h_tokens, h_layer), Sweep(s_tokens, s_layer))
    passes = [
        pairs * pass_bytes(config, teacher, shape, found, storage.number) for found in shape.passes_without_gradient
    ]
    return MicroStep(
        kept, logits(config, positions, storage), first - head, of_h - head, without_gradient=max(passes, default=0)
    )


def token_bytes(config: VecoConfig, number: int, plugged_in: bool) -> int:
    """Bytes that a layer keeps per token."""
    width, masks = config.hidden_size, config.hidden_dropout_prob > 0
    attention = config.num_attention_heads * FLOAT32
    kept = width * (8 * number + 2 * masks) + config.intermediate_size * number + 2 * NORM_STATISTICS + attention
    if plugged_in:  # keys and values are those of as many other tokens
        kept += width * (6 * number + masks) + NORM_STATISTICS + attention
    return kept


def score_bytes(config: VecoConfig, storage: Storage, scores: int) -> int:
    """Bytes of stored attention weights: after softmax, and with dropout the result and its mask, too."""
    if not storage.on_cpu:
        return 0
    has_dropout = config.attention_probs_dropout_prob > 0
    return config.num_attention_heads * scores * (storage.number + has_dropout * (storage.number + 1))


def pass_bytes(
    config: VecoConfig, teacher: VecoConfig | None, shape: PairShape, found: PassWithoutGradient, number: int
) -> int:
    """Bytes of a pair in a pass without gradient, at its most.

    A layer has its input, what its feed-forward module reads, and the inner states before and after the activation.
    """
    encoder = found.encoder_of(config, teacher)
    tokens = sum(shape.sizes.num_tokens(route.view) for route in found.routes)
    states = 2 + (found.depth_in(encoder) if found.keeps_states else 0)
    return tokens * (states * encoder.hidden_size + 2 * encoder.intermediate_size) * number


def layer_bytes(config: VecoConfig, storage: Storage, h: Sweep, s: Sweep) -> tuple[int, int]:
    """Bytes needed by the backward pass in its first layer, and in the first layer of H after S (or else in the last).

    It has the gradients of the inner states before and after the activation, and two of the layer's own; and where the
    layer is recomputed, all that it keeps.
    """
    width, inner, number = config.hidden_size, config.intermediate_size, storage.number

    def needed(sweep: Sweep) -> int:
        return sweep.tokens * 2 * (inner + width) * number + storage.recompute * sweep.layer

    def kept(sweep: Sweep) -> int:
        return sweep.tokens * width * number if storage.recompute else sweep.layer

    if s.tokens:
        return needed(s), needed(h) - config.num_hidden_layers * kept(s)
    return needed(h), needed(h) - (config.num_hidden_layers - 1) * kept(h)


def logits(config: VecoConfig, positions: int, storage: Storage) -> int:
    """Bytes of the vocabulary loss at its peak: a chunk of logits, and the part of it that is in float32."""
    chunk = min(positions, CHUNK_POSITIONS) * config.vocab_size
    block = min(chunk, max(BLOCK_LOGITS, config.vocab_size)) if storage.on_cpu else chunk
    return chunk * storage.number + BLOCK_COPIES * block * FLOAT32
