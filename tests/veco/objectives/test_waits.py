"""Objectives with losses of their own: the host does not wait for a card, and the card computes what the CPU does."""

from __future__ import annotations

import pytest
import torch
from pretend_device import DEVICE
from pretend_kernels import pretend_card

from veco import VecoConfig, VecoForPreTraining
from veco.packing import PackedViews
from veco.views import View, tensors_of


def view(rows: list[list[int]], labels: list[list[int]] | None = None) -> View:
    """Rows of ids and of labels as a view, padded with 1; without labels none is predicted."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    of_rows = labels or [[-100] * len(row) for row in rows]
    return View(ids, ids.ne(1).long(), torch.tensor([row + [-100] * (longest - len(row)) for row in of_rows]))


X = [[0, 11, 12, 13, 2], [0, 21, 22, 2], [0, 31, 32, 33, 2], [0, 11, 2]]
Y = [[0, 41, 42, 2], [0, 43, 44, 45, 2], [0, 46, 2], [0, 47, 48, 2]]
VIEWS = {
    "veco2": {
        "numbered_x": view(X, [[-100, *range(len(row) - 2), -100] for row in X]),
        "numbered_y": view(
            Y, [[-100, *range(len(x) - 2, len(x) + len(y) - 4), -100] for x, y in zip(X, Y, strict=True)]
        ),
        "links": view(
            [[0, *x[1:-1], *y[1:-1]] for x, y in zip(X, Y, strict=True)],
            [[-100, 0, -100, 1, 0, 1], [-100, 0, 0, 0, -100, -100], [-100] * 5, [-100, 0, 0, -100]],
        ),
    },
    "hictl": {
        "clean_x": view(X),
        "clean_y": view(Y),
        "clean_pair": view([[*x, 2, *y[1:]] for x, y in zip(X, Y, strict=True)]),
    },
}


@pytest.mark.parametrize("objective", VIEWS)
def test_host_does_not_wait_for_the_card(objective: str, config: VecoConfig) -> None:
    torch.manual_seed(1)
    model = VecoForPreTraining(config, objective)
    tensors = tensors_of(VIEWS[objective])
    packed = PackedViews.of(VIEWS[objective], pad_token_id=1, group_pairs=2)
    expected = model(**tensors, packed=packed).losses
    with pretend_card((0, 0)) as card:
        model.to(DEVICE)
        on_card = {name: tensor.to(DEVICE) for name, tensor in tensors.items()}, packed.to(DEVICE)
        card.clear()
        output = model(**on_card[0], packed=on_card[1])
        output.loss.backward()
        waits = [where for where, _ in card.waits if "objectives" in where]  # attention without fused kernels waits
        found = {name: loss.detach().to("cpu") for name, loss in output.losses.items()}
    assert not waits
    torch.testing.assert_close(found, {name: loss.detach() for name, loss in expected.items()})
