"""Paraphrase classification: both rows of a pair alone through the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from random_pairs import batch_of_views

from veco import VecoForPreTraining
from veco.objectives.clpc import told_apart
from veco.views import CLEAN_PAIR, UNLIKE


def test_loss_is_the_formula() -> None:
    logits = torch.tensor([-2.0, 0.5, 30.0], dtype=torch.float64, requires_grad=True)
    for is_translation, of_logit in ((True, torch.sigmoid(logits)), (False, 1 - torch.sigmoid(logits))):
        losses, is_right = told_apart(logits, is_translation)
        torch.testing.assert_close(losses, -torch.log(of_logit), rtol=1e-3, atol=1e-6)
        assert is_right.tolist() == [(logit > 0) == is_translation for logit in logits.tolist()]
        assert torch.autograd.gradcheck(lambda x, is_one=is_translation: told_apart(x, is_one)[0], (logits,))


def test_pairs_are_judged_by_their_first_state(model_of: Callable[[str], VecoForPreTraining]) -> None:
    model, batch = model_of("clpc"), batch_of_views(CLEAN_PAIR, UNLIKE)
    module = model.objective_modules["clpc"]
    odds = {
        view: module(model.veco(batch[f"{view}_input_ids"], batch[f"{view}_attention_mask"])[0][:, 0]).squeeze(1)
        for view in (CLEAN_PAIR, UNLIKE)
    }
    expected = -torch.log(torch.sigmoid(odds[CLEAN_PAIR])), -torch.log(1 - torch.sigmoid(odds[UNLIKE]))
    output = model(**batch)
    torch.testing.assert_close(
        output.loss, expected[0].mean() + expected[1].mean(), rtol=0, atol=1e-6, check_dtype=False
    )
    totals = output.row_totals["clpc"].double()
    torch.testing.assert_close(totals[:, 0], expected[0] + expected[1], rtol=1e-5, atol=0)
    assert totals[:, 1].tolist() == [2.0] * len(totals)
    assert totals[:, 2].tolist() == [float(a > 0) + float(b < 0) for a, b in zip(*odds.values(), strict=True)]
