"""A teacher's probabilities as targets against plain loops in float64, and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import kl_div

from veco import soft_targets
from veco.soft_targets import ProjectedDivergence, SoftTargets, soft_divergence
from veco.vocabulary_loss import VocabularyProjection

PIECES = 7


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(logits: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(logit / temperature) for logit in logits]
    return [one / sum(exponentials) for one in exponentials]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_is_hintons(temperature: float) -> None:
    student, teacher = drawn(5, PIECES, seed=1), drawn(5, PIECES, seed=2)
    expected = []
    for own, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = softmax(own, temperature), softmax(theirs, temperature)
        expected.append(temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    found = soft_divergence(student, teacher, temperature)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    of_torch = kl_div(
        (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1), reduction="none"
    ).sum(-1)
    torch.testing.assert_close(found, temperature**2 * of_torch)


@pytest.fixture
def soft() -> SoftTargets:
    """Of a teacher that has two pieces more than the student."""
    return SoftTargets(drawn(5, 6, seed=3), drawn(PIECES + 2, 6, seed=4), drawn(PIECES + 2, seed=5), 1.5)


def test_projection_in_chunks_is_the_divergence(soft: SoftTargets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "CHUNK_POSITIONS", 2)
    inputs = [drawn(5, 4, seed=6), drawn(PIECES, 4, seed=7), drawn(PIECES, seed=8)]
    states, weight, bias = (tensor.requires_grad_() for tensor in inputs)
    logits = states @ weight.t() + bias
    taught = soft.states_NE @ soft.weight_VE[:PIECES].t() + soft.bias_V[:PIECES]
    losses, agrees = ProjectedDivergence.apply(states, weight, bias, soft)
    torch.testing.assert_close(losses, soft_divergence(logits, taught, soft.temperature))
    assert agrees.tolist() == [a == b for a, b in zip(logits.argmax(1), taught.argmax(1), strict=True)]
    assert torch.autograd.gradcheck(lambda *of: ProjectedDivergence.apply(*of, soft)[0], (states, weight, bias))


def test_projection_gives_the_divergence_of_each_position(soft: SoftTargets) -> None:
    head = VocabularyProjection(4, PIECES).double()
    states = drawn(5, 4, seed=6).requires_grad_()
    losses, agrees = head(states, soft_targets=soft)
    expected, agreeing = ProjectedDivergence.apply(states, head.weight, head.bias.float(), soft)
    assert agrees.equal(agreeing)
    torch.testing.assert_close(losses, expected)
    ours, theirs = (torch.autograd.grad(x.sum(), (states, head.weight, head.bias)) for x in (losses, expected))
    torch.testing.assert_close(ours, theirs)


def test_nothing_predicted_is_nothing_lost() -> None:
    weight = drawn(PIECES, 4, seed=1).requires_grad_()
    none = SoftTargets(drawn(0, 4, seed=1), weight.detach(), drawn(PIECES, seed=2), 1.0)
    losses, agrees = ProjectedDivergence.apply(drawn(0, 4, seed=1), weight, drawn(PIECES, seed=2), none)
    losses.sum().backward()
    assert len(losses) == len(agrees) == 0 and weight.grad is not None and not weight.grad.any()
