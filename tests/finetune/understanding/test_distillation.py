"""Fine-tuning with a teacher: its loss against plain loops, each head from the same model, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from head_worlds import WORLDS
from transformers import AutoConfig

from finetune.encoders import open_encoder
from finetune.understanding.distillation import TaskTeacher, soft_loss
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import limits_of
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_named
from training.checkpoints.finding import checkpoints_of
from training.recipe.parsing import build_recipe
from veco import VecoForTokenClassification
from veco.labels import Labelled

ONE_UPDATE = {"epochs": 0, "steps": 1, "save_every": 1, "log_every": 1, "warmup_share": 0.0}
SAME = {**ONE_UPDATE, "dropout": 0.0, "attention_dropout": 0.0, "learning_rate": 1e-12}
PLUGGED_IN = {"setting": "translate-train-all", "plug_in": True}


def softmax(logits: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(logit / temperature) for logit in logits]
    return [one / sum(exponentials) for one in exponentials]


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_soft_loss_is_the_mean_over_what_has_a_label() -> None:
    """Of tokens of x and y, of which some have none."""
    temperature, total, count = 2.0, 0.0, 0
    student, teacher = [], []
    for seed, labels in enumerate(([[-100, 1, 0], [2, -100, -100]], [[1, -100], [-100, 0]])):
        shape = len(labels), len(labels[0]), 3
        sides = drawn(*shape, seed=seed), drawn(*shape, seed=9 + seed)
        for row, of_row in enumerate(labels):
            for place, label in enumerate(of_row):
                if label != -100:
                    q, p = (softmax(side[row, place].tolist(), temperature) for side in sides)
                    total += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
                    count += 1
        for side, logits in zip((student, teacher), sides, strict=True):
            side.append(Labelled("labels", logits, torch.tensor(labels)))
    assert float(soft_loss(student, teacher, temperature)) == pytest.approx(total / count, rel=1e-5)


def test_places_that_are_no_candidates_count_for_nothing() -> None:
    logits, taught = drawn(2, 4, seed=1), drawn(2, 4, seed=2)
    for side in (logits, taught):
        side[:, 3] = -math.inf
    labels = torch.tensor([0, 2])
    logits.requires_grad_()
    loss = soft_loss([Labelled("x", logits, labels)], [Labelled("x", taught, labels)], 1.0)
    without = soft_loss([Labelled("x", logits[:, :3], labels)], [Labelled("x", taught[:, :3], labels)], 1.0)
    torch.testing.assert_close(loss, without)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and not logits.grad[:, 3].any()


def test_no_label_is_no_loss() -> None:
    none = [Labelled("labels", drawn(1, 2, 3, seed=1), torch.full((1, 2), -100))]
    assert float(soft_loss(none, none, 1.0)) == 0


def test_classes_that_are_decided_alone_and_numbers() -> None:
    logits, taught, labels = drawn(3, 2, seed=1), drawn(3, 2, seed=2), torch.zeros(3, 2)
    sides = [Labelled("labels", logits, labels)], [Labelled("labels", taught, labels)]
    of_classes = 0.0
    for own, theirs in zip(logits.flatten().tolist(), taught.flatten().tolist(), strict=True):
        q, p = (1 / (1 + math.exp(-logit / 1.5)) for logit in (own, theirs))
        of_classes += 1.5**2 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    found = soft_loss(*sides, 1.5, "multi_label_classification")
    assert float(found) == pytest.approx(of_classes / 6, rel=1e-5)
    expected = sum((a - b) ** 2 for a, b in zip(logits.flatten().tolist(), taught.flatten().tolist(), strict=True)) / 6
    assert float(soft_loss(*sides, 1.5, "regression")) == pytest.approx(expected, rel=1e-5)


def losses(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    named = [{name: value for name, value in line.items() if name.startswith("train/")} for line in lines]
    return [line for line in named if line]


@pytest.fixture(params=[*WORLDS, "xquad", "panx", "udpos plugged in", "xquad plugged in"])
def fields(request: pytest.FixtureRequest, worlds: Path, tagged_data: Path) -> dict[str, Any]:
    """The fields of a task for each head."""
    task, _, plugged_in = request.param.partition(" ")
    if task in WORLDS:
        return {"task": str(worlds / f"{task}.yaml"), "data": str(worlds)}
    translated_test = {"translated_test": str(tagged_data / "english"), **PLUGGED_IN}
    return {"task": task, "data": str(tagged_data), **(translated_test if plugged_in else {})}


def test_teacher_and_student_that_are_one_differ_in_nothing(train: Callable[..., Path], fields: dict[str, Any]) -> None:
    """The rest of the loss is the share of the labels."""
    name = Path(fields["task"]).stem
    taught_by = train(**{**fields, **SAME, "learning_rate": 1e-2}, output="teacher")
    start = {"init_from": str(taught_by / "best"), "teacher": str(taught_by), "distillation_weight": 0.25}
    start |= {"teacher_states": 1.0, "teacher_every_layer": True}
    (line,) = losses(train(**{**fields, **SAME, **start}, output="student"))
    (alone,) = losses(train(**{**fields, **SAME, "init_from": str(taught_by / "best")}, output="alone"))
    assert line[f"train/{name}_soft"] == pytest.approx(0, abs=1e-6)
    assert line[f"train/{name}_states"] == pytest.approx(0, abs=1e-9)
    assert line[f"train/{name}"] == pytest.approx(0.75 * alone[f"train/{name}"], rel=1e-5)


def test_student_learns_from_the_teacher_and_resumes(train: Callable[..., Path], tmp_path: Path) -> None:
    teacher = train("pawsx", "teacher", epochs=4)
    fields = {"init": "random", "teacher": str(teacher), "distillation_weight": 0.9, "epochs": 4, "log_every": 1}
    fields |= {"dropout": 0.1, "keep_checkpoints": 9}
    run = train("pawsx", "whole", **fields)
    whole = losses(run)
    soft = [line["train/pawsx_soft"] for line in whole]
    assert sum(soft[-4:]) < 0.8 * sum(soft[:4])
    found = checkpoints_of(shutil.copytree(run, tmp_path / "resumed"))
    for step in sorted(found)[2:]:
        shutil.rmtree(found[step])
    assert losses(train("pawsx", "resumed", **fields, resume="auto")) == whole
    model = run / "best"
    assert not [name for name in VecoForTokenClassification.from_pretrained(model).state_dict() if "teacher" in name]
    other = train("pawsx", "other", **ONE_UPDATE)
    with pytest.raises(ValueError, match="cannot be resumed: .*teacher_fingerprint"):
        train("pawsx", "resumed", **{**fields, "teacher": str(other), "epochs": 5}, resume="auto")
    without = {name: value for name, value in fields.items() if name not in ("teacher", "distillation_weight")}
    with pytest.raises(ValueError, match="cannot be resumed: .*teacher_fingerprint"):
        train("pawsx", "resumed", **{**without, "epochs": 5}, resume="auto")
    alone = {"init": "random", "epochs": 1, "keep_checkpoints": 9}
    train("pawsx", "alone", **alone)
    with pytest.raises(ValueError, match="cannot be resumed: .*teacher_fingerprint"):
        train("pawsx", "alone", **{**alone, "epochs": 2}, teacher=str(teacher), resume="auto")


def test_what_does_not_fit_is_refused(train: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> None:
    teacher = train("pawsx", "teacher", **ONE_UPDATE)
    plugged_in = train("pawsx", "plugged-in", **ONE_UPDATE, **PLUGGED_IN)
    other_pieces = Path(shutil.copytree(teacher / "best", tmp_path / "other"))
    path = other_pieces / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"][-2][0] += "x"
    path.write_text(json.dumps(content))
    (other_pieces / "sentencepiece.bpe.model").unlink(missing_ok=True)
    for task, named, message in (
        ("xnli", teacher, "was trained for pawsx, whose classes are not those of xnli"),
        ("pawsx", tiny_model, "was not trained for a task"),
        ("pawsx", plugged_in, "was trained plugged in, the student is not"),
        ("pawsx", other_pieces, "has another tokenizer"),
        ("pawsx", tmp_path / "nowhere", "expected a model, a checkpoint or a run, found nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            train(task, "student", **ONE_UPDATE, teacher=str(named))
    assert AutoConfig.from_pretrained(tiny_model).model_type == "veco"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0}, "temperature 0.0 must be above 0"),
        ({"distillation_weight": 1.5}, "distillation_weight 1.5 must lie between 0 and 1"),
        ({"freeze": "encoder"}, "teacher and freeze encoder exclude one another"),
    ],
)
def test_wrong_recipes_are_told(fields: dict[str, Any], message: str) -> None:
    own = {"task": "pawsx", "data": "x", "init_from": "x", "output": "y", "teacher": "z"}
    with pytest.raises(ValueError, match=message):
        build_recipe(UnderstandingRecipe, {**own, **fields}, None)


def test_a_teacher_has_no_dropout_and_no_gradient(train: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> None:
    teacher = train("pawsx", "teacher", **{**ONE_UPDATE, "dropout": 0.5})
    own = {"task": "pawsx", "data": str(tmp_path), "init_from": str(tiny_model), "output": str(tmp_path / "x")}
    assert AutoConfig.from_pretrained(teacher / "best").hidden_dropout_prob == 0.5
    recipe = build_recipe(UnderstandingRecipe, {**own, "teacher": str(teacher), "max_length": 24}, None)
    task = task_named("pawsx")
    found = TaskTeacher.of_recipe(recipe, task, build_head(task, limits_of(recipe)), open_encoder(tiny_model))
    assert found is not None and not found.model.training
    assert not any(weight.requires_grad for weight in found.model.parameters())
