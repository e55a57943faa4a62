"""The oracle is transformers' XLM-R plugged out, and calls of VecoModel composed by hand plugged in."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
)
from xlm_roberta import encoder_gradients, encoder_weights, random_xlm_roberta

from veco import (
    VecoConfig,
    VecoForMaskedLM,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
)
from veco.dropout import dropout
from veco.labels import IGNORED

TOLERANCE = 1e-5  # float32; the position embedding is added in another order than in XLM-R
NUM_LABELS = 4
XLM_ROBERTA = {
    VecoForSequenceClassification: XLMRobertaForSequenceClassification,
    VecoForTokenClassification: XLMRobertaForTokenClassification,
    VecoForQuestionAnswering: XLMRobertaForQuestionAnswering,
}
AUTO = {
    VecoForSequenceClassification: AutoModelForSequenceClassification,
    VecoForTokenClassification: AutoModelForTokenClassification,
    VecoForQuestionAnswering: AutoModelForQuestionAnswering,
}
# Labels of three sequences of up to 12 tokens; 12 and 30 are beyond the sequence, -1 before it.
CLASSES = {"labels": torch.tensor([2, 0, 3])}
SEVERAL = {"labels": torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0]])}
NUMBER = {"labels": torch.tensor([0.5, -1.25, 3.0])}
NUMBERS = {"labels": torch.tensor([[0.5, -1.25, 3.0, 0], [1, 2, 3, 4], [0, 0, 0, 1]])}
TAGS = {
    "labels": torch.tensor([[IGNORED, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, IGNORED]] * 2 + [[IGNORED, 2, 1] + [IGNORED] * 9])
}
ANSWERS = {"start_positions": torch.tensor([3, 30, -1]), "end_positions": torch.tensor([5, 12, 2])}
KINDS = {
    "classes": (VecoForSequenceClassification, {"num_labels": 4}, CLASSES),
    "several classes": (VecoForSequenceClassification, {"num_labels": 4}, SEVERAL),
    "a number": (VecoForSequenceClassification, {"num_labels": 1}, NUMBER),
    "numbers": (VecoForSequenceClassification, {"num_labels": 4, "problem_type": "regression"}, NUMBERS),
    "tags": (VecoForTokenClassification, {"num_labels": 4}, TAGS),
    "answers": (VecoForQuestionAnswering, {"num_labels": 2}, ANSWERS),
}
MODELS = list(XLM_ROBERTA)


def configured(config: VecoConfig, **changes: object) -> VecoConfig:
    """The configuration with other fields; `to_dict` does not return `num_labels` as a field of its own."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def head_of(model: PreTrainedModel) -> torch.nn.Module:
    return (
        model.qa_outputs
        if isinstance(model, (VecoForQuestionAnswering, XLMRobertaForQuestionAnswering))
        else model.classifier
    )


def plugged_in(model_class: type[PreTrainedModel], config: VecoConfig) -> PreTrainedModel:
    torch.manual_seed(1)
    num_labels = 2 if model_class is VecoForQuestionAnswering else 4
    return model_class(configured(config, num_labels=num_labels, plug_in=True))


@pytest.fixture
def pair(padded_batch, pair_batch) -> dict[str, Tensor]:
    """x of 12 columns, y of 9."""
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    return {"input_ids": ids, "attention_mask": mask, "pair_input_ids": pair_ids, "pair_attention_mask": pair_mask}


def swapped(pair: dict[str, Tensor]) -> dict[str, Tensor]:
    """The pair with x and y exchanged."""
    return {
        name.removeprefix("pair_") if name.startswith("pair_") else f"pair_{name}": value
        for name, value in pair.items()
    }


