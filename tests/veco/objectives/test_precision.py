"""Losses of vectors are computed in the precision of these, also where autocast computes the states in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from veco import VecoConfig
from veco.objectives import hictl, veco2
from veco.objectives.clsa import alignment
from veco.objectives.contrast import info_nce
from veco.objectives.xlco import queued_contrast

ROWS, WIDTH = 6, 32


def words_of_pairs(x: Tensor, y: Tensor, config: VecoConfig) -> Tensor:
    bags = hictl.Bags.of(torch.arange(4, 4 + ROWS), torch.arange(ROWS), ROWS, config)
    return hictl.word_losses(x, y, bags, negatives=3, temperature=0.05)[0]


def linked(x: Tensor, y: Tensor, config: VecoConfig) -> Tensor:
    groups = torch.arange(ROWS).repeat(2).unsqueeze(0)
    words = veco2.LinkedWords(torch.cat([x, y]).unsqueeze(0), groups >= 0, groups, groups)
    return veco2.word_losses(words, temperature=0.05)[0]


LOSSES: dict[str, Callable[[Tensor, Tensor, VecoConfig], Tensor]] = {
    "contrast": lambda x, y, config: info_nce(x, y, temperature=0.05, margin=0.0)[0],
    "clsa": lambda x, y, config: alignment(x, y)[0],
    "xlco": lambda x, y, config: queued_contrast(x, y, y.flip(0), temperature=0.25)[0],
    "hictl_sentences": lambda x, y, config: hictl.sentence_losses(x, y, temperature=0.05, zeta=0.9)[0],
    "hictl_words": words_of_pairs,
    "veco2_words": linked,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_round_products_of_vectors(loss: str, config: VecoConfig) -> None:
    torch.manual_seed(1)
    x = torch.randn(ROWS, WIDTH)
    y = x + 0.1 * torch.randn(ROWS, WIDTH)
    expected = LOSSES[loss](x, y, config)
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[loss](x, y, config)
    torch.testing.assert_close(found, expected)
