"""torch's own counter of operations is the oracle."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pretrain.flops import forward_flops
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
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
