"""VecoForMaskedLM on path S, as tuples and with wrong labels; tests of conversion compare path H with XLM-R."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from veco import VecoConfig, VecoForMaskedLM
from veco.labels import IGNORED
from veco.soft_targets import SoftTargets, soft_divergence


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


@pytest.mark.parametrize("num_predicted", [0, 1, 21])
def test_head_of_predicted_states_is_that_of_all_logits(model, num_predicted: int, rounding: int) -> None:
    """Of targets, of a teacher's probabilities and of the best piece alone; rows behind the states leave no trace."""
    states, targets = torch.randn(num_predicted, 32, requires_grad=True), torch.randint(60, (num_predicted,))
    soft = SoftTargets(torch.randn(num_predicted, 8), torch.randn(60, 8), torch.randn(60), 2.0)
    logits = model.lm_head(states)
    taught = soft.states_NE @ soft.weight_VE.t() + soft.bias_V
    losses, is_right = model.lm_head(states, targets)
    divergences, agrees = model.lm_head(states, soft_targets=soft)
    torch.testing.assert_close(losses, cross_entropy(logits, targets, reduction="none"))
    torch.testing.assert_close(divergences, soft_divergence(logits, taught, 2.0))
    best = model.lm_head(states, only_best=True)
    assert best.equal(logits.argmax(1)) and is_right.equal(best == targets) and agrees.equal(best == taught.argmax(1))
    ours, theirs = (
        torch.autograd.grad(x.sum(), [states, *model.lm_head.parameters()])
        for x in (losses, cross_entropy(logits, targets, reduction="none"))
    )
    torch.testing.assert_close(ours, theirs)


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
