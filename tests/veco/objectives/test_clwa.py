"""Word alignment by attention: the formula, pair by pair and head by head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_pairs import batch_of_views
from torch import Tensor

from veco import VecoForPreTraining
from veco.objectives.clwa import disagreement
from veco.packing import Padding, starts_of
from veco.views import CLEAN_PAIR, TLM


def of_pair(query_HTK: Tensor, key_HTK: Tensor, num_x: int) -> Tensor:
    """The loss of one row, whose first `num_x` tokens are x."""
    found = []
    for query, key in zip(query_HTK, key_HTK, strict=True):
        scores = query @ key.t() / query.shape[1] ** 0.5
        x_to_y, y_to_x = scores[:num_x, num_x:].softmax(1), scores[num_x:, :num_x].softmax(1)
        found.append(torch.trace(y_to_x @ x_to_y) / min(num_x, len(query) - num_x))
    return 1 - torch.stack(found).mean()


def test_loss_is_the_formula() -> None:
    torch.manual_seed(1)
    lengths, nums_x = [5, 7, 4], [2, 4, 3]
    query, key = (torch.randn(3, 2, 7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    padding = Padding.behind(starts_of(lengths), 7, sum(lengths))
    sides = torch.cat([torch.arange(n).ge(num_x).long() for n, num_x in zip(lengths, nums_x, strict=True)])
    values = disagreement(query, key, padding, sides)
    rows = zip(query, key, lengths, nums_x, strict=True)
    expected = torch.stack([of_pair(q[:, :n], k[:, :n], num_x) for q, k, n, num_x in rows])
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(lambda q, k: disagreement(q, k, padding, sides), (query, key))


def test_same_alignment_in_both_directions_has_no_loss() -> None:
    """Token i of x and token i of y attend to each other alone."""
    states = 100 * torch.eye(3).repeat(2, 1)[None, None]
    sides = torch.tensor([0, 0, 0, 1, 1, 1])
    padding = Padding.behind(starts_of([6]), 6, 6)
    torch.testing.assert_close(disagreement(states, states, padding, sides), torch.zeros(1))


@pytest.mark.parametrize(("options", "view"), [("", CLEAN_PAIR), ("(masked=True)", TLM)])
def test_weights_are_those_of_the_last_layer(
    model_of: Callable[[str], VecoForPreTraining], options: str, view: str
) -> None:
    """Each row alone; in all layers the sentences see each other only."""
    model, batch = model_of(f"clwa{options}"), batch_of_views(view)
    expected = []
    for ids, mask in zip(batch[f"{view}_input_ids"], batch[f"{view}_attention_mask"], strict=True):
        ids = ids[mask.bool()]
        of_x = torch.arange(len(ids)) <= ids.tolist().index(2)
        embedded = model.veco.embeddings(ids[None], torch.arange(2, 2 + len(ids))[None])
        other_side = (of_x[:, None] != of_x)[None, None]
        before = model.veco.sweep(embedded, other_side, keep_all=True)[-2][0]
        attention = model.veco.layers[-1].self_attention
        query, key = (
            projection(before).unflatten(1, (attention.num_heads, -1)).transpose(0, 1)
            for projection in (attention.q_proj, attention.k_proj)
        )
        expected.append(of_pair(query, key, int(of_x.sum())))
    output = model(**batch)
    torch.testing.assert_close(output.loss, torch.stack(expected).mean(), rtol=0, atol=1e-6, check_dtype=False)
    assert output.row_totals["clwa"][:, 2].tolist() == [float(loss < 0.5) for loss in expected]
