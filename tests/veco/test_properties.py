"""Properties for any number and length of sequences: padding, order of the batch, XLM-R plugged out, H inside S."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import XLMRobertaModel
from xlm_roberta import encoder_weights, random_xlm_roberta

from veco import VecoConfig, VecoForTokenClassification, VecoModel

TOLERANCE = 1e-5  # float32; sums over padding are in another order
PAD = 1

# All examples share the fixtures, since none changes a model.
quickly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sequence = st.lists(st.integers(4, 58), min_size=1, max_size=12)
sequences = st.lists(sequence, min_size=1, max_size=4)
pairs = st.lists(st.tuples(sequence, sequence), min_size=1, max_size=4)
more_columns = st.integers(0, 5)


@pytest.fixture
def model(config: VecoConfig) -> VecoModel:
    torch.manual_seed(1)
    return VecoModel(config).eval()


@pytest.fixture
def plugged_in(config: VecoConfig) -> VecoForTokenClassification:
    torch.manual_seed(1)
    config.plug_in = True
    return VecoForTokenClassification(config).eval()


def padded(rows: list[list[int]], more: int = 0) -> dict[str, Tensor]:
    """Ids and mask of rows, with `more` extra columns of padding."""
    length = max(map(len, rows)) + more
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": ids.ne(PAD).long()}


def padded_pairs(rows: list[tuple[list[int], list[int]]], more_x: int = 0, more_y: int = 0) -> dict[str, Tensor]:
    of_y = padded([y for _, y in rows], more_y)
    return padded([x for x, _ in rows], more_x) | {f"pair_{name}": value for name, value in of_y.items()}


@given(rows=sequences, more=more_columns)
@quickly
def test_state_depends_on_its_own_sequence_alone(model: VecoModel, rows: list[list[int]], more: int) -> None:
    together = model(**padded(rows, more)).last_hidden_state
    for row, states in zip(rows, together, strict=True):
        alone = model(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(states[: len(row)], alone, rtol=0, atol=TOLERANCE)


@given(rows=pairs, more_x=more_columns, more_y=more_columns)
@quickly
def test_prediction_depends_on_its_own_pair_alone(plugged_in, rows, more_x: int, more_y: int) -> None:
    together = plugged_in(**padded_pairs(rows, more_x, more_y))
    for number, (x, y) in enumerate(rows):
        alone = plugged_in(torch.tensor([x]), pair_input_ids=torch.tensor([y]))
        torch.testing.assert_close(together.logits[number, : len(x)], alone.logits[0], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(together.pair_logits[number, : len(y)], alone.pair_logits[0], rtol=0, atol=TOLERANCE)


@given(rows=pairs, data=st.data())
@quickly
def test_order_of_the_batch_is_irrelevant(plugged_in, rows, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    batch = padded_pairs(rows)
    output = plugged_in(**batch)
    shuffled = plugged_in(**{name: values[order] for name, values in batch.items()})
    torch.testing.assert_close(shuffled.logits, output.logits[order], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(shuffled.pair_logits, output.pair_logits[order], rtol=0, atol=TOLERANCE)


@pytest.fixture
def xlm_roberta_and_veco(config: VecoConfig) -> tuple[XLMRobertaModel, VecoModel]:
    torch.manual_seed(2)
    theirs = random_xlm_roberta(partial(XLMRobertaModel, add_pooling_layer=False), config).eval()
    ours = VecoModel(config, has_cross_attention=False).eval()
    ours.load_state_dict(encoder_weights(theirs))
    return theirs, ours


@given(rows=sequences, more=more_columns)
@quickly
def test_plugged_out_is_xlm_roberta(xlm_roberta_and_veco, rows: list[list[int]], more: int) -> None:
    theirs, ours = xlm_roberta_and_veco
    batch = padded(rows, more)
    is_token = batch["attention_mask"].bool()
    expected, states = theirs(**batch).last_hidden_state, ours(**batch).last_hidden_state
    torch.testing.assert_close(states[is_token], expected[is_token], rtol=0, atol=TOLERANCE)


def test_s_is_h_with_the_norm_of_cross_attention_when_that_gives_nothing(model: VecoModel) -> None:
    """VECO, section 2.1: a residual and a LayerNorm follow each module; if its output is 0, they get the state."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            if ".cross_attention.out_proj." in name:
                parameter.zero_()
    rows = [[5, 6, 7, 8, 9], [10, 11, 12]]
    ids, mask = padded(rows).values()
    s = model(
        ids, mask, encoder_hidden_states=torch.randn(2, 4, 32), encoder_attention_mask=torch.ones(2, 4)
    ).last_hidden_state

    states = model.embeddings(ids, torch.tensor([[2, 3, 4, 5, 6], [2, 3, 4, 1, 1]]))
    for layer in model.layers:
        may_attend = mask.bool()[:, None, None]
        states = layer.self_attention_norm(states + layer.self_attention(states, attention_mask=may_attend))
        states = layer.cross_attention_norm(states)
        states = layer.feed_forward_norm(states + layer.feed_forward(states))
    torch.testing.assert_close(s, states, rtol=0, atol=TOLERANCE)
