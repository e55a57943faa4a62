"""The model of a task: an encoder and a head, new, from a pre-trained directory, or as it was trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from data_tools.transformers_errors import errors_of_transformers
from finetune.encoders import Encoder, encoder_weights
from finetune.pretrained import XLM_ROBERTA, pretrained_masked_lm
from finetune.understanding.heads.head import Limits, TaskHead
from finetune.understanding.heads.model_classes import model_class_of
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.task import Task
from finetune.understanding.tasks.task_file import content_of
from veco import VecoConfig
from veco.convert.weights import quiet_transformers
from veco.opening import open_config

ModelClass = type[PreTrainedModel] | type[AutoModel]


def limits_of(recipe: UnderstandingRecipe) -> Limits:
    """The recipe's sizes of rows and answers."""
    return Limits(
        max_length=recipe.max_length,
        stride=recipe.stride,
        max_question_length=recipe.max_question_length,
        max_answer_length=recipe.max_answer_length,
        num_best=recipe.num_best,
    )


def check_encoder(recipe: UnderstandingRecipe, head: TaskHead, encoder: Encoder) -> None:
    """Raise ValueError for an encoder without cross-attention to plug in, for too long rows, or without such a head."""
    kind = encoder.config.model_type
    if recipe.plug_in and not isinstance(encoder.config, VecoConfig):
        raise ValueError(
            f"init_from {encoder.directory}: a {kind} has no cross-attention to plug in; leave out plug_in, or start "
            "from a VECO"
        )
    if recipe.max_length > encoder.max_tokens:
        raise ValueError(f"max_length {recipe.max_length} exceeds the {encoder.max_tokens} tokens the model takes")
    model_class_of(head.model_class, encoder.config)


def build_model(recipe: UnderstandingRecipe, task: Task, head: TaskHead, encoder: Encoder) -> PreTrainedModel:
    """A float32 model with the head of the task, whose weights `recipe.init` decides.

    Its configuration has the names of its classes, the task and the sizes of rows, which predicting needs.
    """
    config, directory = encoder.config, encoder.directory
    set_dropout(config, recipe)
    config.problem_type = head.problem_type
    config.id2label = dict(enumerate(head.outputs))
    config.label2id = {label: number for number, label in config.id2label.items()}
    config.understanding = {
        "task": content_of(task),
        **dataclasses.asdict(limits_of(recipe)),
        "pair_prediction": recipe.pair_prediction,
    }
    model_class = model_class_of(head.model_class, config)
    if recipe.init == "random":
        model = model_class(config)
    elif open_config(directory).model_type == XLM_ROBERTA:
        model = model_class(config)
        # Plugged out, the model lacks the cross-attention that XLM-R was given.
        model.veco.load_state_dict(pretrained_masked_lm(directory).veco.state_dict(), strict=recipe.plug_in)
    else:
        model = with_pretrained_encoder(model_class, directory, config)
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant variant works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def set_dropout(config: PreTrainedConfig, recipe: UnderstandingRecipe) -> None:
    """Set the dropout of VECO, but for its head's, and every dropout that the configuration of another encoder has.

    transformers' configurations name them differently, the dropout of attention weights with "attention". One that is
    None follows another.
    """
    if isinstance(config, VecoConfig):
        config.hidden_dropout_prob = recipe.dropout
        config.attention_probs_dropout_prob = recipe.attention_dropout
        config.plug_in = recipe.plug_in
        return
    for name, value in config.to_dict().items():
        if "dropout" in name and isinstance(value, int | float) and not isinstance(value, bool):  # ESM has a switch
            setattr(config, name, recipe.attention_dropout if "attention" in name else recipe.dropout)


def with_pretrained_encoder(
    model_class: ModelClass, directory: Path, config: PreTrainedConfig, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A model with the encoder of `directory`, and with its head if it has one of that shape, else a new one.

    Raises ValueError when the encoder lacks weights: a VECO without cross-attention cannot be plugged in.
    """
    model, absent = load_model(model_class, directory, config, dtype)
    own = {name.removeprefix(f"{model.base_model_prefix}.") for name in absent}
    if missing := sorted(own & encoder_weights(config)):
        plugged = (
            "; plugged in, it must have cross-attention" if isinstance(config, VecoConfig) and config.plug_in else ""
        )
        raise ValueError(f"init_from {directory}: lacks {len(missing)} weights, such as {missing[0]}{plugged}")
    return model


def trained_model(model_class: type[PreTrainedModel], directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A fine-tuned model, to predict with; raises ValueError when it lacks weights."""
    model, absent = load_model(model_class, directory, None, dtype)
    if absent:
        raise ValueError(f"model {directory}: lacks {len(absent)} weights, such as {min(absent)}; save it again")
    return model.eval()


def load_model(
    model_class: ModelClass,
    directory: Path,
    config: PreTrainedConfig | None,
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, set[str]]:
    """(the model of a directory, the names of its weights that the directory lacks or has in another shape)."""
    with errors_of_transformers(f"{directory}: its weights"), quiet_transformers():
        model, found = model_class.from_pretrained(
            directory, config=config, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    return model, {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
