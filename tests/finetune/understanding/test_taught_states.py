"""States that a student learns from a fine-tuned teacher: against plain loops, and in runs, split and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    FunnelConfig,
    FunnelForSequenceClassification,
)
from xtreme_files import write_model

from finetune.encoders import open_encoder
from finetune.understanding.distillation import TaskTeacher, check_token_states
from finetune.understanding.heads.classification import Classification
from finetune.understanding.recipe import UnderstandingRecipe
from training.checkpoints.finding import checkpoints_of
from training.recipe.parsing import build_recipe
from veco import VecoConfig, VecoForSequenceClassification

WEIGHT = 0.7
FIELDS = {"dropout": 0.0, "attention_dropout": 0.0, "log_every": 1, "keep_checkpoints": 9}


def drawn_model(seed: int, **shape: Any) -> VecoForSequenceClassification:
    torch.manual_seed(seed)
    own = {"vocab_size": 40, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 20, **shape}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    config = VecoConfig(**own, **dropout, initializer_range=0.3, num_labels=3)
    return VecoForSequenceClassification(config).double()


def drawn_batch(plug_in: bool) -> dict[str, Tensor]:
    """Rows of 6, 4 and 5 tokens, and pairs of other lengths."""

    def side(lengths: list[int], prefix: str, labels: str) -> dict[str, Tensor]:
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        ids = torch.randint(5, 40, mask.shape, generator=draw).masked_fill(~mask, 1)
        return {f"{prefix}input_ids": ids, f"{prefix}attention_mask": mask.long(), labels: torch.tensor([0, 2, 1])}

    draw = torch.Generator().manual_seed(3)
    x = side([6, 4, 5], "", "labels")
    return {**x, **side([3, 7, 4], "pair_", "pair_targets")} if plug_in else x


def plain_loop(student: list[Tensor], teacher: list[Tensor], mask: Tensor, layers: list[tuple[int, int]]) -> Tensor:
    """The mean over layers and rows of the mean over a row's tokens of the mean squared difference."""
    total = torch.zeros((), dtype=torch.float64)
    for own, theirs in layers:
        for row, length in enumerate(mask.sum(1).tolist()):
            for place in range(length):
                for a, b in zip(student[own][row, place], teacher[theirs][row, place], strict=True):
                    total = total + (a - b) ** 2 / (student[own].shape[-1] * length * len(mask) * len(layers))
    return total


def raw_states(model: VecoForSequenceClassification, batch: dict[str, Tensor]) -> list[Tensor]:
    """The states of x in each layer, [H ; S] plugged in, from the encoder alone."""
    veco, x = model.veco, (batch["input_ids"], batch["attention_mask"])
    if not model.config.plug_in:
        return list(veco(*x, output_hidden_states=True).hidden_states)
    y = batch["pair_input_ids"], batch["pair_attention_mask"]
    h_of_y = veco(*y).last_hidden_state
    h = veco(*x, output_hidden_states=True).hidden_states
    s = veco(*x, encoder_hidden_states=h_of_y, encoder_attention_mask=y[1], output_hidden_states=True).hidden_states
    return [torch.cat(layer, dim=-1) for layer in zip(h, s, strict=True)]


@pytest.mark.parametrize("plug_in", [False, True])
@pytest.mark.parametrize(
    ("width", "every_layer", "layers"), [(8, False, [(2, 4)]), (12, True, [(0, 0), (1, 2), (2, 4)])]
)
def test_states_are_compared_as_in_a_plain_loop(
    plug_in: bool, width: int, every_layer: bool, layers: list[tuple[int, int]]
) -> None:
    """In float64, with the gradient of each of the student's weights and none of the teacher's."""
    student = drawn_model(1, hidden_size=8, num_hidden_layers=2, plug_in=plug_in)
    model = drawn_model(2, hidden_size=width, num_hidden_layers=4, plug_in=plug_in)
    head = Classification(("a", "b", "c"), max_length=20)
    teacher = TaskTeacher(model.requires_grad_(False).eval(), head, "", 0.25, 2.0, WEIGHT, every_layer)
    teacher.attach(student, student)
    student.double()
    batch, shares = drawn_batch(plug_in), torch.tensor([0.5, 0.125], dtype=torch.float64)
    losses = teacher.losses("task", student, batch, shares)
    with torch.no_grad():
        theirs = raw_states(model, batch)
    own = raw_states(student, batch)
    if width != 8:
        weight, bias = student.teacher_projection.weight, student.teacher_projection.bias
        halves = [state.split(8, dim=-1) for state in own]
        own = [torch.cat([half @ weight.t() + bias for half in parts], dim=-1) for parts in halves]
    expected = WEIGHT * 0.125 * plain_loop(own, theirs, batch["attention_mask"], layers)
    assert list(losses) == ["task", "task_soft", "task_states"]
    torch.testing.assert_close(losses["task_states"], expected, rtol=1e-12, atol=0)
    learning = [one for one in student.parameters() if one.requires_grad]
    found, wanted = (
        torch.autograd.grad(one, learning, retain_graph=True, allow_unused=True)
        for one in (losses["task_states"], expected)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)
    assert sum(one is not None for one in found) > 20
    losses["task_states"].backward()
    assert all(one.grad is None for one in model.parameters())


