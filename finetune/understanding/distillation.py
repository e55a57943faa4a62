"""A fine-tuned teacher for the same task: a student learns its logits beside the labels (Hinton et al., 2015).

The loss of an update is (1 - w) * that of the labels + w * the mean over the same texts, tokens or answers of

    t^2 KL(softmax(teacher / t) || softmax(student / t))     one of several classes, choices or places
    t^2 KL of each class alone, the mean over the classes     any number of classes
    (teacher - student)^2                                    numbers

with weight w and temperature t.

With a weight for states, the mean over rows of the squared differences of states is added. They are compared as in
pre-training's `distil`: those of the last layers, or of each layer of the student, through a learned matrix if widths
differ, which the written model does not have. Plugged in, they are [H ; S] of the text itself, whose S reads the
translation.

The teacher is whole on every rank, in evaluation mode, outside the engine and the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from finetune.encoders import Encoder, open_encoder
from finetune.model_directory import model_directory
from finetune.understanding.heads.build_model import trained_model
from finetune.understanding.heads.head import TaskHead
from finetune.understanding.heads.model_classes import is_plugged_in, model_class_of
from finetune.understanding.heads.predictor import trained_task, with_classes_of
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.retrieval.embeddings import check_states
from finetune.understanding.tasks.task import Task
from training.checkpoints.zero_shards import checkpoint_weights
from training.engine.interface import Engine
from training.run_directory.fingerprint import fingerprint_of_model
from training.run_directory.kinds import MODEL_DIR, Kind
from training.run_directory.resuming import recipe_of
from training.step import Batch
from veco import VecoConfig
from veco.labels import IGNORED, Labelled
from veco.objectives.shared.relations import compared_layers, mean_state_distance
from veco.objectives.shared.teacher import projection_to
from veco.packing import Padding
from veco.soft_targets import soft_divergence

PROJECTION = "teacher_projection"  # the name of a student's matrix to the width of its teacher


def binary_divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The loss (B,) of logits (B, C) of C classes that are decided each on its own, the mean over the classes."""
    student, teacher = logits.float() / temperature, teacher_logits.float() / temperature
    of_classes = [
        (sign * teacher).sigmoid() * (logsigmoid(sign * teacher) - logsigmoid(sign * student)) for sign in (1, -1)
    ]
    return temperature**2 * torch.stack(of_classes).sum(0).mean(-1)


