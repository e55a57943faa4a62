"""VecoForMaskedLM on path S, as tuples and with wrong labels; tests of conversion compare path H with XLM-R."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from veco import VecoConfig, VecoForMaskedLM
from veco.labels import IGNORED


@pytest.fixture
def model(config: VecoConfig) -> VecoForMaskedLM:
    torch.manual_seed(1)
    return VecoForMaskedLM(config)


def test_plugged_in_model_predicts_from_s(model, padded_batch, pair_batch) -> None:
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    pair_states = model.veco(pair_ids, pair_mask).last_hidden_state
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.5, IGNORED)
    pair = {"encoder_hidden_states": pair_states, "encoder_attention_mask": pair_mask}
    output = model(ids, mask, **pair, labels=labels, output_hidden_states=True)
    s = model.veco(ids, mask, **pair).last_hidden_state
    assert torch.equal(output.hidden_states[-1], s)
    assert torch.equal(output.logits, model.lm_head(s))
    expected = cross_entropy(output.logits[labels != IGNORED], labels[labels != IGNORED])
    torch.testing.assert_close(output.loss, expected)


def test_tuple_on_request_or_by_configuration(model, padded_batch) -> None:
    ids, mask = padded_batch
    expected = model(ids, mask, labels=ids).to_tuple()
    found = [model(ids, mask, labels=ids, return_dict=False)]
    model.config.return_dict = False
    found.append(model(ids, mask, labels=ids))
    for loss, logits in found:
        assert torch.equal(loss, expected[0]) and torch.equal(logits, expected[1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((3, 12), 60), "labels contain 60, expected -100 .* or 0 to 59, one of 60 classes"),
        (torch.full((3, 12), -1), "labels contain -1, expected -100"),
        (torch.zeros(3, 9).long(), r"labels have shape \(3, 9\), expected \(3, 12\)"),
        (torch.zeros(3, 12), "labels are torch.float32, expected class ids"),
    ],
)
def test_wrong_labels_are_refused(model, padded_batch, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(*padded_batch, labels=labels)