def features_by_hand(model: PreTrainedModel, pair: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """[H ; S] of x and of y by four calls (section 3.1), nothing detached."""
    x, x_mask, y, y_mask = pair.values()
    h_x, h_y = model.veco(x, x_mask)[0], model.veco(y, y_mask)[0]
    s_x, s_y = (
        model.veco(x, x_mask, encoder_hidden_states=h_y, encoder_attention_mask=y_mask)[0],
        model.veco(y, y_mask, encoder_hidden_states=h_x, encoder_attention_mask=x_mask)[0],
    )
    return torch.cat([h_x, s_x], -1), torch.cat([h_y, s_y], -1)


PAIR_LABELS = {
    VecoForSequenceClassification: {"labels": torch.tensor([2, 0, 3]), "pair_targets": torch.tensor([1, 0, IGNORED])},
    VecoForTokenClassification: {
        "labels": TAGS["labels"],
        "pair_targets": torch.tensor([[IGNORED, 3, 0, 1, 2, 3, 0, 1, IGNORED]] * 2 + [[IGNORED] * 9]),
    },
    VecoForQuestionAnswering: {
        **ANSWERS,
        "pair_start_positions": torch.tensor([1, 2, 9]),  # the last is beyond the 9 columns
        "pair_end_positions": torch.tensor([3, 2, 11]),
    },
}


def logits_of(output: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in output.items() if name.endswith("logits")}


def equal_models(model_class: type[PreTrainedModel], config: VecoConfig) -> tuple[PreTrainedModel, PreTrainedModel]:
    """(VECO, XLM-R) with the same random weights."""
    torch.manual_seed(0)
    ours, theirs = model_class(config), random_xlm_roberta(XLM_ROBERTA[model_class], config)
    ours.veco.load_state_dict(encoder_weights(theirs))
    head_of(ours).load_state_dict(head_of(theirs).state_dict())
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
def test_plugged_out_is_xlm_roberta(config, padded_batch, kind: str) -> None:
    ids, mask = padded_batch
    model_class, changes, labels = KINDS[kind]
    ours, theirs = equal_models(model_class, configured(config, **changes))
    expected = theirs(ids, attention_mask=mask, output_hidden_states=True, **labels)
    output = ours(ids, attention_mask=mask, output_hidden_states=True, **labels)
    assert list(output) == list(expected), "the same fields in the same order, so that tuples agree too"
    torch.testing.assert_close(output.loss, expected.loss, rtol=0, atol=TOLERANCE)
    for name, logits in logits_of(expected).items():
        real = mask.bool() if logits.shape[:2] == mask.shape else slice(None)
        torch.testing.assert_close(output[name][real], logits[real], rtol=0, atol=TOLERANCE)
    assert ours.config.problem_type == theirs.config.problem_type

    output.loss.backward()
    expected.loss.backward()
    for name, parameter in head_of(theirs).named_parameters():
        torch.testing.assert_close(head_of(ours).get_parameter(name).grad, parameter.grad, rtol=0, atol=TOLERANCE)
    for name, gradient in encoder_gradients(theirs).items():
        torch.testing.assert_close(ours.veco.get_parameter(name).grad, gradient, rtol=0, atol=TOLERANCE, msg=name)


@pytest.mark.parametrize("model_class", MODELS)
def test_dropout_is_where_xlm_roberta_has_it(config, padded_batch, model_class, monkeypatch) -> None:
    """Both draw the same random numbers for the same states in the same order, if both use our `dropout`."""

    def ours_for_both(x: torch.Tensor, p: float, training: bool = True, inplace: bool = False) -> torch.Tensor:
        return dropout(x, p, training)

    monkeypatch.setattr(torch.nn.functional, "dropout", ours_for_both)
    ids, mask = padded_batch
    rates = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.4}
    outputs = []
    models = equal_models(model_class, configured(config, num_labels=2, **rates))
    models[1].set_attn_implementation("eager")  # SDPA draws inside
    for model in models:
        torch.manual_seed(5)
        outputs.append(logits_of(model.train()(ids, attention_mask=mask)))
    ours, theirs = outputs
    for name, logits in theirs.items():
        torch.testing.assert_close(ours[name], logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("model_class", MODELS)
def test_plugged_in_is_the_head_over_h_and_s(config, pair, model_class) -> None:
    model = plugged_in(model_class, config)
    labels = PAIR_LABELS[model_class]
    of_x, of_y = (head_of(model)(features) for features in features_by_hand(model, pair))
    if model_class is VecoForQuestionAnswering:
        expected = {"start_logits": of_x[..., 0], "end_logits": of_x[..., 1]}
        expected |= {"pair_start_logits": of_y[..., 0], "pair_end_logits": of_y[..., 1]}
        positions = {name: value.clamp(0, 9 if "pair" in name else 12) for name, value in labels.items()}
        sums = [
            cross_entropy(
                expected[f"{side}{end}_logits"],
                positions[f"{side}{end}_positions"],
                ignore_index=length,
                reduction="sum",
            )
            for side, length in (("", 12), ("pair_", 9))
            for end in ("start", "end")
        ]
        loss = sum(sums) / 8  # one of three answers on each side is beyond the end: four starts, four ends
    else:
        expected = {"logits": of_x, "pair_logits": of_y}
        logits = torch.cat([of_x.flatten(0, -2), of_y.flatten(0, -2)])
        loss = cross_entropy(logits, torch.cat([label.flatten() for label in labels.values()]), ignore_index=IGNORED)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()

    output = model(**pair, **labels)
    output.loss.backward()
    assert set(logits_of(output)) == set(expected)
    for name, logits in expected.items():
        torch.testing.assert_close(output[name], logits, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(output.loss, loss, rtol=0, atol=TOLERANCE)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=TOLERANCE, msg=name)


@pytest.mark.parametrize("model_class", MODELS)
def test_exchanging_x_and_y_exchanges_their_logits(config, pair, model_class) -> None:
    model = plugged_in(model_class, config)
    output = model(**pair)
    other = swapped(logits_of(model(**swapped(pair))))
    for name, logits in logits_of(output).items():
        torch.testing.assert_close(logits, other[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("model_class", MODELS)
def test_embeddings_may_replace_the_ids_of_a_pair(config, pair, model_class) -> None:
    model = plugged_in(model_class, config)
    words = model.get_input_embeddings()
    embedded = {name: mask for name, mask in pair.items() if name.endswith("attention_mask")}
    embedded |= {"inputs_embeds": words(pair["input_ids"]), "pair_inputs_embeds": words(pair["pair_input_ids"])}
    expected, found = logits_of(model(**pair)), logits_of(model(**embedded))
    for name, logits in expected.items():
        is_token = pair["pair_attention_mask" if name.startswith("pair") else "attention_mask"].bool()
        chosen = is_token if logits.dim() > 1 and logits.shape[:2] == is_token.shape else ...
        torch.testing.assert_close(found[name][chosen], logits[chosen], rtol=0, atol=TOLERANCE)
    with pytest.raises(ValueError, match="takes ids of both sequences, or embeddings of both"):
        model(**{**embedded, "inputs_embeds": None, "input_ids": pair["input_ids"]})
    del embedded["pair_attention_mask"]
    with pytest.raises(ValueError, match="found embeddings without pair_attention_mask"):
        model(**embedded)


def test_one_side_alone_may_have_labels(config, pair) -> None:
    model = plugged_in(VecoForTokenClassification, config)
    labels = PAIR_LABELS[VecoForTokenClassification]
    output = model(**pair, pair_targets=labels["pair_targets"])
    expected = cross_entropy(output.pair_logits.flatten(0, 1), labels["pair_targets"].flatten())
    torch.testing.assert_close(output.loss, expected)
    assert model(**pair).loss is None


def test_gradient_flows_into_the_paired_h(config, pair) -> None:
    """Labels of x alone train the embeddings of pieces that only y contains, unlike in pre-training."""
    model = plugged_in(VecoForSequenceClassification, config)
    model(**pair, labels=CLASSES["labels"]).loss.backward()
    only_y = sorted(set(pair["pair_input_ids"].flatten().tolist()) - set(pair["input_ids"].flatten().tolist()))
    assert only_y
    assert (model.veco.embeddings.word_embeddings.weight.grad[only_y].abs().sum(-1) > 0).all()


def test_last_hidden_state_is_the_input_of_the_head(config, pair) -> None:
    model = plugged_in(VecoForTokenClassification, config)
    output = model(**pair, output_hidden_states=True)
    assert [tuple(states.shape) for states in output.hidden_states] == [(3, 12, 64)] * 4
    torch.testing.assert_close(model.classifier(output.hidden_states[-1]), output.logits)
    embedded = output.hidden_states[0]
    assert torch.equal(embedded[..., :32], embedded[..., 32:]), "H and S start from the same embeddings"


def test_tuple_on_request(config, pair) -> None:
    model = plugged_in(VecoForSequenceClassification, config)
    output = model(**pair, labels=CLASSES["labels"])
    for values in (model(**pair, labels=CLASSES["labels"], return_dict=False), output.to_tuple()):
        loss, logits, pair_logits = values
        assert torch.equal(logits, output.logits) and torch.equal(pair_logits, output.pair_logits)
        assert torch.equal(loss, output.loss)


@pytest.mark.parametrize("model_class", MODELS)
def test_loss_without_any_label_is_zero_not_nan(config, pair, model_class) -> None:
    labels = {
        name: torch.full_like(value, 12 if "positions" in name else IGNORED)
        for name, value in PAIR_LABELS[model_class].items()
    }
    output = plugged_in(model_class, config)(**pair, **labels)
    output.loss.backward()
    assert output.loss.item() == 0.0


def test_classifier_dropout_applies_to_the_head_only(config) -> None:
    model = VecoForSequenceClassification(configured(config, classifier_dropout=0.4, hidden_dropout_prob=0.2))
    assert (model.classifier.dropout.p, model.veco.layers[0].dropout.p) == (0.4, 0.2)
    assert VecoForTokenClassification(configured(config, hidden_dropout_prob=0.2)).dropout.p == 0.2


@pytest.mark.parametrize("plug_in", [False, True])
@pytest.mark.parametrize("model_class", MODELS)
def test_pretrained_weights_are_all_kept_and_only_the_head_is_new(
    config, tmp_path, caplog, model_class, plug_in
) -> None:
    torch.manual_seed(3)
    pretrained = VecoForMaskedLM(config)
    pretrained.save_pretrained(tmp_path)
    changes = {} if model_class is VecoForQuestionAnswering else {"num_labels": 5}
    model, report = AUTO[model_class].from_pretrained(tmp_path, plug_in=plug_in, output_loading_info=True, **changes)
    assert isinstance(model, model_class)
    head = {name for name in model.state_dict() if not name.startswith("veco.")}
    assert head and {name.split(".")[0] for name in head} <= {"classifier", "qa_outputs"}
    assert set(report["missing_keys"]) == head
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    loaded = model.veco.state_dict()
    expected = {n: w for n, w in pretrained.veco.state_dict().items() if plug_in or ".cross_attention" not in n}
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[name], weight) for name, weight in expected.items())
    for name in head:
        weight = model.state_dict()[name]
        spread = float(weight.std()) if weight.numel() > 9 else config.initializer_range
        assert (weight == 0).all() if name.endswith("bias") else 0.05 < spread < 0.2, name


@pytest.mark.parametrize("plug_in", [False, True])
@pytest.mark.parametrize("model_class", MODELS)
def test_saved_model_opens_by_auto_class(config, pair, tmp_path: Path, model_class, plug_in) -> None:
    batch = pair if plug_in else {name: pair[name] for name in ("input_ids", "attention_mask")}
    model = plugged_in(model_class, config) if plug_in else model_class(config)
    model.eval().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again, report = AUTO[model_class].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    for name, logits in logits_of(model(**batch)).items():
        assert torch.equal(again(**batch)[name], logits)


@pytest.mark.parametrize("model_class", MODELS)
def test_model_of_the_other_mode_is_refused(config, pair, model_class) -> None:
    single = {name: pair[name] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="no pair_input_ids, but this model is plugged in"):
        plugged_in(model_class, config)(**single)
    with pytest.raises(ValueError, match="a pair, but this model is plugged out"):
        model_class(config)(**pair)
    pair_labels = {n: v for n, v in PAIR_LABELS[model_class].items() if n.startswith("pair_")}
    with pytest.raises(ValueError, match=r"found pair_(targets|start_positions), but this model is plugged out"):
        model_class(config)(**single, **pair_labels)


SEQUENCES, TOKENS, ANSWERING = MODELS


@pytest.mark.parametrize(
    ("model_class", "wrong", "message"),
    [
        (SEQUENCES, {"labels": torch.tensor([0, 4, 1])}, "labels contain 4, expected -100 .* or 0 to 3"),
        (SEQUENCES, {"pair_targets": torch.tensor([0, -1, 1])}, "pair_targets contain -1, expected"),
        (SEQUENCES, {"labels": torch.tensor([0, 1])}, r"labels have shape \(2,\), expected \(3,\)"),
        (TOKENS, {"labels": torch.zeros(3, 11).long()}, r"labels have shape \(3, 11\), expected \(3, 12\)"),
        (TOKENS, {"pair_targets": torch.zeros(3, 9)}, "pair_targets are torch.float32, expected class ids"),
        (ANSWERING, {"start_positions": torch.zeros(3).long()}, "both start_positions and end_positions of a sequence"),
        (TOKENS, {"attention_mask": torch.ones(3, 9)}, r"attention_mask has shape \(3, 9\), expected \(3, 12\)"),
        (TOKENS, {"pair_attention_mask": torch.ones(3, 1)}, r"pair_attention_mask has shape \(3, 1\), expected"),
        (TOKENS, {"pair_input_ids": torch.full((3, 9), 60)}, "between .* and 60, expected 0 to 59"),
        (TOKENS, {"pair_input_ids": torch.full((3, 9), -1)}, "between -1 and"),
    ],
)
def test_bad_input_is_refused(config, pair, model_class, wrong: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugged_in(model_class, config)(**{**pair, **wrong})


def test_unequal_numbers_of_sequences_are_refused(config, pair) -> None:
    for name in ("pair_input_ids", "pair_attention_mask"):
        pair[name] = pair[name][:2]
    with pytest.raises(ValueError, match="one paired sequence for each sequence, found 2 for 3"):
        plugged_in(VecoForTokenClassification, config)(**pair)


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        ("classes", torch.tensor([0, 1, 2]), "config.problem_type is 'classes', expected one of single_label_class"),
        ("multi_label_classification", torch.zeros(3, 5), r"labels have shape \(3, 5\), expected \(3, 4\)"),
        ("regression", torch.zeros(3), r"labels have shape \(3,\), expected \(3, 4\)"),
    ],
)
def test_wrong_problem_is_refused(config, pair, problem_type: str, labels: Tensor, message: str) -> None:
    model = plugged_in(VecoForSequenceClassification, configured(config, problem_type=problem_type))
    with pytest.raises(ValueError, match=message):
        model(**pair, labels=labels)


def test_encoder_without_cross_attention_cannot_be_plugged_in(config, pair) -> None:
    with pytest.raises(ValueError, match="this encoder has no cross-attention to plug in"):
        VecoForTokenClassification(config).veco(pair["input_ids"], encoder_hidden_states=torch.zeros(3, 9, 32))
