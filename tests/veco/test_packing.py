"""Shapes of products: in 16 bits on CPU those that come again, elsewhere those of the tokens."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from veco import VecoConfig, VecoModel
from veco.attention import PackedMask
from veco.masked_lm import VecoLMHead
from veco.packing import WHOLE_ROWS, in_whole_rows, rounded_up

PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.addmm_)


class ShapesOfProducts(TorchDispatchMode):
    """The shapes of the operands of all products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[tuple[int, ...], ...]] = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function.overloadpacket in PRODUCTS:
            self.seen.add(tuple(tuple(x.shape) for x in arguments if isinstance(x, torch.Tensor)))
        return function(*arguments, **(keywords or {}))


def shapes_of_batches(config: VecoConfig, dtype: torch.dtype, num_batches: int) -> set[tuple[tuple[int, ...], ...]]:
    """Those of training the encoder, plugged in, and the head on batches of 12 rows of drawn lengths."""
    numbers = random.Random(0)
    model = VecoModel(config).to(dtype).train()
    model.skip_padding = True
    head = VecoLMHead(config, model.embeddings).to(dtype)
    with ShapesOfProducts() as products:
        for _ in range(num_batches):
            lengths = torch.tensor([numbers.randint(20, 60) for _ in range(12)])
            mask = torch.arange(60) < lengths[:, None]
            ids = torch.where(mask, 7, config.pad_token_id)
            pair = torch.randn(*ids.shape, config.hidden_size, dtype=dtype)
            states = model(ids, mask, encoder_hidden_states=pair, encoder_attention_mask=mask).last_hidden_state
            predicted = states[mask][: numbers.randint(50, 120)]
            losses, _ = head(predicted, torch.zeros(len(predicted), dtype=torch.int64))
            losses.sum().backward()
    return products.seen


def test_shapes_of_products_come_again_in_16_bits(config: VecoConfig) -> None:
    """A kernel is made for each; in float32, where none is made, they are those of the tokens."""
    config.num_hidden_layers = 1
    found = {dtype: len(shapes_of_batches(config, dtype, 48)) for dtype in (torch.bfloat16, torch.float32)}
    assert found[torch.bfloat16] < found[torch.float32] / 2, found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "num_rows"), [((1, 3), 1), ((130, 2, 3), 144), ((513,), 576), ((0, 3), 0)])
def test_rows_behind_are_zeros(shape: tuple[int, ...], num_rows: int, dtype: torch.dtype) -> None:
    packed = torch.randn(*shape, dtype=dtype)
    filled = in_whole_rows(packed)
    assert len(filled) == num_rows
    assert filled[: len(packed)].equal(packed) and not filled[len(packed) :].any()


def test_sizes_come_again_and_are_little_larger() -> None:
    """Eight between one power of two and the next, and from eight times the most on its multiples."""
    found = [rounded_up(count, WHOLE_ROWS) for count in range(4097)]
    assert [rounded_up(count, WHOLE_ROWS) for count in (0, 1, 15, 17, 100, 250, 511, 513, 4090)] == [
        *(0, 1, 15, 18, 104, 256, 512, 576, 4096)
    ]
    assert all(count <= size < min(count * 1.125 + 1, count + WHOLE_ROWS) for count, size in enumerate(found))
    assert len(set(found)) == 1 + 15 + 5 * 8 + 1 + (4096 - 512) // WHOLE_ROWS
    assert [rounded_up(count, 8) for count in (60, 61, 130, 509)] == [60, 64, 136, 512]


def test_sequences_of_one_length_are_not_padded_for_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single one, and a block of equally long ones: copies and a mask would cost more than the kernel."""
    monkeypatch.setattr(PackedMask, "_paddings_on", None)
    for lengths in ([13], [125, 125, 125], [300, 13]):
        query = torch.randn(sum(lengths), 2, 4, dtype=torch.bfloat16)
        assert PackedMask(lengths, lengths).attend(query, query, query, 0.0).shape == query.shape


def test_rows_stay_as_they_are_where_shapes_need_no_kernel() -> None:
    packed = torch.randn(5, 3)
    assert in_whole_rows(packed) is packed
    assert in_whole_rows(packed.bfloat16().to("meta")).shape == (5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert len(in_whole_rows(torch.randn(130, 3))) == 144