def squared_difference(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The loss (B,) of logits (B, C) that are numbers, for which there is no temperature."""
    return (logits.float() - teacher_logits.float()).square().mean(-1)


# Of a head's problem type; others predict one of several.
DIVERGENCES: dict[str | None, Callable[[Tensor, Tensor, float], Tensor]] = {
    "multi_label_classification": binary_divergence,
    "regression": squared_difference,
}


def soft_loss(
    student: list[Labelled], teacher: list[Labelled], temperature: float, problem_type: str | None = None
) -> Tensor:
    """The mean loss of a student's logits over all that has a label, where alone the teacher's count; 0 without any."""
    divergence = DIVERGENCES.get(problem_type, soft_divergence)
    losses = []
    for own, theirs in zip(student, teacher, strict=True):
        logits, taught = own.logits.flatten(0, -2), theirs.logits.flatten(0, -2)
        if not own.labels.is_floating_point():
            has_label = own.labels.flatten() != IGNORED
            logits, taught = logits[has_label], taught[has_label]
        losses.append(divergence(logits, taught, temperature))
    of_all = torch.cat(losses)
    return of_all.sum() / max(1, len(of_all))


@dataclass(eq=False)
class TaskTeacher:
    """A trained model with the head of the student's task.

    `weight` is the share of its loss in that of the labels; `states` is the weight of the loss of states, of the last
    layer or of `every_layer`, which is added.
    """

    model: PreTrainedModel
    head: TaskHead
    fingerprint: str
    weight: float
    temperature: float
    states: float = 0.0
    every_layer: bool = False

    @classmethod
    def of_recipe(cls, recipe: UnderstandingRecipe, task: Task, head: TaskHead, encoder: Encoder) -> Self | None:
        """The teacher that a recipe names: a run, a checkpoint or a model; None where it names none.

        `head` and `encoder` are the student's, which must read the same rows. Raises ValueError for a teacher of other
        classes or with another tokenizer, for rows that it does not take, and if only one of both is plugged in.
        """
        if not recipe.teacher:
            return None
        directory = model_directory(Path(recipe.teacher), [Kind.TASK])
        of_teacher = open_encoder(directory, "teacher")
        check_same_rows(recipe, of_teacher, encoder)
        with_classes_of(trained_task(of_teacher), task, directory)
        model_class = model_class_of(head.model_class, of_teacher.config)
        model = trained_model(model_class, directory, torch.float32).requires_grad_(False)
        if is_plugged_in(model.config) != recipe.plug_in:
            plugged = (
                "plugged in, the student is not" if is_plugged_in(model.config) else "not plugged in, as plug_in is"
            )
            raise ValueError(f"teacher {directory}: was trained {plugged}; both must read the same rows")
        if recipe.teacher_states:
            check_token_states(model, of_teacher)
        return cls(
            model,
            head,
            fingerprint_of_model(directory),
            recipe.distillation_weight,
            recipe.temperature,
            recipe.teacher_states,
            recipe.teacher_every_layer,
        )

    def attach(self, student: nn.Module, whole: PreTrainedModel) -> None:
        """Give what the engine trains the matrix from the `whole` student's width to the teacher's, if it needs one."""
        projection = projection_to(self.model.config.hidden_size, whole) if self.states else None
        if projection is not None:
            student.add_module(PROJECTION, projection)
            student.register_forward_hook(project_states)  # inside its forward pass, where ZeRO-3 gathers weights

    def begin(self, engine: Engine, dtype: torch.dtype) -> None:
        """Move to the engine's device, in the precision of the student's weights there."""
        self.model.to(device=engine.device, dtype=dtype)

    def losses(self, name: str, student: nn.Module, batch: Batch, shares: Tensor) -> dict[str, Tensor]:
        """The terms of a student's loss on a batch: by the labels, by the teacher's logits, and by its states.

        Each is a mean, times the batch's share of what it is a mean of in the update: `shares` (labels, rows).
        """
        own, theirs = (KeptStates(model, keeps=self.states > 0) for model in (student, self.model))
        labelled = self.head.labelled(own, batch)
        with torch.no_grad():
            taught = self.head.labelled(theirs, batch)
        soft = soft_loss(labelled, taught, self.temperature, self.head.problem_type)
        found = {
            name: (1 - self.weight) * self.head.loss(labelled) * shares[0],
            f"{name}_soft": self.weight * soft * shares[0],
        }
        if self.states:
            distance = state_loss(own.states, theirs.states, batch["attention_mask"], self.every_layer)
            found[f"{name}_states"] = self.states * distance * shares[1]
        return found


class KeptStates(nn.Module):
    """A model as it is, which keeps the states of its last call: (B, T, W) of the embeddings and of each layer."""

    def __init__(self, model: nn.Module, keeps: bool) -> None:
        super().__init__()
        self.model, self.keeps = model, keeps
        self.states: Sequence[Tensor] = ()

    def forward(self, **inputs: Any) -> ModelOutput:
        if not self.keeps:
            return self.model(**inputs)
        output = self.model(**inputs, output_hidden_states=True)
        self.states = output.hidden_states
        return output


def state_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], attention_mask: Tensor, every_layer: bool
) -> Tensor:
    """The mean over rows of the squared differences of states (B, T, W) at the tokens of `attention_mask` (…, T)."""
    padding = Padding.of(attention_mask.flatten(0, -2).bool())
    compared = compared_layers(len(student) - 1, len(teacher) - 1, every_layer)
    pairs = ((padding.pack(student[own]), padding.pack(teacher[theirs])) for own, theirs in compared)
    return mean_state_distance(pairs, padding).mean()


def project_states(student: nn.Module, inputs: Any, output: ModelOutput) -> ModelOutput:
    """The output of a student with its kept states in the teacher's width; plugged in, those of H and of S each."""
    if output.get("hidden_states") is not None:
        projection = student.get_submodule(PROJECTION)
        width = projection.in_features
        output.hidden_states = tuple(
            projection(states.unflatten(-1, (-1, width)).to(projection.weight.dtype)).flatten(-2)
            for states in output.hidden_states
        )
    return output


def without_projection(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a student alone, of those that the engine has."""
    return {name: weight for name, weight in weights.items() if not name.startswith(f"{PROJECTION}.")}


def check_projection(student: nn.Module, checkpoint: Path, recipe: UnderstandingRecipe) -> None:
    """Raise ValueError unless a checkpoint has the matrix of what the engine trains, or none as it has none.

    With `reset_optimizer`, when the weights alone are read, it may have one that is not learned any more.
    """
    if not (recipe.teacher_states or recipe_of(checkpoint, type(recipe))["teacher_states"]):
        return
    weight = f"{PROJECTION}.weight"  # (width of the teacher, width of the student)
    stored, learned = checkpoint_weights(checkpoint).get(weight), dict(student.named_parameters()).get(weight)
    before, now = (None if one is None else one.shape[0] for one in (stored, learned))
    if before == now or (now is None and recipe.reset_optimizer):
        return
    found, expected = ("no matrix" if one is None else f"a matrix to a width of {one}" for one in (before, now))
    leave_out = ", leave it out with --reset_optimizer" if now is None else ""
    raise ValueError(
        f"{checkpoint} cannot be resumed: its teacher_states learned {found}, now they would learn {expected}; "
        f"give the teacher and teacher_states that it had{leave_out}, or begin another --output with --init_from "
        f"{checkpoint / MODEL_DIR}"
    )


def check_token_states(model: PreTrainedModel, encoder: Encoder) -> None:
    """Raise ValueError for a model whose layers do not have a state for each token; those of a VECO do."""
    if not isinstance(encoder.config, VecoConfig):
        is_training = model.training
        check_states(model.base_model, encoder)
        model.train(is_training)


def check_same_rows(recipe: UnderstandingRecipe, teacher: Encoder, student: Encoder) -> None:
    """Raise ValueError unless a teacher reads the rows that are made for a student."""
    directory = teacher.directory
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        sizes = [len(encoder.tokenizer.get_vocab()) for encoder in (teacher, student)]
        raise ValueError(
            f"teacher {directory}: has another tokenizer ({sizes[0]:,} pieces) than {student.directory} "
            f"({sizes[1]:,} pieces); both must read the same rows"
        )
    if teacher.has_token_types != student.has_token_types:
        raise ValueError(f"teacher {directory}: only one of it and {student.directory} has token types")
    if recipe.max_length > teacher.max_tokens:
        raise ValueError(
            f"teacher {directory}: max_length {recipe.max_length} exceeds the {teacher.max_tokens} tokens that it takes"
        )
