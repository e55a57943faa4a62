from __future__ import annotations

import pytest
import torch

from veco import VecoConfig, attention, packing

VOCAB_SIZE = 60


@pytest.fixture
def config() -> VecoConfig:
    """A small shape without dropout, so that two passes agree."""
    return VecoConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=66,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # larger than XLM-R's, so that differences would show
    )


@pytest.fixture(params=[1, 64], ids=["as many rows as tokens", "whole rows"])
def rounding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Numbers of packed rows are `rounded_up` with this, in float32 too, and few of them as coarsely as many."""
    monkeypatch.setattr(packing, "SIZES_PER_OCTAVE", 1)
    for module in (packing, attention):
        monkeypatch.setattr(module, "compiles_each_shape", lambda _: request.param > 1)
    return request.param


@pytest.fixture
def padded_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (3, 12) and mask; rows of 12, 7 and 3 tokens."""
    torch.manual_seed(3)
    ids = torch.randint(4, VOCAB_SIZE - 1, (3, 12))
    for row, length in enumerate((12, 7, 3)):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = 0, 2, 1
    return ids, ids.ne(1).long()


@pytest.fixture
def pair_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (3, 9) and mask of the sequences that go with `padded_batch`; rows of 9, 5 and 8 tokens."""
    torch.manual_seed(8)
    ids = torch.randint(4, VOCAB_SIZE - 1, (3, 9))
    for row, length in enumerate((9, 5, 8)):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = 0, 2, 1
    return ids, ids.ne(1).long()
