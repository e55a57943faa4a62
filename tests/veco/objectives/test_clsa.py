"""AMBER's sentence alignment against a plain loop in float64, and what is a negative of what."""

from __future__ import annotations

import pytest
import torch

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.clsa import alignment


def test_loss_is_the_formula() -> None:
    torch.manual_seed(1)
    x, y = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    sentences = [*x, *y]
    expected, is_right = [], []
    for i in range(4):
        products = {s: x[i] @ sentence for s, sentence in enumerate(sentences) if s != i}
        expected.append(-torch.log(products[4 + i].exp() / sum(product.exp() for product in products.values())))
        is_right.append(max(products, key=products.__getitem__) == 4 + i)
    values, right = alignment(x, y)
    torch.testing.assert_close(values, torch.stack(expected), rtol=1e-6, atol=1e-6)
    assert right.tolist() == is_right
    assert torch.autograd.gradcheck(lambda a, b: alignment(a, b)[0], (x, y))


@pytest.mark.parametrize("objective", ["clsa", "clsa(masked=true)"])
def test_vectors_are_means_of_the_last_states(config: VecoConfig, objective: str) -> None:
    torch.manual_seed(2)
    model = VecoForPreTraining(config, objective).eval()
    names = ("", "pair_") if "masked" in objective else ("clean_x_", "clean_y_")
    batch, vectors = {}, []
    for name, length in zip(names, (6, 9), strict=True):
        ids = torch.randint(4, 59, (4, length))
        ids[1, 5:] = 1
        mask = ids.ne(1).long()
        batch |= {f"{name}input_ids": ids, f"{name}attention_mask": mask, f"{name}labels": torch.full_like(ids, -100)}
        hidden = model.veco(ids, mask).last_hidden_state * mask.unsqueeze(2)
        vectors.append(hidden.sum(1) / mask.sum(1, keepdim=True))
    expected = alignment(*vectors)[0]
    output = model(**batch)
    torch.testing.assert_close(output.loss, expected.mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.row_totals["clsa"][:, 0], expected, rtol=1e-5, atol=1e-5)
