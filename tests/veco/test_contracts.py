"""Tools around transformers, applied to each of our models and, as control, to XLM-R's own class.

The control has the same shape and vocabulary, and for the encoder and the masked LM the same weights.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)

from veco import (
    VecoConfig,
    VecoForMaskedLM,
    VecoForMultipleChoice,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoModel,
)
from veco.convert import to_xlm_roberta, xlm_roberta_names

CONTROLS = {
    VecoModel: XLMRobertaModel,
    VecoForMaskedLM: XLMRobertaForMaskedLM,
    VecoForSequenceClassification: XLMRobertaForSequenceClassification,
    VecoForTokenClassification: XLMRobertaForTokenClassification,
    VecoForQuestionAnswering: XLMRobertaForQuestionAnswering,
    VecoForMultipleChoice: XLMRobertaForMultipleChoice,
}
OF_ONE_SEQUENCE = [model_class for model_class in CONTROLS if model_class is not VecoForMultipleChoice]
CLASSIFIERS = OF_ONE_SEQUENCE[2:]
PEFT_TASKS = {
    VecoModel: "FEATURE_EXTRACTION",
    VecoForSequenceClassification: "SEQ_CLS",
    VecoForTokenClassification: "TOKEN_CLS",
    VecoForQuestionAnswering: "QUESTION_ANS",
}
NUM_LABELS = 3
SHORT = (2, 9)  # rows and tokens of another batch than the one that was traced


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hide the usual warnings of tracers and exporters."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def models(config: VecoConfig) -> Callable[[type], dict[str, PreTrainedModel]]:
    """Make a model of ours and its control, under "ours" and "control", both for evaluation."""
    config.num_labels = NUM_LABELS

    def make(model_class: type) -> dict[str, PreTrainedModel]:
        torch.manual_seed(0)
        masked_lm = VecoForMaskedLM(config)
        xlm_roberta = to_xlm_roberta(masked_lm)
        xlm_roberta.config.num_labels = 2 if model_class is VecoForQuestionAnswering else NUM_LABELS
        same = {VecoForMaskedLM: (masked_lm, xlm_roberta), VecoModel: (masked_lm.veco, xlm_roberta.roberta)}
        pair = same.get(model_class) or (model_class(config), CONTROLS[model_class](xlm_roberta.config))
        return {"ours": pair[0].eval(), "control": pair[1].eval()}

    return make


class FirstOutput(nn.Module):
    """Wrapper for tracers: tensors in, one tensor out."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids, attention_mask, return_dict=False)[0]


