"""Distillation against what both models compute on padded rows, and what learns from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pretend_device import DEVICE
from pretend_kernels import pretend_card
from random_pairs import batch_of_views
from teaching import shaped, student_of, teacher_of
from torch import Tensor, nn

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.relations import paired_layers
from veco.soft_targets import soft_divergence

EVERYTHING = "distil(relations=0.5, states=2, logits=3, heads=4, temperature=1.5, plugged_in=True)"
SIDES = {"x": "", "y": "pair_"}


@pytest.fixture
def wide(config: VecoConfig) -> VecoConfig:
    """A teacher's shape: twice as deep as that of `config`, wider, with other attention heads."""
    return shaped(config, num_hidden_layers=6, hidden_size=48, num_attention_heads=6, intermediate_size=64)


@contextmanager
def outputs_of(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """What modules put out inside, in the order of their calls."""
    found: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _, __, output: found.append(output)) for module in modules]
    yield found
    for handle in handles:
        handle.remove()


def projections(attention: nn.Module) -> list[nn.Module]:
    return [attention.q_proj, attention.k_proj, attention.v_proj]


@torch.no_grad()
def seen(model: VecoForPreTraining, batch: dict[str, Any], own: str, other: str, layer: int, plugged_in: bool) -> Any:
    """(vectors of a layer with the lengths of their rows, states, logits at predicted places), on padded rows."""
    ids, mask = (batch[f"{SIDES[own]}{name}"] for name in ("input_ids", "attention_mask"))
    of_pair: dict[str, Tensor] = {}
    attention = model.veco.layers[layer - 1].self_attention
    lengths = [mask.sum(1).tolist()] * 3
    if plugged_in:
        pair_ids, pair_mask = (batch[f"{SIDES[other]}{name}"] for name in ("input_ids", "attention_mask"))
        states = model.veco(pair_ids, pair_mask).last_hidden_state
        of_pair = {"encoder_hidden_states": states, "encoder_attention_mask": pair_mask}
        attention = model.veco.layers[layer - 1].cross_attention
        lengths = [lengths[0], *[pair_mask.sum(1).tolist()] * 2]
    with outputs_of(projections(attention)) as vectors:
        states = model.veco(ids, mask, **of_pair).last_hidden_state
    is_predicted = batch[f"{SIDES[own]}labels"].ne(-100)
    return list(zip(vectors, lengths, strict=True)), states, model.lm_head(states[is_predicted])


def divergence(own: Tensor, theirs: Tensor, heads: int) -> float:
    """The formula of MiniLMv2 for the vectors (tokens, width) of one row."""
    total = 0.0
    for head in range(heads):
        relations = []
        for vectors in (theirs, own):
            size = vectors.shape[1] // heads
            part = vectors[:, head * size : (head + 1) * size]
            relations.append((part @ part.t() / size**0.5).softmax(1))
        total += float((relations[0] * (relations[0] / relations[1]).log()).sum())
    return total / heads / len(own)


@pytest.mark.parametrize("layer", [-1, 4])
def test_losses_are_the_formulas(config: VecoConfig, wide: VecoConfig, layer: int) -> None:
    teacher = teacher_of(wide)
    model = student_of(
        config, f"distil(states=1, logits=1, heads=4, temperature=1.5, layer={layer}, plugged_in=True)", teacher
    )
    batch = batch_of_views("x", "y")
    expected: dict[str, float] = {}
    for prefix, is_plugged_in in (("distil", False), ("distil_cross", True)):
        for own, other in (("x", "y"), ("y", "x")):
            of_student = seen(model, batch, own, other, 3, is_plugged_in)
            of_teacher = seen(teacher.model, batch, own, other, 6 if layer == -1 else layer, is_plugged_in)
            relations = []
            for (ours, lengths), (theirs, _) in zip(of_student[0], of_teacher[0], strict=True):
                rows = [divergence(a[:n], b[:n], 4) for a, b, n in zip(ours, theirs, lengths, strict=True)]
                relations.append(sum(rows) / len(rows))
            projected = model.objective_modules["distil"].projection(of_student[1])
            lengths = of_student[0][0][1]
            rows = [
                (a[:n] - b[:n]).square().mean().item()
                for a, b, n in zip(projected, of_teacher[1], lengths, strict=True)
            ]
            logits = soft_divergence(of_student[2], of_teacher[2], 1.5).mean().item()
            found = {"relations": sum(relations) / 3, "states": sum(rows) / len(rows), "logits": logits}
            for name, value in found.items():
                expected[f"{prefix}_{name}"] = expected.get(f"{prefix}_{name}", 0.0) + value
    losses = {name: loss.item() for name, loss in model(**batch).losses.items()}
    assert losses == pytest.approx(expected, rel=1e-6)
    assert min(expected.values()) > 1e-3


