"""`output_attentions=True` of every model: the softmax written out, head by head, and the same outputs as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForMultipleChoice,
    VecoForPreTraining,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoModel,
)
from veco.attention import MultiHeadAttention
from veco.layer import VecoLayer

# float64: what is compared differs only by the order of sums.
TOLERANCES = {"rtol": 0, "atol": 1e-10}
CLASSIFIERS = [VecoForSequenceClassification, VecoForTokenClassification, VecoForQuestionAnswering]


def plain_softmax(attention: MultiHeadAttention, queries: Tensor, keys: Tensor, is_seen: Tensor) -> Tensor:
    """Weights (B, H, T, S) of one module by loops over rows, heads, queries and keys."""
    q, k = attention.q_proj(queries), attention.k_proj(keys)
    size = attention.head_size
    weights = torch.zeros(len(q), attention.num_heads, q.shape[1], k.shape[1], dtype=q.dtype)
    for row in range(len(q)):
        for head in range(attention.num_heads):
            own = slice(head * size, (head + 1) * size)
            for query in range(q.shape[1]):
                seen = is_seen[row, query].nonzero().flatten().tolist()
                scores = torch.stack([q[row, query, own] @ k[row, key, own] / size**0.5 for key in seen])
                weights[row, head, query, seen] = scores.exp() / scores.exp().sum()
    return weights


def after_self_attention(layer: VecoLayer, states: Tensor, weights: Tensor) -> Tensor:
    """The states that cross-attention starts from, from those in front of the layer and its weights."""
    values = layer.self_attention.v_proj(states).unflatten(-1, (weights.shape[1], -1)).transpose(1, 2)
    context = layer.self_attention.out_proj((weights @ values).transpose(1, 2).flatten(2))
    return layer.self_attention_norm(states + context)


def check_layers(
    layers: Any, states: tuple[Tensor, ...], is_seen: Tensor, found: tuple[Tensor, ...], pair: Any = None
) -> None:
    """All weights of layers from the states in front of each; `pair` = (keys, mask, weights) of cross-attention."""
    for number, layer in enumerate(layers):
        expected = plain_softmax(layer.self_attention, states[number], states[number], is_seen)
        torch.testing.assert_close(found[number], expected, **TOLERANCES)
        if pair is not None:
            keys, is_seen_of_pair, found_of_pair = pair
            queries = after_self_attention(layer, states[number], expected)
            crossed = plain_softmax(layer.cross_attention, queries, keys, is_seen_of_pair)
            torch.testing.assert_close(found_of_pair[number], crossed, **TOLERANCES)


def seen_by_all(mask: Tensor, num_queries: int) -> Tensor:
    """bool (B, T, S): every query sees what `mask` (B, S) lets it."""
    return mask.bool()[:, None].expand(-1, num_queries, -1)


@pytest.fixture
def pair(padded_batch: Any, pair_batch: Any) -> dict[str, Tensor]:
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    return {"input_ids": ids, "attention_mask": mask, "pair_input_ids": pair_ids, "pair_attention_mask": pair_mask}


@torch.no_grad()
def test_weights_of_both_paths_are_the_softmax(config: VecoConfig, padded_batch: Any, pair_batch: Any) -> None:
    torch.manual_seed(0)
    model = VecoForMaskedLM(config).double().eval()
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    wanted = {"output_attentions": True, "output_hidden_states": True}
    h = model(ids, mask, **wanted)
    check_layers(model.veco.layers, h.hidden_states, seen_by_all(mask, 12), h.attentions)
    assert h.cross_attentions is None
    torch.testing.assert_close(h.logits, model(ids, mask).logits, **TOLERANCES)

    h_y = model.veco(pair_ids, pair_mask).last_hidden_state
    plugged = {"encoder_hidden_states": h_y, "encoder_attention_mask": pair_mask}
    s = model(ids, mask, **plugged, **wanted)
    of_pair = h_y, seen_by_all(pair_mask, 12), s.cross_attentions
    check_layers(model.veco.layers, s.hidden_states, seen_by_all(mask, 12), s.attentions, of_pair)
    torch.testing.assert_close(s.logits, model(ids, mask, **plugged).logits, **TOLERANCES)


@pytest.mark.parametrize("model_class", CLASSIFIERS)
@torch.no_grad()
def test_plugged_in_heads_return_the_weights_of_s(
    config: VecoConfig, pair: dict[str, Tensor], model_class: type
) -> None:
    config.plug_in = True
    torch.manual_seed(0)
    model = model_class(config).double().eval()
    output = model(**pair, output_attentions=True)
    h_y = model.veco(pair["pair_input_ids"], pair["pair_attention_mask"]).last_hidden_state
    plugged = {"encoder_hidden_states": h_y, "encoder_attention_mask": pair["pair_attention_mask"]}
    s = model.veco(pair["input_ids"], pair["attention_mask"], **plugged, output_attentions=True)
    for name in ("attentions", "cross_attentions"):
        for found, expected in zip(output[name], s[name], strict=True):
            torch.testing.assert_close(found, expected, **TOLERANCES)
    torch.testing.assert_close(output[0], model(**pair)[0], **TOLERANCES)
    assert model(**pair).cross_attentions is None


@torch.no_grad()
def test_plugged_in_choices_have_weights_of_each(config: VecoConfig, pair: dict[str, Tensor]) -> None:
    config.plug_in = True
    model = VecoForMultipleChoice(config).eval()
    choices = {name: tensor[:, None].expand(-1, 2, -1) for name, tensor in pair.items()}
    output = model(**choices, output_attentions=True)
    assert [tuple(weights.shape) for weights in output.cross_attentions] == [(6, 4, 12, 9)] * 3


@torch.no_grad()
def test_weights_of_a_translation_model_are_the_softmax(config: VecoConfig, padded_batch: Any) -> None:
    config.decoder_start_token_id, config.decoder_layers = 5, 2
    torch.manual_seed(0)
    model = VecoForConditionalGeneration(config).double().eval()
    ids, mask = padded_batch
    targets = torch.randint(4, 59, (3, 6))
    output = model(ids, mask, targets, output_attentions=True, output_hidden_states=True, use_cache=False)
    check_layers(model.veco.layers, output.encoder_hidden_states, seen_by_all(mask, 12), output.encoder_attentions)
    is_earlier = torch.ones(6, 6, dtype=torch.bool).tril().expand(3, -1, -1)
    of_source = output.encoder_last_hidden_state, seen_by_all(mask, 6), output.cross_attentions
    decoder = output.decoder_hidden_states, is_earlier, output.decoder_attentions
    check_layers(model.decoder.layers, *decoder, of_source)
    torch.testing.assert_close(output.logits, model(ids, mask, targets, use_cache=False).logits, **TOLERANCES)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_weights_do_not_depend_on_the_back_end(config: VecoConfig, padded_batch: Any, implementation: str) -> None:
    """They are formed whenever they are asked for; transformers' own models return none with SDPA."""
    torch.manual_seed(0)
    model = VecoModel(config).eval()
    expected = model(*padded_batch, output_attentions=True)
    model.set_attn_implementation(implementation)
    found = model(*padded_batch, output_attentions=True)
    assert all(map(torch.equal, found.attentions, expected.attentions))


@torch.no_grad()
def test_weights_are_requested_by_configuration_too(config: VecoConfig, padded_batch: Any, tmp_path: Any) -> None:
    VecoModel(config).save_pretrained(tmp_path)
    opened = VecoModel.from_pretrained(tmp_path, output_attentions=True)
    assert len(opened(*padded_batch).attentions) == 3


def test_pre_training_says_where_weights_are(config: VecoConfig, pair: dict[str, Tensor]) -> None:
    model = VecoForPreTraining(config)
    labels = {"labels": pair["input_ids"], "pair_labels": pair["pair_input_ids"]}
    assert model(**pair, **labels, output_attentions=False).loss > 0
    with pytest.raises(ValueError, match="packed, where no weights of attention are formed; ask the encoder"):
        model(**pair, **labels, output_attentions=True)
    assert model.veco(pair["input_ids"], pair["attention_mask"], output_attentions=True).attentions
