"""The teacher of a run with objective `distil`: opened, compared with the data, and given to the student.

It is whole on every rank, in the precision of the student's weights: 2 bytes for each of its parameters in bfloat16, so
1.3 GB for VECO-large. Neither engine nor checkpoints know of it: a run that is resumed opens it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_tools.shards.manifest import Manifest
from pretrain.models.initial_model import (
    XLM_ROBERTA,
    check_special_ids,
    check_vocabulary,
    kind_of_model,
    named,
    pretrained_model,
)
from pretrain.recipe import PretrainRecipe
from training.checkpoints.finding import read_state
from training.run_directory.fingerprint import fingerprint_of_model
from training.run_directory.kinds import MODEL_DIR, own_model
from veco import VecoForPreTraining
from veco.objectives.distil import Distillation
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.teacher import TaughtModule, Teacher, projection_to

PROJECTED_TO = "projected_to"  # the width of a checkpoint's projection, in its state
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def open_teacher(recipe: PretrainRecipe, data_dir: Path, manifest: Manifest) -> Teacher | None:
    """The teacher that a recipe names, a VECO or an XLM-R, or a run with one; None where it names none.

    Its weights are in float32 on the CPU. Raises ValueError where there is no model, its tokenizer is not that of the
    data, its rows are too short, or it has no cross-attention for path S to learn from.
    """
    if recipe.teacher is None:
        return None
    directory = own_model(Path(recipe.teacher)) or Path(recipe.teacher)
    model = pretrained_model(directory, NO_DROPOUT, ObjectiveSum.of("mlm"), field="teacher")
    with named(f"teacher {directory}: "):
        check_vocabulary(model.config.vocab_size, directory, data_dir, manifest)
    check_special_ids(model.config, directory, manifest, field="teacher")
    if recipe.longest_row > model.config.max_tokens:
        raise ValueError(
            f"teacher {directory}: batches may have {recipe.longest_row} tokens a row, it only takes "
            f"{model.config.max_tokens}"
        )
    if kind_of_model(directory) == XLM_ROBERTA and any(part.plugged_in for part in distillations(recipe)):
        raise ValueError(
            f"teacher {directory}: an {XLM_ROBERTA} has no cross-attention to learn from; leave plugged_in out, or "
            "take a VECO"
        )
    return Teacher(model, fingerprint_of_model(directory))


def distillations(recipe: PretrainRecipe) -> list[Distillation]:
    """The parts of a recipe's objectives, of all stages, that learn from a teacher."""
    parts = (part for objective in recipe.objectives() for part in ObjectiveSum.of(objective))
    return [part for part in parts if isinstance(part, Distillation)]


def teach(model: VecoForPreTraining, teacher: Teacher, objectives: Sequence[Distillation]) -> None:
    """Give a model the teacher that it learns from by `objectives`.

    It gets a projection of its states to the teacher's width if they are compared and differ in it. Raises ValueError
    where the model cannot learn from this teacher.
    """
    for objective in objectives:
        objective.check(model.config, teacher.config)
    module = taught_module(model)
    module.teacher = teacher
    if any(objective.states for objective in objectives):
        module.projection = projection_to(teacher.config.hidden_size, model)


def check_projection(model: VecoForPreTraining, checkpoint: Path) -> None:
    """Raise ValueError unless a checkpoint has the projection that the model has, or none as it has none."""
    now = width_of_projection(model)
    before = read_state(checkpoint).get(PROJECTED_TO, now)  # older checkpoints do not say
    if before != now:
        had, has = ("none" if width is None else f"one to a width of {width}" for width in (before, now))
        raise ValueError(
            f"{checkpoint} cannot be resumed: its matrix to the width of distil's teacher was {had}, would be {has}; "
            "give the teacher and the objectives that it had, or begin another --output with --init_from "
            f"{checkpoint / MODEL_DIR}"
        )


def width_of_projection(model: VecoForPreTraining) -> int | None:
    """The width of the teacher to which a model projects its states; None where it projects none."""
    if Distillation.name not in model.objective_modules:
        return None
    projection = taught_module(model).projection
    return None if projection is None else projection.out_features


def taught_module(model: VecoForPreTraining) -> TaughtModule:
    """The part of a model's objective `distil` that has the teacher."""
    module = model.objective_modules[Distillation.name]
    assert isinstance(module, TaughtModule)
    return module
