"""Gradient checkpointing and torch.compile do not change a model's results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForPreTraining,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoModel,
)

CLASSES, STARTS, ENDS = torch.tensor([1, 0, 1]), torch.tensor([1, 2, 0]), torch.tensor([3, 2, 1])
TRAINED = [
    VecoForMaskedLM,
    VecoForPreTraining,
    VecoForConditionalGeneration,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoForQuestionAnswering,
]


@pytest.fixture
def batches(padded_batch, pair_batch) -> dict[type[PreTrainedModel], dict[str, Tensor]]:
    """A batch with labels for each model; those that classify are plugged in."""
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    single = {"input_ids": ids, "attention_mask": mask}
    pair = {**single, "pair_input_ids": pair_ids, "pair_attention_mask": pair_mask}
    return {
        VecoForMaskedLM: {**single, "labels": ids},
        VecoForPreTraining: {**pair, "labels": ids, "pair_labels": pair_ids},
        VecoForConditionalGeneration: {**single, "labels": pair_ids},
        VecoForSequenceClassification: {**pair, "labels": CLASSES, "pair_targets": CLASSES},
        VecoForTokenClassification: {**pair, "labels": ids % 2, "pair_targets": pair_ids % 2},
        VecoForQuestionAnswering: {**pair, "start_positions": STARTS, "end_positions": ENDS},
    }


@pytest.fixture
def trainable_config(config: VecoConfig) -> VecoConfig:
    """Plugged in, with dropout and with the fields that only translation needs."""
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.2
    config.plug_in, config.decoder_start_token_id = True, 0
    return config


@pytest.mark.parametrize("model_class", TRAINED)
def test_checkpointing_gives_the_same_gradients(trainable_config, batches, model_class) -> None:
    """With dropout: recomputation draws the same random numbers."""
    torch.manual_seed(1)
    model = model_class(trainable_config).train()

    def gradients() -> tuple[Tensor, dict[str, Tensor | None]]:
        model.zero_grad()
        torch.manual_seed(2)
        loss = model(**batches[model_class]).loss
        loss.backward()
        return loss, {name: parameter.grad for name, parameter in model.named_parameters()}

    loss, expected = gradients()
    model.gradient_checkpointing_enable()
    calls: list[str] = []
    model.veco.layers[0].feed_forward.register_forward_hook(lambda *_: calls.append("forward"))
    loss_again, found = gradients()
    sweeps = 2 if "pair_input_ids" in batches[model_class] else 1
    assert len(calls) == 2 * sweeps, "each sweep's layer is computed once more for the backward pass"
    torch.testing.assert_close(loss_again, loss, rtol=0, atol=0)
    assert any(gradient is not None for gradient in expected.values())
    for name, gradient in expected.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=0, msg=name)


def test_checkpointing_does_not_change_evaluation(trainable_config, batches) -> None:
    model = VecoForTokenClassification(trainable_config).eval()
    expected = model(**batches[VecoForTokenClassification]).logits
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(model(**batches[VecoForTokenClassification]).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_model_gives_the_same_h_and_s(config, padded_batch, pair_batch, backend: str) -> None:
    """As one graph; the fast back end only traces, the slow one also generates code."""
    config.num_hidden_layers = 1
    torch.manual_seed(3)
    model = VecoModel(config)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    results = []
    for encode in (model, compiled):
        model.zero_grad()
        h_y = encode(pair_ids, pair_mask).last_hidden_state
        s_x = encode(ids, mask, encoder_hidden_states=h_y, encoder_attention_mask=pair_mask).last_hidden_state
        s_x.square().sum().backward()
        results.append((h_y, s_x, {name: parameter.grad for name, parameter in model.named_parameters()}))
    (h, s, gradients), (compiled_h, compiled_s, compiled_gradients) = results
    torch.testing.assert_close(compiled_h, h, rtol=0, atol=1e-5)
    torch.testing.assert_close(compiled_s, s, rtol=0, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[name], gradient, rtol=1e-4, atol=1e-4, msg=name)