def test_own_copy_teaches_nothing(config: VecoConfig) -> None:
    teacher = teacher_of(config)
    model = student_of(config, EVERYTHING, teacher)
    model.load_state_dict(teacher.model.state_dict())
    losses = model(**batch_of_views("x", "y")).losses
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-12)


def test_weights_of_the_terms(config: VecoConfig, wide: VecoConfig) -> None:
    teacher, batch = teacher_of(wide), batch_of_views("x", "y")
    plain = student_of(config, "distil(states=1, logits=1, heads=4, temperature=1.5)", teacher)(**batch).losses
    found = student_of(config, EVERYTHING.replace(", plugged_in=True", ""), teacher)(**batch).losses
    for name, weight in {"distil_relations": 0.5, "distil_states": 2, "distil_logits": 3}.items():
        torch.testing.assert_close(found[name], weight * plain[name])
    only = student_of(config, "distil(heads=4)", teacher)
    assert list(only(**batch).losses) == ["distil_relations"] and only.objective_modules["distil"].projection is None


def test_no_gradient_goes_to_the_teacher(config: VecoConfig, wide: VecoConfig) -> None:
    teacher = teacher_of(shaped(wide, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5))
    model = student_of(config, EVERYTHING, teacher).train()
    batch = batch_of_views("x", "y")
    loss = model(**batch).loss
    loss.backward()
    assert model(**batch).loss == loss, "the teacher has no dropout"
    assert not any(weight.requires_grad or weight.grad is not None for weight in teacher.model.parameters())
    assert not [name for name in model.state_dict() if "teacher" in name]
    assert {name for name, weight in model.named_parameters() if weight.grad is None} == set()


def test_relations_of_path_s_stop_at_the_other_sentence(config: VecoConfig) -> None:
    """As its cross-attention does: no loss of path S reaches path H of the other sentence."""
    model = student_of(config, "distil(heads=4, plugged_in=True)", teacher_of(config))
    losses = model(**batch_of_views("x", "y")).losses
    losses["distil_cross_relations"].backward()
    last = model.veco.layers[-1]
    assert last.cross_attention.v_proj.weight.grad.any() and last.self_attention.q_proj.weight.grad.any()
    assert last.feed_forward_norm.weight.grad is None, "behind what is related"


def test_parts_add_up_to_the_whole(config: VecoConfig, wide: VecoConfig) -> None:
    model = student_of(config, EVERYTHING, teacher_of(wide))
    whole = batch_of_views("x", "y")
    num_items = torch.tensor([count.of(whole["packed"].sizes) for count in model.objective.counts])
    parts = [batch_of_views("x", "y", pairs=slice(first, first + 2)) for first in (0, 2)]
    losses = [model(**part, num_items_in_batch=num_items).loss for part in parts]
    torch.testing.assert_close(torch.stack(losses).sum(), model(**whole).loss)


def test_recomputed_layers_give_the_same_gradient(config: VecoConfig, wide: VecoConfig) -> None:
    found = []
    for recomputes in (False, True):
        model = student_of(config, EVERYTHING, teacher_of(wide)).train()
        if recomputes:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**batch_of_views("x", "y")).loss.backward()
        found.append([weight.grad for weight in model.parameters()])
    torch.testing.assert_close(*found)