def test_without_a_weight_no_states_are_kept_and_no_matrix_is_learned() -> None:
    student, model = (drawn_model(seed, hidden_size=8 * seed, num_hidden_layers=2) for seed in (1, 2))
    teacher = TaskTeacher(model, Classification(("a", "b", "c"), max_length=20), "", 0.25, 2.0)
    teacher.attach(student, student)
    assert not hasattr(student, "teacher_projection")
    assert list(teacher.losses("task", student, drawn_batch(False), torch.ones(2))) == ["task", "task_soft"]


@pytest.fixture
def wide_teacher(train: Callable[..., Path], tmp_path: Path) -> Path:
    """Trained, deeper and wider than the student."""
    write_model(tmp_path / "wide", num_hidden_layers=3, hidden_size=48)
    return train("pawsx", "teacher", init_from=str(tmp_path / "wide"), epochs=1)


def losses_of(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [found for line in lines if (found := {name: line[name] for name in line if name.startswith("train/")})]


def test_student_of_another_width(wide_teacher: Path, train: Callable[..., Path], tmp_path: Path) -> None:
    """It learns, in parts of an update too, and resumed; what it writes has nothing of the teacher."""
    fields = {**FIELDS, "teacher": str(wide_teacher), "teacher_states": 0.5, "teacher_every_layer": True, "epochs": 2}
    run = train("pawsx", "whole", **fields)
    whole = losses_of(run)
    states = [line["train/pawsx_states"] for line in whole]
    assert states[-1] < 0.8 * states[0]
    for one, other in zip(losses_of(train("pawsx", "parts", **fields, accumulation_steps=4)), whole, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    resumed = shutil.copytree(run, tmp_path / "resumed")
    shutil.rmtree(checkpoints_of(resumed)[max(checkpoints_of(resumed))])
    assert losses_of(train("pawsx", "resumed", **fields, resume="auto")) == whole
    written = load_file(run / "best" / "model.safetensors")
    plain = load_file(wide_teacher / "best" / "model.safetensors")
    assert not [name for name in written if "teacher" in name]
    assert {name.replace("layers.2.", "") for name in plain} >= set(written)


def test_a_matrix_that_comes_or_goes_or_changes_is_told(wide_teacher: Path, train: Callable[..., Path]) -> None:
    """A run goes on without it when Adam begins again."""
    write_model(wide_teacher.parent / "wider", hidden_size=64)
    wider = str(train("pawsx", "wider-teacher", init_from=str(wide_teacher.parent / "wider"), epochs=1))
    alone = {**FIELDS, "teacher": str(wide_teacher), "epochs": 1}
    learning, longer = {**alone, "teacher_states": 0.5}, {"resume": "auto", "epochs": 2}
    changes, changes_teacher = {"change": "teacher_states"}, {"change": "teacher_fingerprint"}
    train("pawsx", "without", **alone)
    run = train("pawsx", "with", **learning)
    for output, fields, message in (
        ("without", {**learning, **changes}, "no matrix, now they would learn a matrix to a width of 48; give"),
        ("without", {**learning, **changes, "reset_optimizer": True}, "no matrix, now .* of 48; give"),
        (
            "with",
            {**alone, **changes},
            "a matrix to a width of 48, .* no matrix; .*leave it out with --reset_optimizer",
        ),
        ("with", {**learning, **changes_teacher, "teacher": wider}, "a matrix to a width of 48, .* of 64; give"),
    ):
        with pytest.raises(ValueError, match=f"cannot be resumed: its teacher_states learned {message}") as told:
            train("pawsx", output, **{**fields, **longer})
        assert "\n" not in str(told.value)
    train("pawsx", "with", **{**alone, **changes, **longer, "reset_optimizer": True})
    assert "train/pawsx_states" in losses_of(run)[0] and "train/pawsx_states" not in losses_of(run)[-1]


def test_student_with_low_rank_adapters(wide_teacher: Path, train: Callable[..., Path]) -> None:
    """The matrix learns beside them, and is not merged."""
    pytest.importorskip("peft")
    fields = {**FIELDS, "teacher": str(wide_teacher), "teacher_states": 0.5, "lora_rank": 2}
    run = train("pawsx", "adapted", **fields)
    assert "train/pawsx_states" in losses_of(run)[0]
    assert not [name for name in load_file(run / "best" / "model.safetensors") if "teacher" in name]


def test_encoders_without_states_of_tokens_are_refused(
    encoder_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    bert = AutoModelForSequenceClassification.from_pretrained(encoder_directory("bert")).train()
    check_token_states(bert, open_encoder(encoder_directory("bert")))
    assert bert.training
    shape = {"vocab_size": 180, "block_sizes": [1, 1], "d_model": 8, "n_head": 1, "d_head": 8, "d_inner": 8}
    funnel = FunnelForSequenceClassification(FunnelConfig(**shape))
    funnel.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(encoder_directory("bert")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the layers of a funnel have no state for each token"):
        check_token_states(funnel, open_encoder(tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher_states": -1.0, "teacher": "z"}, "teacher_states -1.0 must not be negative"),
        ({"teacher_states": 1.0}, "teacher_states 1.0 needs a teacher"),
        ({"teacher_every_layer": True, "teacher": "z"}, "teacher_every_layer needs teacher_states above 0"),
    ],
)
def test_wrong_recipes_are_told(fields: dict[str, Any], message: str) -> None:
    own = {"task": "pawsx", "data": "x", "init_from": "x", "output": "y"}
    with pytest.raises(ValueError, match=message):
        build_recipe(UnderstandingRecipe, {**own, **fields}, None)
