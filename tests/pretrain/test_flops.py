"""torch's own counter of operations is the oracle."""

from __future__ import annotations

import pytest
import torch
from random_pairs import MASKING, random_samples
from teaching import shaped, student_of, teacher_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pretrain.flops import forward_flops, training_flops
from pretrain.micro_batch import SAMPLES, make_batch
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective import Objective
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.momentum import MomentumModule
from veco.packing import PackedViews, Sizes
from veco.views import views_of

CONFIG = VecoConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=66,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.1,  # so that attention is made of plain products
)


def batch_of(lengths: dict[str, int]) -> dict[str, torch.Tensor]:
    """Three rows of equal length in each part, so that nothing is padding; two tokens of each are predicted."""
    torch.manual_seed(1)
    batch = {}
    for prefix, length in lengths.items():
        ids = torch.randint(4, 59, (3, length))
        batch |= {f"{prefix}input_ids": ids, f"{prefix}attention_mask": torch.ones_like(ids)}
        batch[f"{prefix}labels"] = torch.where(torch.arange(length) < 2, ids, -100)
    return batch


def sizes_of(batch: dict[str, torch.Tensor]) -> Sizes:
    return PackedViews.of(views_of(batch), 1).sizes


@pytest.mark.parametrize("objective", ["ca_mlm", "mlm"])
@pytest.mark.parametrize("has_tlm", [True, False])
def test_forward_pass_has_so_many_operations(objective: str, has_tlm: bool) -> None:
    batch = batch_of({"": 9, "pair_": 9, **({"tlm_": 9} if has_tlm else {})})
    whole = ObjectiveSum.of(f"{objective}+tlm" if has_tlm else objective)
    model = VecoForPreTraining(CONFIG).train()
    with FlopCounterMode(display=False) as counter:
        model(**batch, objective=whole)
    assert forward_flops(CONFIG, sizes_of(batch), whole) == counter.get_total_flops()


def test_cross_attention_counts_both_lengths_and_padding_does_not() -> None:
    x, y = 7, 12
    found = forward_flops(CONFIG, sizes_of(batch_of({"": x, "pair_": y})), ObjectiveSum.of("ca_mlm"))
    d, f, layers, rows = 32, 48, 3, 3
    sweep = rows * ((x + y) * (8 * d * d + 4 * d * f) + 4 * d * (x * x + y * y))
    cross = rows * ((x + y) * 8 * d * d + 2 * 4 * d * x * y)
    head = 2 * rows * 4 * 2 * (d * d + d * 60)
    assert found == layers * (2 * sweep + cross) + head
    padded = {
        name: torch.nn.functional.pad(t, (0, 5), value=-100 if "labels" in name else 0)
        for name, t in batch_of({"": x, "pair_": y}).items()
    }
    assert forward_flops(CONFIG, sizes_of(padded), ObjectiveSum.of("ca_mlm")) == found


def test_causal_attention_is_half() -> None:
    batch = batch_of({"": 9, "pair_": 9, "next_x_": 9, "next_y_": 9})
    mlm, clm = (forward_flops(CONFIG, sizes_of(batch), ObjectiveSum.of(name)) for name in ("mlm", "clm"))
    attention = 3 * 2 * 3 * 4 * 32 * 9 * 9
    assert mlm - clm == attention / 2


def views_of_pairs(objective: str, length: int = 8) -> dict[str, object]:
    """Four pairs of sentences of one length, so that nothing is padding, in the views that an objective reads."""
    whole = ObjectiveSum.of(objective)
    name = "de-en" if "bilingual" in next(iter(whole)).kinds else "de"
    batch = make_batch(random_samples([(length, length)] * 4, name), whole.views, MASKING)
    return {name: value for name, value in batch.items() if name != SAMPLES}


def counted_forward(model: VecoForPreTraining, batch: dict[str, object]) -> int:
    # Passes without dropout take SDPA, whose kernel for CPUs the counter does not know.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**batch)
    return counter.get_total_flops()


def test_the_pass_that_writes_pseudo_tokens_counts_once() -> None:
    batch = views_of_pairs("btmlm")
    whole, sizes = ObjectiveSum.of("btmlm"), batch["packed"].sizes
    with_gradient = forward_flops(CONFIG, sizes, whole)
    alone = training_flops(CONFIG, sizes, whole) - 3 * with_gradient
    assert with_gradient + alone == counted_forward(VecoForPreTraining(CONFIG, whole).train(), batch)
    assert alone > 0


@pytest.mark.parametrize("options", ["(layer=2)", "(layer=-1)"])
def test_the_momentum_encoder_counts_once(options: str) -> None:
    """Its keys are those of two joined pairs; the products of 2 queries and 256 vectors are no part of the formula."""
    batch = views_of_pairs("xlco")
    whole, sizes = ObjectiveSum.of(f"xlco{options}"), batch["packed"].sizes
    model = VecoForPreTraining(CONFIG, whole).train()
    module = model.objective_modules["xlco"]
    assert isinstance(module, MomentumModule)
    module.begin(model.veco)
    contrasted = 2 * 2 * 256 * CONFIG.hidden_size
    with_gradient = forward_flops(CONFIG, sizes, whole)
    alone = training_flops(CONFIG, sizes, whole) - 3 * with_gradient
    assert with_gradient + alone + contrasted == counted_forward(model, batch)
    assert alone == with_gradient * (2 if "2" in options else 3) / 3


@pytest.mark.parametrize("plugged_in", [False, True])
def test_a_teacher_counts_once_and_both_project_the_vocabulary(plugged_in: bool) -> None:
    objective = f"distil(relations=0, states=1, logits=1, every_layer=true, plugged_in={plugged_in})"
    teacher = shaped(CONFIG, num_hidden_layers=5, intermediate_size=80)
    batch = views_of_pairs(objective)
    whole, sizes = ObjectiveSum.of(objective), batch["packed"].sizes
    model = student_of(CONFIG, objective, teacher_of(teacher)).train()
    with_gradient = forward_flops(CONFIG, sizes, whole)
    alone = training_flops(CONFIG, sizes, whole, teacher) - 3 * with_gradient
    assert with_gradient + alone == counted_forward(model, batch)
    of_teacher = forward_flops(teacher, sizes, whole)
    assert alone == of_teacher > with_gradient


def test_objectives_without_further_passes_train_in_three() -> None:
    sizes = sizes_of(batch_of({"": 9, "pair_": 9}))
    assert Objective().passes_without_gradient(sizes) == ()
    whole = ObjectiveSum.of("ca_mlm")
    assert training_flops(CONFIG, sizes, whole) == 3 * forward_flops(CONFIG, sizes, whole)
