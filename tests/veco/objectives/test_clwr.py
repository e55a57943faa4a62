"""Word recovery: the formula token by token, and each row alone through the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_pairs import batch_of_views
from torch import Tensor
from torch.nn.functional import cross_entropy

from veco import VecoForPreTraining
from veco.objectives.clwr import PairScores, mixture
from veco.views import CLEAN_Y, WORDS_X, WORDS_Y


def from_the_other(weight: Tensor, x_TD: Tensor, y_SD: Tensor) -> Tensor:
    """What y has for each token of x, (T, D), by loops."""
    found = []
    for x in x_TD:
        scores = torch.stack([weight @ torch.cat([x, y, x * y]) for y in y_SD])
        found.append(sum((share * y for share, y in zip(scores.softmax(0), y_SD, strict=True)), torch.zeros_like(x)))
    return torch.stack(found)


def test_mixture_is_the_formula() -> None:
    torch.manual_seed(1)
    scores = PairScores(9, 1, bias=False).double()
    x, y = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    is_token = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = mixture(scores(x, y), y, is_token)
    for row in range(2):
        expected = from_the_other(scores.weight[0], x[row], y[row][is_token[row]])
        torch.testing.assert_close(found[row], expected, rtol=1e-6, atol=1e-6)
    x.requires_grad_(), y.requires_grad_()

    def of(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
        made = torch.func.functional_call(scores, {"weight": weight}, (x, y))
        return mixture(made, y, is_token)

    assert torch.autograd.gradcheck(of, (scores.weight.detach().requires_grad_(), x, y))


@pytest.mark.parametrize("both", [True, False])
def test_words_are_predicted_from_the_other_sentence(model_of: Callable[[str], VecoForPreTraining], both: bool) -> None:
    model = model_of(f"clwr(both={both})")
    views = (WORDS_X, WORDS_Y) if both else (WORDS_X, CLEAN_Y)
    batch = batch_of_views(*views)
    module = model.objective_modules["clwr"]
    words = model.veco.embeddings.word_embeddings
    losses: dict[str, list[Tensor]] = {view: [] for view in views}
    for row in range(len(batch[f"{WORDS_X}_input_ids"])):
        x, y = (batch[f"{view}_input_ids"][row][batch[f"{view}_attention_mask"][row].bool()] for view in views)
        for view, own, other in ((views[0], x, y), (views[1], y, x)):
            mixed = from_the_other(module.weight[0], words(own), words(other))
            logits = model.lm_head(model.veco(inputs_embeds=mixed[None])[0])[0]
            losses[view].append(cross_entropy(logits[1:-1], own[1:-1], reduction="none"))
    expected = sum(torch.cat(losses[view]).mean() for view in (views if both else views[:1]))
    loss = model(**batch).loss
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6, check_dtype=False)
    (gradient,) = torch.autograd.grad(loss, module.weight)
    of_x, of_y, of_both = gradient[0].chunk(3)
    assert of_y.any() and of_both.any() and of_x.abs().max() < 1e-9  # w . x_i is the same for all j