def shorter(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Fewer and shorter rows of ids and mask."""
    ids, mask = (part[: SHORT[0], : SHORT[1]].contiguous() for part in batch)
    return ids, mask


def choices(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, 2, T): each row has itself and another row as its choices."""
    ids, mask = (torch.stack([part, part.flip(0)], dim=1) for part in batch)
    return ids, mask


def change(model: PreTrainedModel, changed: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """The largest difference between the first outputs of two models."""
    with torch.no_grad():
        return float((FirstOutput(model)(*batch) - FirstOutput(changed)(*batch)).abs().max())


@pytest.mark.parametrize("who", ["ours", "control"])
@pytest.mark.parametrize("model_class", OF_ONE_SEQUENCE)
def test_traced_model_takes_other_shapes(
    model_class: type, who: str, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    model = models(model_class)[who]
    traced = torch.jit.trace(FirstOutput(model), padded_batch)
    torch.testing.assert_close(traced(*shorter(padded_batch)), FirstOutput(model)(*shorter(padded_batch)))


@pytest.mark.parametrize("who", ["ours", "control"])
@pytest.mark.parametrize("model_class", OF_ONE_SEQUENCE)
def test_exported_model_takes_other_shapes(
    model_class: type, who: str, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    model = models(model_class)[who]
    shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=64)}
    exported = torch.export.export(FirstOutput(model), padded_batch, dynamic_shapes=(shape, shape))
    found = exported.module()(*shorter(padded_batch))
    torch.testing.assert_close(found, FirstOutput(model)(*shorter(padded_batch)))


@pytest.mark.parametrize(
    "model_class", [VecoModel, *(pytest.param(one, marks=pytest.mark.slow) for one in OF_ONE_SEQUENCE[1:])]
)
def test_onnx_model_computes_the_same(
    model_class: type, models: Any, padded_batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = models(model_class)["ours"]
    path, names = tmp_path / "model.onnx", ["input_ids", "attention_mask"]
    shape = {0: "rows", 1: "tokens"}
    options = {"input_names": names, "dynamic_shapes": (shape, shape), "dynamo": True, "verbose": False}
    torch.onnx.export(FirstOutput(model), padded_batch, path, **options)
    batch = shorter(padded_batch)
    inputs = {name: part.numpy() for name, part in zip(names, batch, strict=True)}
    (found,) = onnxruntime.InferenceSession(path).run(None, inputs)
    torch.testing.assert_close(torch.from_numpy(found), FirstOutput(model)(*batch).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_class", OF_ONE_SEQUENCE)
def test_model_compiles_into_one_graph(model_class: type, models: Any, padded_batch: tuple[Tensor, Tensor]) -> None:
    model = models(model_class)["ours"]
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert change(model, compiled, padded_batch) < 1e-5


@pytest.mark.parametrize("model_class", OF_ONE_SEQUENCE)
def test_dynamic_quantisation_reaches_every_product(
    model_class: type, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    changes = {}
    for who, model in models(model_class).items():
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        assert not [name for name, module in quantised.named_modules() if type(module) is nn.Linear]
        assert sum("quantized" in type(module).__module__ for module in quantised.modules()) >= 12
        changes[who] = change(model, quantised, padded_batch)
    assert 0 < changes["ours"] < 3 * changes["control"]


@pytest.mark.parametrize("model_class", OF_ONE_SEQUENCE)
def test_quanto_quantises_every_product(model_class: type, models: Any, padded_batch: tuple[Tensor, Tensor]) -> None:
    quanto = pytest.importorskip("optimum.quanto")
    changes = {}
    for who, model in models(model_class).items():
        quantised = copy.deepcopy(model)
        quanto.quantize(quantised, weights=quanto.qint8)
        quanto.freeze(quantised)
        assert not [module for module in quantised.modules() if type(module) is nn.Linear]
        changes[who] = change(model, quantised, padded_batch)
    assert 0 < changes["ours"] < 2 * changes["control"]


@pytest.mark.parametrize("method", ["lora", "ia3"])
@pytest.mark.parametrize("model_class", [VecoModel, VecoForMaskedLM, VecoForSequenceClassification])
def test_adapters_merge_into_the_same_function(
    model_class: type, method: str, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    peft = pytest.importorskip("peft")
    model = models(model_class)["ours"]
    adapters = {
        "lora": lambda: peft.LoraConfig(target_modules="all-linear"),
        "ia3": lambda: peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    }
    adapted = peft.get_peft_model(copy.deepcopy(model), adapters[method]()).eval()
    torch.manual_seed(1)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "ia3" in name:
            nn.init.normal_(weight, mean=1.0 if "ia3" in name else 0.0, std=0.1)
    before = FirstOutput(adapted)(*padded_batch).detach()
    merged = FirstOutput(adapted.merge_and_unload())(*padded_batch).detach()
    assert (before - FirstOutput(model)(*padded_batch)).abs().max() > 1e-2, "the adapter does something"
    torch.testing.assert_close(merged, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["PromptTuningConfig", "PrefixTuningConfig", "LoraConfig", "IA3Config"])
@pytest.mark.parametrize("model_class", PEFT_TASKS)
def test_peft_trains_its_own_weights_only(
    model_class: type, method: str, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    """The gradient reaches the weights that the method adds, and none of the model's own."""
    peft = pytest.importorskip("peft")
    options: dict[str, Any] = {"num_virtual_tokens": 3}
    if method in ("LoraConfig", "IA3Config"):
        options = {"target_modules": ["q_proj", "v_proj"]}
    if method == "IA3Config":
        options["feedforward_modules"] = []
    adapter = getattr(peft, method)(task_type=PEFT_TASKS[model_class], **options)
    model = peft.get_peft_model(models(model_class)["ours"], adapter)
    ids, mask = padded_batch
    model(input_ids=ids, attention_mask=mask)[0].square().sum().backward()
    learns = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert learns and not [name for name in learns if "embeddings" in name and "prompt" not in name]


@pytest.mark.parametrize("who", ["ours", "control"])
@pytest.mark.parametrize("model_class", [*CLASSIFIERS, VecoForMultipleChoice])
def test_trainer_evaluates_and_keeps_the_best(
    model_class: type, who: str, models: Any, padded_batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    ids, mask = choices(padded_batch) if model_class is VecoForMultipleChoice else padded_batch
    targets = {
        VecoForMultipleChoice: {"labels": torch.tensor([0, 1, 1])},
        VecoForSequenceClassification: {"labels": torch.tensor([0, 1, 2])},
        VecoForTokenClassification: {"labels": ids % NUM_LABELS},
        VecoForQuestionAnswering: {
            "start_positions": torch.tensor([1, 2, 1]),
            "end_positions": torch.tensor([2, 3, 2]),
        },
    }[model_class]
    columns = {"input_ids": ids, "attention_mask": mask, **targets}
    rows = [{name: column[number] for name, column in columns.items()} for number in range(len(ids))]
    seen = []

    def metrics(prediction: Any) -> dict[str, float]:
        seen.append(prediction)
        return {"rows": float(len(ids))}

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    model = models(model_class)[who]
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, compute_metrics=metrics)
    trainer.train()
    found = trainer.evaluate()
    assert found["eval_loss"] > 0 and found["eval_rows"] == 3 and seen
    assert trainer.state.best_metric == pytest.approx(
        min(line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line)
    )


@pytest.mark.parametrize("model_class", [VecoModel, VecoForMaskedLM])
def test_arguments_mean_what_they_mean_to_xlm_roberta(
    model_class: type, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    pair = models(model_class)
    ids, mask = padded_batch
    embedded = pair["control"].get_input_embeddings()(ids)
    longer = torch.cat([torch.ones(3, 4, dtype=torch.long), mask], dim=1)
    calls: list[dict[str, Any]] = [
        {"inputs_embeds": embedded, "attention_mask": mask},
        {"inputs_embeds": torch.cat([embedded[:, :4], embedded], dim=1), "attention_mask": longer},
        {"input_ids": ids, "attention_mask": mask, "position_ids": torch.arange(5, 17).expand(3, -1)},
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)},
        {"input_ids": ids, "attention_mask": mask, "output_attentions": False},
    ]
    is_token = mask.bool()
    for arguments in calls:
        ours, control = (model(**arguments)[0] for model in (pair["ours"], pair["control"]))
        seen = is_token if ours.shape[1] == 12 else longer.bool()
        torch.testing.assert_close(ours[seen], control[seen], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="expected either input_ids or inputs_embeds, found both"):
        pair["ours"](input_ids=ids, inputs_embeds=embedded)
    with pytest.raises(ValueError, match="inputs_embeds have 2 dimensions"):
        pair["ours"](inputs_embeds=embedded[0])
    with pytest.raises(ValueError, match="token_type_ids have values other than 0"):
        pair["ours"](input_ids=ids, token_type_ids=torch.ones_like(ids))


@pytest.mark.parametrize("model_class", CONTROLS)
def test_hidden_states_and_attentions_are_those_of_xlm_roberta(
    model_class: type, models: Any, padded_batch: tuple[Tensor, Tensor]
) -> None:
    ids, mask = padded_batch
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model_class is VecoForMultipleChoice:
        inputs = dict(zip(inputs, choices(padded_batch), strict=True))
    pair = models(model_class)
    for model in pair.values():
        if isinstance(model.config, VecoConfig):
            continue
        model.set_attn_implementation("eager")
    outputs = {who: model(**inputs, output_hidden_states=True, output_attentions=True) for who, model in pair.items()}
    plain = pair["ours"](**inputs)[0]
    for name in ("hidden_states", "attentions"):
        ours, control = outputs["ours"][name], outputs["control"][name]
        assert [part.shape for part in ours] == [part.shape for part in control]
    torch.testing.assert_close(outputs["ours"][0], plain, rtol=0, atol=1e-5)
    for weights in outputs["ours"].attentions:
        rows = weights.sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))
    if model_class in (VecoModel, VecoForMaskedLM):
        is_token = mask.bool()
        for ours, control in zip(outputs["ours"].attentions, outputs["control"].attentions, strict=True):
            of_tokens = (weights.transpose(1, 2)[is_token] for weights in (ours, control))
            torch.testing.assert_close(*of_tokens, rtol=0, atol=1e-6)


def test_plugged_in_attention_weights_of_both_kinds_are_returned(
    config: VecoConfig, padded_batch: Any, pair_batch: Any
) -> None:
    torch.manual_seed(0)
    model = VecoModel(config).eval()
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    h_y = model(pair_ids, pair_mask).last_hidden_state
    pair = {"encoder_hidden_states": h_y, "encoder_attention_mask": pair_mask}
    output = model(ids, mask, **pair, output_attentions=True)
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 4, 12, 12)] * 3
    assert [tuple(weights.shape) for weights in output.cross_attentions] == [(3, 4, 12, 9)] * 3
    hidden = ~pair_mask.bool()[:, None, None].expand(-1, 4, 12, -1)
    assert all(weights[hidden].eq(0).all() for weights in output.cross_attentions)
    torch.testing.assert_close(output[0], model(ids, mask, **pair)[0], rtol=0, atol=1e-5)


def test_multiple_choice_scores_each_choice(models: Any, padded_batch: Any) -> None:
    model = models(VecoForMultipleChoice)["ours"]
    ids, mask = choices(padded_batch)
    output = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 1]))
    one_by_one = model.classifier(model.veco(ids[:, 1], mask[:, 1])[0])
    torch.testing.assert_close(output.logits[:, 1:], one_by_one)
    expected = nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(output.loss, expected)


def test_multiple_choice_with_weights_of_xlm_roberta_computes_the_same(models: Any, padded_batch: Any) -> None:
    pair = models(VecoForMultipleChoice)
    ours, control = pair["ours"], pair["control"]
    nn.init.zeros_(control.roberta.embeddings.token_type_embeddings.weight)  # VECO has none
    theirs = control.state_dict()
    names = xlm_roberta_names(ours.config.num_hidden_layers)
    weights = {name: theirs[their_name] for name, their_name in names.items() if name.startswith("veco.")}
    for kind in ("weight", "bias"):  # XLM-R's pooler is the first half of our head
        weights[f"classifier.dense.{kind}"] = theirs[f"roberta.pooler.dense.{kind}"]
        weights[f"classifier.out_proj.{kind}"] = theirs[f"classifier.{kind}"]
    ours.load_state_dict(weights)
    ids, mask = choices(padded_batch)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 1])}
    outputs = {who: model(**inputs) for who, model in pair.items()}
    assert outputs["control"].logits.std() > 0.01, "choices differ"
    torch.testing.assert_close(outputs["ours"].logits, outputs["control"].logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs["ours"].loss, outputs["control"].loss, rtol=0, atol=1e-5)
