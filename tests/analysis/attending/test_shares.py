"""Shares of attention: a case worked by hand, and all metrics by loops over tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.attending.shares import METRICS, Shares, layer_sums, spread, token_metrics
from analysis.weights import PADDING, SOURCE, SPECIAL, TARGET, Tokens, Weights

S, T, X, P = SOURCE, TARGET, SPECIAL, PADDING


def metrics_of_token(weights: list[float], side: int, keys: list[int]) -> dict[str, float]:
    """METRICS of one token, NaN where it has none."""
    own = [w for w, key in zip(weights, keys, strict=True) if key == side]
    other = [w for w, key in zip(weights, keys, strict=True) if key >= 0 and key != side]
    spreading = other or own
    total = sum(spreading)
    found = {
        "own": sum(own),
        "other": sum(other),
        "special": sum(w for w, key in zip(weights, keys, strict=True) if key == X),
        "uniform": len(other) / sum(key != P for key in keys),
        "crossing": float(max(other) > max(own)) if own and other else math.nan,
        "entropy": -sum(w * math.log(w) for w in weights if w),
        "spread": math.nan,
    }
    if len(spreading) > 1 and total:
        scaled = [w / total for w in spreading]
        found["spread"] = -sum(w * math.log(w) for w in scaled if w) / math.log(len(scaled))
    return found


def test_a_case_worked_by_hand() -> None:
    """A source token of two, a target of two: 0.5 on itself, 0.1 on the other word, 0.1 and 0.2 across, 0.1 on </s>."""
    weights = torch.tensor([0.5, 0.1, 0.1, 0.2, 0.1]).view(1, 1, 1, 5)
    found = token_metrics(weights, torch.tensor([[S]]), torch.tensor([[S, S, T, T, X]]))
    values = dict(zip(METRICS, (float(value) for value in found), strict=True))
    assert values["own"] == pytest.approx(0.6) and values["other"] == pytest.approx(0.3)
    assert values["special"] == pytest.approx(0.1) and values["uniform"] == pytest.approx(0.4)
    assert values["crossing"] == 0
    # Entropy of 1/3 and 2/3 in bits, since the largest is that of two: one bit.
    assert values["spread"] == pytest.approx(-(1 / 3) * math.log2(1 / 3) - (2 / 3) * math.log2(2 / 3), abs=1e-6)
    expected = -(0.5 * math.log(0.5) + 3 * 0.1 * math.log(0.1) + 0.2 * math.log(0.2))
    assert values["entropy"] == pytest.approx(expected, abs=1e-6)


KINDS = {
    "tlm": ([[X, S, S, X, T, T, X], [X, S, X, T, X, P, P]], None),
    "plugged-out": ([[X, S, S, S, X], [X, S, X, P, P]], None),
    "plugged-in": ([[X, S, S, X], [X, S, S, X]], [[X, T, T, T, X], [X, T, X, P, P]]),
    "empty": ([[X, S, S, X, X]], None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_those_of_loops_over_tokens(kind: str) -> None:
    queries, keys = KINDS[kind]
    keys = keys or queries
    num_layers, num_heads = 2, 3
    torch.manual_seed(0)
    layers = []
    for _ in range(num_layers):
        scores = 2 * torch.randn(len(queries), num_heads, len(queries[0]), len(keys[0]))
        hidden = torch.tensor(keys) == P
        layers.append(scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(dim=-1))
    none = torch.zeros(1)
    tokens = [Tokens(none, none, torch.tensor(sides)) for sides in (queries, keys)]
    batch = Weights(np.arange(len(queries)), *tokens, iter(layers))
    found = Shares.of(batch)
    for place, layer in enumerate(layers):
        for side in (S, T):
            of_heads: list[list[dict[str, float]]] = [[] for _ in range(num_heads)]
            for row, sides in enumerate(queries):
                for token, own in enumerate(sides):
                    for head in range(num_heads):
                        if own == side:
                            weights = layer[row, head, token].double().tolist()
                            of_heads[head].append(metrics_of_token(weights, side, keys[row]))
            means = found.means([side], of_heads=True)[place]
            for head, seen in enumerate(of_heads):
                for number, metric in enumerate(METRICS):
                    values = [one[metric] for one in seen if not math.isnan(one[metric])]
                    expected = sum(values) / len(values) if values else math.nan
                    assert means[head, number] == pytest.approx(expected, abs=1e-5, nan_ok=True), (metric, head)


def test_sums_of_batches_are_means_over_all_tokens() -> None:
    """Two tokens in one batch and one in another: each counts once."""
    ones = np.ones((2, 1, 1, len(METRICS)))
    both = Shares(0.6 * ones, 2 * ones) + Shares(0.9 * ones, ones)
    assert both.means()[0] == pytest.approx(1.5 / 3)
    nothing = Shares(0 * ones, 0 * ones)
    assert np.isnan(nothing.means()).all()


def test_spread_of_weights_that_vanish_is_none() -> None:
    weights = torch.tensor([[[[0.0, 0.0, 1.0]]]])
    assert spread(weights[..., :2], torch.tensor(2)).isnan().all()
    assert float(spread(torch.full((1, 1, 1, 4), 1e-6), torch.tensor(4))) == pytest.approx(1, abs=1e-4)


def test_weights_that_are_no_numbers_are_refused() -> None:
    """But those of padding, which nothing depends on, may be anything."""
    weights, sides = torch.full((1, 1, 2, 2), torch.nan), torch.tensor([[S, P]])
    with pytest.raises(ValueError, match="the weights of attention are no numbers"):
        layer_sums(weights, sides, sides)
    weights[:, :, 0] = torch.tensor([1.0, 0.0])
    sums, counts = layer_sums(weights, sides, sides)
    assert sums[S, 0, METRICS.index("own")] == 1 and counts[S, 0, METRICS.index("own")] == 1
