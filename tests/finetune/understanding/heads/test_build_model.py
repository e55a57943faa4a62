"""Models of any encoder: logits are those of transformers' class, its weights are loaded, misfits are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from own_encodings import own_encoding
from safetensors.torch import load_file, save_file
from small_encoders import ENCODERS, ODD_TEXTS
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from finetune.encoders import open_encoder
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import build_model, check_encoder, limits_of, trained_model
from finetune.understanding.heads.head import TaskHead
from finetune.understanding.heads.model_classes import model_class_of
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.rows.encoding import text_encoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import Answer, Choices, LabelledText, Question, TaggedSentence
from training.recipe.parsing import build_recipe
from veco.classification import VecoForMultipleChoice

SIZES = {"max_length": 66, "max_question_length": 24, "dropout": 0.2, "attention_dropout": 0.3}
AUTO = {
    "xnli": AutoModelForSequenceClassification,
    "udpos": AutoModelForTokenClassification,
    "xquad": AutoModelForQuestionAnswering,
    "glue/stsb": AutoModelForSequenceClassification,
    "sentiment/xed": AutoModelForSequenceClassification,
    "xtreme-r/xcopa": AutoModelForMultipleChoice,
}
TEXTS = ("hund rot", "das haus und der baum", *(text[:12] for text in ODD_TEXTS))
PAIRS = [
    *(LabelledText(first, second, None, "de") for first, second in zip(TEXTS, TEXTS[::-1], strict=True)),
    LabelledText("ein text allein", None, None, "de"),
]
EXAMPLES: dict[str, list[Any]] = {
    "xnli": PAIRS,
    "glue/stsb": PAIRS,
    "sentiment/xed": PAIRS,
    "xtreme-r/xcopa": [Choices(text, ("rot", TEXTS[i]), None, "de") for i, text in enumerate(TEXTS[::-1])],
    "udpos": [TaggedSentence(tuple(text.split(" ")), None, "de") for text in TEXTS[:6]],
    "xquad": [Question(str(i), "wo hund", text, (Answer(text, 0),), "de") for i, text in enumerate(TEXTS)],
}


def recipe_of(task: str, directory: Path, **fields: Any) -> UnderstandingRecipe:
    own = {"task": task, "data": "data", "init_from": str(directory), "output": "run", "engine": "plain"}
    return build_recipe(UnderstandingRecipe, {**SIZES, **own, **fields}, None)


def built(task: str, directory: Path, **fields: Any) -> tuple[TaskHead, PreTrainedModel]:
    recipe = recipe_of(task, directory, **fields)
    head = build_head(task_named(task), limits_of(recipe))
    torch.manual_seed(1)
    return head, build_model(recipe, task_named(task), head, open_encoder(directory))


@pytest.mark.parametrize("task", AUTO)
@pytest.mark.parametrize("name", ENCODERS)
def test_logits_are_those_of_transformers(
    name: str, task: str, encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of rows in padded batches, against transformers' class on the tokenizer's encoding of one example at a time."""
    directory = encoder_directory(name)
    head, model = built(task, directory)
    model.eval().save_pretrained(tmp_path)
    theirs = AUTO[task].from_pretrained(tmp_path).eval()
    encoder = text_encoder(open_encoder(directory))
    examples = EXAMPLES[task]
    rows = PairedRows.alone(head.encode(examples, encoder).without_targets())
    assert rows.num_units == len(examples), "no example should need two rows here"
    tokenizer = AutoTokenizer.from_pretrained(directory)
    batches = EvaluationBatches(rows, max_tokens=2 * int(rows.sizes.max()), pad=encoder.pad)
    assert 1 < len(batches) < len(examples)
    compared = 0
    for number in range(len(batches)):
        batch = batches[number]
        with torch.no_grad():
            ours = model(**batch)
        for place, row in enumerate(batches.units_of(number)):
            inputs = own_encoding(tokenizer, examples[row])
            length = inputs["input_ids"].shape[-1]
            assert batch["attention_mask"][place].sum() == inputs["attention_mask"].sum()
            with torch.no_grad():
                expected = theirs(**inputs)
            for key in {"logits", "start_logits", "end_logits"} & expected.keys():
                found = ours[key][place, :length] if task in ("udpos", "xquad") else ours[key][place]
                assert torch.allclose(found, expected[key][0], atol=1e-5), (key, examples[row])
                compared += 1
    assert compared == len(examples) * (2 if task == "xquad" else 1)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_weights_of_the_encoder_are_loaded(name: str, encoder_directory: Callable[[str], Path]) -> None:
    """From a masked language model, BERT's two heads, ELECTRA's discriminator, or an encoder alone."""
    directory = encoder_directory(name)
    _, model = built("udpos", directory)
    alone = AutoModel.from_pretrained(directory).state_dict()
    loaded = model.base_model.state_dict()
    assert loaded.keys() == {key for key in alone if "pooler" not in key}
    assert all(torch.equal(weight, alone[key]) for key, weight in loaded.items())
    fresh = built("udpos", directory, init="random")[1].base_model.state_dict()
    assert any(not torch.equal(weight, fresh[key]) for key, weight in loaded.items())


