"""Relations of MiniLMv2 and distances of states against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch

from veco.objectives.shared.relations import relation_divergence, state_distance
from veco.packing import Padding, starts_of

LENGTHS = (5, 1, 3)


def vectors(width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(LENGTHS), width, dtype=torch.float64, generator=generator, requires_grad=True)


def padding() -> Padding:
    return Padding.behind(starts_of(LENGTHS), max(LENGTHS), sum(LENGTHS))


def rows_of(packed: torch.Tensor) -> list[list[list[float]]]:
    return [row.tolist() for row in packed.detach().split(LENGTHS)]


def relations(row: list[list[float]], head: int, num_heads: int) -> list[list[float]]:
    """softmax(Q_a Q_a^T / sqrt(width / A)) of a row, written out."""
    size = len(row[0]) // num_heads
    own = [token[head * size : (head + 1) * size] for token in row]
    found = []
    for query in own:
        scores = [math.exp(sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(size)) for key in own]
        found.append([score / sum(scores) for score in scores])
    return found


@pytest.mark.parametrize(("of_student", "of_teacher", "heads"), [(8, 8, 2), (4, 12, 4), (6, 10, 1)])
def test_divergence_is_the_formula_for_any_widths(of_student: int, of_teacher: int, heads: int) -> None:
    student, teacher = vectors(of_student, 1), vectors(of_teacher, 2)
    expected = []
    for own, theirs in zip(rows_of(student), rows_of(teacher), strict=True):
        total = 0.0
        for head in range(heads):
            for r_s, r_t in zip(relations(own, head, heads), relations(theirs, head, heads), strict=True):
                total += sum(t * math.log(t / s) for s, t in zip(r_s, r_t, strict=True))
        expected.append(total / (heads * len(own)))
    found = relation_divergence(student, teacher, padding(), heads)
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    assert expected[1] == pytest.approx(0, abs=1e-12) and min(expected[0], expected[2]) > 0.01


def test_its_gradient_goes_to_the_student_alone() -> None:
    student, teacher = vectors(4, 1), vectors(6, 2)
    assert torch.autograd.gradcheck(lambda of: relation_divergence(of, teacher, padding(), 2), student)
    relation_divergence(student, teacher, padding(), 2).sum().backward()
    assert student.grad is not None and student.grad.any() and teacher.grad is None


def test_equal_vectors_diverge_by_nothing() -> None:
    same = vectors(8, 1)
    assert relation_divergence(same, same, padding(), 4).tolist() == [0.0, 0.0, 0.0]
    assert state_distance(same, same, padding()).tolist() == [0.0, 0.0, 0.0]


def test_distance_is_the_mean_over_tokens_and_width() -> None:
    student, teacher = vectors(6, 1), vectors(6, 2)
    expected = [
        sum((s - t) ** 2 for a, b in zip(own, theirs, strict=True) for s, t in zip(a, b, strict=True)) / len(own) / 6
        for own, theirs in zip(rows_of(student), rows_of(teacher), strict=True)
    ]
    found = state_distance(student, teacher, padding())
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    assert torch.autograd.gradcheck(lambda of: state_distance(of, teacher, padding()), student)


def test_half_precision_is_related_in_float32() -> None:
    student, teacher = vectors(8, 1).detach(), vectors(8, 2).detach()
    halves = student.bfloat16(), teacher.bfloat16()
    expected = relation_divergence(halves[0].double(), halves[1].double(), padding(), 2)
    found = relation_divergence(*halves, padding(), 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
