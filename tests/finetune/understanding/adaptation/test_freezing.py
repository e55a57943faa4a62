"""Which weights learn, and which of a few training examples are drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    FlaubertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMConfig,
)
from xtreme_files import TINY

from finetune.understanding.adaptation.freezing import freeze_lowest
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.understanding_task import UnderstandingTask
from training.checkpoints.finding import checkpoints_of
from training.model_parts import encoder_of, linear_modules
from training.recipe.parsing import build_recipe
from veco import VecoConfig, VecoForSequenceClassification

SHAPE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
POSITIONS: dict[str, Any] = {"vocab_size": 50, "max_position_embeddings": 40}
# Of each kind: what precedes the layers, a layer, and what follows them but belongs to the encoder.
NAMES = {
    BertConfig: ("bert.embeddings.", "bert.encoder.layer.{}.", ("bert.pooler.",)),
    RobertaConfig: ("roberta.embeddings.", "roberta.encoder.layer.{}.", ()),
    ElectraConfig: ("electra.embeddings", "electra.encoder.layer.{}.", ()),
    ModernBertConfig: ("model.embeddings.", "model.layers.{}.", ("model.final_norm.",)),
    DebertaV2Config: ("deberta.embeddings.", "deberta.encoder.layer.{}.", ("deberta.encoder.rel", "deberta.encoder.L")),
    VecoConfig: ("veco.embeddings.", "veco.layers.{}.", ()),
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("count", [0, 2])
def test_embeddings_and_lowest_layers_are_frozen(kind: type[PreTrainedConfig], count: int) -> None:
    model = AutoModelForSequenceClassification.from_config(kind(**SHAPE, **POSITIONS, pad_token_id=1))
    freeze_lowest(model, count)
    embeddings, layer, rest = NAMES[kind]
    frozen = (embeddings, *(layer.format(number) for number in range(count)))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen), name
    above = {name for name, _ in model.named_parameters() if not name.startswith((*frozen, *rest))}
    assert any(name.startswith(layer.format(2)) for name in above) and any("classifier" in name for name in above)


@pytest.mark.parametrize("kind", [XLMConfig, FlaubertConfig])
def test_a_layer_whose_parts_lie_apart_is_frozen_as_a_whole(kind: type[PreTrainedConfig]) -> None:
    model = AutoModelForSequenceClassification.from_config(
        kind(emb_dim=16, n_layers=3, n_heads=2, vocab_size=50, max_position_embeddings=40)
    )
    freeze_lowest(model, 2)
    parts = ("attentions", "layer_norm1", "ffns", "layer_norm2")
    top = tuple(f"transformer.{part}.2." for part in parts)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name, _ in model.named_parameters() if name.startswith((*top, "sequence_summary."))}
    assert learns == expected and all(any(name.startswith(part) for name in learns) for part in top)
    freeze_lowest(model, 3)
    assert not any(parameter.requires_grad for parameter in model.transformer.parameters())
    linear = [name for name, module in model.transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    assert linear_modules(model) == [f"transformer.{name}" for name in linear] and len(linear) == 3 * 6


def test_what_cannot_be_frozen_is_refused() -> None:
    model = VecoForSequenceClassification(VecoConfig(**SHAPE, **POSITIONS))
    with pytest.raises(ValueError, match="freeze_layers 4: the encoder has 3 layers"):
        freeze_lowest(model, 4)
    with pytest.raises(ValueError, match="VecoModel has no encoder apart from its head"):
        encoder_of(model.veco)
    shared = AlbertForSequenceClassification(AlbertConfig(**SHAPE, **POSITIONS, embedding_size=8))
    with pytest.raises(ValueError, match="AlbertModel has no list of its 3 layers"):
        freeze_lowest(shared, 1)


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints_of(run_dir)
    return AutoModelForSequenceClassification.from_pretrained(newest[max(newest)] / "model").state_dict()


def test_the_saved_model_is_whole_and_the_optimizer_holds_what_learns(
    train: Callable[..., Path], tiny_model: Path
) -> None:
    run = train("pawsx", freeze_layers=1)
    before = VecoForSequenceClassification.from_pretrained(tiny_model).state_dict()
    after = weights_of(run)
    assert after.keys() == before.keys()
    frozen = ("veco.embeddings.", "veco.layers.0.")
    for name, weight in after.items():
        if not name.startswith("classifier"):
            assert torch.equal(weight, before[name]) == name.startswith(frozen), name
    checkpoint = checkpoints_of(run)[max(checkpoints_of(run))]
    state = torch.load(checkpoint / "plain_engine.pt", weights_only=True)["optimizer"]["state"]
    assert len(state) == sum(not name.startswith(frozen) for name in after)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": "head"}, "freeze 'head' must be one of"),
        ({"freeze": "encoder", "freeze_layers": 1}, "freeze and freeze_layers exclude one another"),
        ({"freeze_layers": 1, "lora_rank": 4}, "freeze_layers and lora_rank exclude one another"),
        ({"freeze_layers": -1}, "freeze_layers -1 must not be negative"),
        ({"lora_targets": ".*"}, "lora_targets needs lora_rank"),
        ({"lora_rank": 4, "lora_targets": "("}, "lora_targets '\\(' is no regular expression"),
        ({"train_examples": -1}, "train_examples -1 must not be negative"),
        ({"freeze_layers": 3}, "freeze_layers 3: the encoder has 2 layers"),
        (
            {"freeze": "encoder", "features_gb": 1e-6},
            "84 states of 32 numbers take 0.0 GB on a rank, more than",
        ),
        ({"train_examples": 50}, r"train_examples 50: .*data: en has only \d+ training examples of the class [01]$"),
    ],
)
def test_wrong_fields_are_refused_in_one_line(
    fields: dict[str, Any], message: str, xtreme_data: Path, tiny_model: Path
) -> None:
    own = {"task": "pawsx", "data": str(xtreme_data), "init_from": str(tiny_model), "output": "run"}
    with pytest.raises(ValueError, match=message) as error:
        UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None))
    assert "\n" not in str(error.value).removeprefix("recipe")
