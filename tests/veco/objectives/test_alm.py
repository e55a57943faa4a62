"""Alternating language modelling: a masked language model's loss of mixtures, and its options."""

from __future__ import annotations

import pytest
import torch

from veco import VecoConfig, VecoForMaskedLM, VecoForPreTraining


def test_loss_is_that_of_a_masked_language_model(config: VecoConfig, padded_batch) -> None:
    torch.manual_seed(1)
    model = VecoForPreTraining(config, "0.5 * alm").eval()
    ids, mask = padded_batch
    labels = torch.where((torch.rand(ids.shape) < 0.5) & (ids > 3), ids, -100)
    output = model(code_mixed_input_ids=ids, code_mixed_attention_mask=mask, code_mixed_labels=labels)
    masked_lm = VecoForMaskedLM(config)
    masked_lm.load_state_dict(model.state_dict())
    expected = masked_lm.eval()(ids, mask, labels=labels).loss
    torch.testing.assert_close(output.loss, 0.5 * expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("mlm + alm(share=0)", "alm: share 0.0 must be above 0, and at most 1"),
        ("mlm + alm(share=1.5)", "alm: share 1.5 must be above 0, and at most 1"),
        ("mlm + alm(host=z)", "alm: host 'z' must be one of x, y, either"),
    ],
)
def test_bad_options_are_named(objective: str, message: str, config: VecoConfig) -> None:
    with pytest.raises(ValueError, match=message):
        VecoForPreTraining(config, objective)