@pytest.mark.parametrize("name", ENCODERS)
def test_every_dropout_is_the_recipes(name: str, encoder_directory: Callable[[str], Path]) -> None:
    _, model = built("xnli", encoder_directory(name))
    set_to = {key: value for key, value in model.config.to_dict().items() if "dropout" in key and value is not None}
    assert set_to == {key: 0.3 if "attention" in key else 0.2 for key in set_to} and len(set_to) >= 2
    layers = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert layers <= {0.2, 0.3} and 0.2 in layers


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_recomputed_activations_change_no_gradient(name: str, encoder_directory: Callable[[str], Path]) -> None:
    gradients = []
    for recomputed in (False, True):
        fields = {"activation_checkpointing": recomputed, "dropout": 0.0, "attention_dropout": 0.0}
        _, model = built("udpos", encoder_directory(name), **fields)
        assert model.is_gradient_checkpointing == recomputed
        model.train()(torch.tensor([[2, 9, 10, 3]]), labels=torch.tensor([[-100, 1, 0, -100]])).loss.backward()
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    assert all(torch.allclose(gradient, gradients[1][key], atol=1e-6) for key, gradient in gradients[0].items())


def test_a_model_that_was_trained_for_numbers_learns_classes(
    encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(encoder_directory("bert"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "problem_type": "regression", "id2label": {0: "x"}}))
    _, model = built("xnli", tmp_path / "model")
    loss = model(torch.tensor([[2, 9, 3]]), labels=torch.tensor([1])).loss
    assert model.config.num_labels == 3 and loss > 0
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("roberta.encoder.layer.1.output.dense.weight"), "lacks 1 weights, such as"),
        (
            lambda weights: weights.update({"roberta.embeddings.word_embeddings.weight": torch.zeros(7, 16)}),
            "lacks 1 weights, such as embeddings.word_embeddings.weight",
        ),
    ],
)
def test_an_encoder_that_lacks_weights_is_refused(
    change: Callable[[dict], object], message: str, encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(encoder_directory("roberta"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"^init_from .*/model: {message}"):
        built("xnli", tmp_path / "model")
    with pytest.raises(ValueError, match="^model .*/model: lacks"):
        trained_model(AutoModelForSequenceClassification, tmp_path / "model", torch.float32)


def test_damaged_weights_are_refused_on_one_line(encoder_directory: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_directory("bert"), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(
        ValueError, match="/model: its weights cannot be opened by transformers: SafetensorError"
    ) as raised:
        built("xnli", tmp_path / "model")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"plug_in": True, "setting": "translate-train-all"},
            "init_from .*: a modernbert has no cross-attention to plug in; leave out plug_in, or start from a VECO",
        ),
        ({"max_length": 67}, "max_length 67 exceeds the 66 tokens the model takes"),
    ],
)
def test_what_an_encoder_cannot_do_is_refused(
    fields: dict[str, Any], message: str, encoder_directory: Callable[[str], Path]
) -> None:
    recipe = recipe_of("xnli", encoder_directory("modernbert"), **fields)
    head = build_head(task_named("xnli"), limits_of(recipe))
    with pytest.raises(ValueError, match=message):
        check_encoder(recipe, head, open_encoder(encoder_directory("modernbert")))


def test_heads_that_transformers_lacks_are_refused(encoder_directory: Callable[[str], Path], tiny_model: Path) -> None:
    """There is a MultipleChoice for BERT and for VECO; DeBERTa has no such head in its first version."""
    assert model_class_of(VecoForMultipleChoice, open_encoder(tiny_model).config) is VecoForMultipleChoice
    config = open_encoder(encoder_directory("bert")).config
    assert model_class_of(VecoForMultipleChoice, config).__name__ == "BertForMultipleChoice"
    config = open_encoder(encoder_directory("deberta")).config
    assert model_class_of(VecoForMultipleChoice, config).__name__ == "DebertaV2ForMultipleChoice"