def test_student_learns(config: VecoConfig, wide: VecoConfig) -> None:
    model = student_of(config, EVERYTHING, teacher_of(wide)).train()
    batch = batch_of_views("x", "y", pairs=slice(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = model(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append({name: loss.item() for name, loss in output.losses.items()})
    assert all(losses[-1][name] < 0.9 * first for name, first in losses[0].items())


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ((2, 4), [(0, 0), (1, 2), (2, 4)]),
        ((3, 6), [(0, 0), (1, 2), (2, 4), (3, 6)]),
        ((3, 4), [(0, 0), (1, 1), (2, 3), (3, 4)]),
    ],
)
def test_layers_are_paired_at_equal_depth(depths: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert paired_layers(*depths) == expected


def test_every_layer_is_compared(config: VecoConfig, wide: VecoConfig) -> None:
    teacher = teacher_of(shaped(config, num_hidden_layers=6))
    model = student_of(config, "distil(relations=0, states=1, every_layer=True)", teacher)
    batch = batch_of_views("x", "y")
    expected = 0.0
    for prefix in SIDES.values():
        ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
        with torch.no_grad():
            ours, theirs = (m.veco(ids, mask, output_hidden_states=True).hidden_states for m in (model, teacher.model))
        of_layers = []
        for own, taught in ((0, 0), (1, 2), (2, 4), (3, 6)):
            squares = (ours[own] - theirs[taught]).square().mean(-1)
            of_layers.append(((squares * mask).sum(1) / mask.sum(1)).mean().item())
        expected += sum(of_layers) / 4
    assert model(**batch).loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("heads=5", "heads 5 must divide the student's width 32 and the teacher's width 48"),
        ("layer=7, heads=4", "layer 7 must be at most 6, the layers of the teacher"),
    ],
)
def test_what_does_not_fit_is_refused(config: VecoConfig, wide: VecoConfig, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        student_of(config, f"distil({options})", teacher_of(wide))


def test_more_pieces_than_the_teachers_are_refused(config: VecoConfig) -> None:
    teacher = teacher_of(shaped(config, vocab_size=50))
    student_of(config, "distil(heads=4)", teacher)
    with pytest.raises(ValueError, match="the student has 60 pieces, more than the 50 of the teacher"):
        student_of(config, "distil(heads=4, logits=1)", teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("relations=-1", "relations -1.0 must not be negative"),
        ("relations=0", "one of relations, states, logits must be above 0"),
        ("layer=0", "layer 0 must be -1, the last, or above 0"),
        ("heads=0", "heads 0 must be above 0"),
        ("temperature=0", "temperature 0.0 must be above 0"),
    ],
)
def test_wrong_options_are_told(options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveSum.of(f"distil({options})")


def test_without_a_teacher_it_says_so(config: VecoConfig) -> None:
    with pytest.raises(ValueError, match="has no teacher yet"):
        VecoForPreTraining(config, "distil")(**batch_of_views("x", "y"))


@pytest.mark.parametrize("is_autocast", [False, True])
def test_half_precision_comes_close(config: VecoConfig, wide: VecoConfig, is_autocast: bool) -> None:
    """In bfloat16 weights, as under DeepSpeed, and where autocast computes, as in the plain engine."""
    teacher = teacher_of(wide)
    model = student_of(config, EVERYTHING, teacher).float()
    teacher.to(torch.device("cpu"), torch.float32)
    batch = batch_of_views("x", "y")
    expected = {name: loss.item() for name, loss in model(**batch).losses.items()}
    if not is_autocast:
        model.bfloat16()
        teacher.to(torch.device("cpu"), torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        output = model(**batch)
    output.loss.backward()
    assert {name: loss.item() for name, loss in output.losses.items()} == pytest.approx(expected, rel=0.05)
    assert all(loss.dtype == torch.float32 for loss in output.losses.values())
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_host_does_not_wait_for_a_card(config: VecoConfig, wide: VecoConfig) -> None:
    teacher = teacher_of(wide)
    model = student_of(config, EVERYTHING, teacher).float()
    teacher.to(torch.device("cpu"), torch.float32)
    batch = batch_of_views("x", "y")
    expected = {name: loss.item() for name, loss in model(**batch).losses.items()}
    with pretend_card() as card:
        model.to(DEVICE)
        teacher.to(torch.device(DEVICE), torch.float32)
        on_card = {name: value.to(DEVICE) for name, value in batch.items()}
        card.clear()
        output = model(**on_card)
        output.loss.backward()
        assert card.waits.total() == 0, dict(card.waits)
        found = {name: loss.item() for name, loss in output.losses.items()}
    assert found == pytest.approx(expected, rel=1e-4)
