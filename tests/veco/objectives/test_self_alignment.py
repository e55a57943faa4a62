"""Self-training of alignment: the formula, pair by pair, and the links of the method that it tunes for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_pairs import batch_of_views
from torch import Tensor

from analysis.aligning.evidence import StateEvidence
from analysis.aligning.links import likely_links
from veco import VecoForPreTraining
from veco.objectives.objective_sum import parse
from veco.objectives.self_alignment import Alignment, Pieces
from veco.views import CLEAN_X, CLEAN_Y

THRESHOLD = 0.1
LENGTHS = ((4, 6), (5, 3), (3, 4))  # with <s> and </s>


def random_sides() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(3, 6, 4, dtype=torch.float64)


def pieces(states_RTD: Tensor, lengths: list[int]) -> Pieces:
    """Rows that begin with `<s>` and end with `</s>`."""
    places = torch.arange(states_RTD.shape[1])
    return Pieces(states_RTD, (places > 0) & (places < torch.tensor(lengths).unsqueeze(1) - 1))


def alignment_of(x: Tensor, y: Tensor) -> Alignment:
    of_x, of_y = zip(*LENGTHS, strict=True)
    return Alignment.of(pieces(x, list(of_x)), pieces(y, list(of_y)))


def of_pair(x_MD: Tensor, y_ND: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Both losses of one pair of pieces, by loops over these."""
    scores = x_MD @ y_ND.T
    m, n = scores.shape
    certainty, agreement = torch.zeros((), dtype=x_MD.dtype), torch.zeros((), dtype=x_MD.dtype)
    for i in range(m):
        for j in range(n):
            p, q = scores[i].exp()[j] / scores[i].exp().sum(), scores[i, j].exp() / scores[:, j].exp().sum()
            if p > threshold and q > threshold:
                certainty = certainty + (p / m + q / n) / 2
            agreement = agreement + p * q
    return 1 - certainty, 1 - agreement / min(m, n)


def test_losses_are_the_formulas() -> None:
    x, y = random_sides()
    found = alignment_of(x, y)
    for row, (m, n) in enumerate(LENGTHS):
        of_self, of_consistency = of_pair(x[row, 1 : m - 1], y[row, 1 : n - 1], THRESHOLD)
        assert found.self_training(THRESHOLD)[row].item() == pytest.approx(of_self.item(), abs=1e-6)
        assert found.disagreement()[row].item() == pytest.approx(of_consistency.item(), abs=1e-6)


def test_gradients() -> None:
    x, y = (side.requires_grad_() for side in random_sides())
    assert torch.autograd.gradcheck(lambda x, y: alignment_of(x, y).self_training(THRESHOLD), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: alignment_of(x, y).disagreement(), (x, y))


def test_it_trains_the_links_of_softmax() -> None:
    """What has a share in the loss is what `analysis.alignment --methods softmax` links."""
    x, y = random_sides()
    found = alignment_of(x, y)
    m, n = (length - 2 for length in LENGTHS[0])
    to_y, to_x = (of[:1, 1 : m + 1, 1 : n + 1] for of in (found.to_y_RMN, found.to_x_RMN))
    units = (torch.arange(size)[None] for size in (m, n))
    evidence = StateEvidence(*units, x[:1, 1 : m + 1], y[:1, 1 : n + 1], distortion=0.0)
    for probability, own in zip(evidence.probabilities(), (to_y, to_x), strict=True):
        torch.testing.assert_close(probability, own)
    is_link = likely_links(*evidence.probabilities(), evidence.is_cell, THRESHOLD)
    expected = ((to_y / m + to_x / n) * is_link).sum() / 2
    torch.testing.assert_close(1 - found.self_training(THRESHOLD)[0], expected)
    assert 0 < is_link.sum() < is_link.numel()


@pytest.mark.parametrize("layer", [-1, 1])
def test_states_are_those_of_the_layer(model_of: Callable[[str], VecoForPreTraining], layer: int) -> None:
    """Each sentence alone through the encoder, and no special token among the pieces."""
    model, batch = model_of(f"self_alignment(layer={layer}, consistency=true)"), batch_of_views(CLEAN_X, CLEAN_Y)
    expected = []
    for row in range(len(batch[f"{CLEAN_X}_input_ids"])):
        sides = []
        for view in (CLEAN_X, CLEAN_Y):
            ids = batch[f"{view}_input_ids"][row][batch[f"{view}_attention_mask"][row].bool()]
            states = model.veco(ids[None], output_hidden_states=True).hidden_states
            sides.append(states[layer][0, 1:-1])
        expected.append(torch.stack(of_pair(*sides, 0.001)))
    output = model(**batch)
    torch.testing.assert_close(output.loss, torch.stack(expected).mean(0).sum(), rtol=0, atol=1e-6, check_dtype=False)


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"threshold 1.0 must be from 0 to below 1; .*layer -2 must be -1"):
        parse("self_alignment(threshold=1, layer=-2)")
