"""SDPA over each sequence alone is the oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from veco import attention
from veco.attention import MultiHeadAttention, PackedMask, eager_attention, pack, pad_packed

HEADS, HEAD_SIZE = 3, 4
LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8)


def packed_inputs(lengths: list[tuple[int, int]]) -> list[Tensor]:
    """Queries, keys and values of all sequences."""
    num_queries, num_keys = map(sum, zip(*lengths, strict=True))
    return [torch.randn(n, HEADS, HEAD_SIZE, requires_grad=True) for n in (num_queries, num_keys, num_keys)]


def one_by_one(inputs: list[Tensor], lengths: list[tuple[int, int]]) -> Tensor:
    queries, keys = map(list, zip(*lengths, strict=True))
    parts = zip(*(x.split(sizes) for x, sizes in zip(inputs, (queries, keys, keys), strict=True)), strict=True)
    return torch.cat(
        [scaled_dot_product_attention(*(x.transpose(0, 1) for x in part)).transpose(0, 1) for part in parts]
    )


@pytest.mark.parametrize("limit", [0, 30, 100, 10**9])
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 1000))
def test_packed_attention_is_attention_of_each_sequence(limit: int, lengths: list[tuple[int, int]], seed: int) -> None:
    """In all kinds of blocks: single sequences, a few padded together, all at once (as on accelerators)."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_PAIRS", limit)
        mask = PackedMask(*map(list, zip(*lengths, strict=True)))
        inputs = packed_inputs(lengths)
        context, expected = mask.attend(*inputs, 0.0), one_by_one(inputs, lengths)
        torch.testing.assert_close(context, expected)
        upstream = torch.randn_like(context)
        ours, theirs = (torch.autograd.grad(x, inputs, upstream) for x in (context, expected))
        for our_gradient, their_gradient in zip(ours, theirs, strict=True):
            torch.testing.assert_close(our_gradient, their_gradient)
        assert [length for block in mask.blocks for length in block.query_lengths] == list(mask.query_lengths)
        assert [length for block in mask.blocks for length in block.key_lengths] == list(mask.key_lengths)


def test_blocks_are_small_or_single() -> None:
    mask = PackedMask([64] * 5 + [10, 12, 9, 200, 300], [64] * 5 + [11, 12, 9, 200, 2])
    assert [list(block.query_lengths) for block in mask.blocks] == [[64] * 4, [64, 10, 12, 9], [200], [300]]


def test_sequence_without_keys_attends_to_nothing() -> None:
    """A row whose mask is all zeros has no tokens."""
    query, key = torch.randn(3, HEADS, HEAD_SIZE), torch.randn(2, HEADS, HEAD_SIZE)
    context = PackedMask([2, 1], [0, 2]).attend(query, key, key, 0.0)
    assert not context[:2].any()
    torch.testing.assert_close(context[2:], one_by_one([query[2:], key, key], [(1, 2)]))


def test_varlen_kernel_gets_arguments_for_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's kernel runs on CUDA only: here a stand-in computes the result from its arguments."""
    lengths = [(3, 2), (1, 5), (4, 4)]
    inputs = packed_inputs(lengths)

    def stand_in(query: Tensor, key: Tensor, value: Tensor, query_starts: Tensor, key_starts: Tensor, *longest: int):
        assert longest == (4, 5)
        assert query_starts.dtype == key_starts.dtype == torch.int32
        told = zip(query_starts.diff().tolist(), key_starts.diff().tolist(), strict=True)
        return one_by_one([query, key, value], list(told))

    monkeypatch.setattr(attention.varlen, "varlen_attn", stand_in)
    monkeypatch.setattr(attention, "_varlen_applies", lambda query, dropout_p: dropout_p == 0)
    mask = PackedMask([3, 1, 4], [2, 5, 4])
    torch.testing.assert_close(mask.attend(*inputs, 0.0), one_by_one(inputs, lengths))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("varlen_applies", [True, False])
def test_cuda_path_equals_cpu_path(varlen_applies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not varlen_applies:
        monkeypatch.setattr(attention, "_varlen_applies", lambda query, dropout_p: False)
    torch.manual_seed(0)
    mask = PackedMask([30, 7, 128], [12, 128, 64])
    inputs = [torch.randn(n, 12, 64) for n in (165, 204, 204)]
    on_device = [x.to("cuda", torch.bfloat16).requires_grad_() for x in inputs]
    context = mask.attend(*on_device, 0.0)
    expected = mask.attend(*(x.requires_grad_() for x in inputs), 0.0)
    torch.testing.assert_close(context.float().cpu(), expected, rtol=0.05, atol=0.05)
    ours, theirs = (torch.autograd.grad(x.sum(), i) for x, i in ((context, on_device), (expected, inputs)))
    for our_gradient, their_gradient in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_gradient.float().cpu(), their_gradient, rtol=0.05, atol=0.05)


def test_packing_and_padding_undo_each_other() -> None:
    is_token = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    x = torch.arange(9.0).view(3, 3, 1).requires_grad_()
    packed = pack(x, is_token)
    assert packed.flatten().tolist() == [0, 2, 6, 7, 8]
    padded = pad_packed(packed, is_token)
    assert padded.flatten().tolist() == [0, 0, 2, 0, 0, 0, 6, 7, 8]
    padded.square().sum().backward()
    assert x.grad.flatten().tolist() == [0, 0, 4, 0, 0, 0, 12, 14, 16]


@pytest.mark.parametrize("masked", ["nothing", "keys", "later"])
def test_eager_attention_is_sdpa(masked: str) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, HEADS, 5, HEAD_SIZE) for _ in range(3)]
    keys = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], dtype=torch.bool)[:, None, None]
    options = {"nothing": {}, "keys": {"attn_mask": keys}, "later": {"is_causal": True}}[masked]
    torch.testing.assert_close(eager_attention(*inputs, **options), scaled_dot_product_attention(*inputs, **options))


@pytest.mark.parametrize("packed", [False, True])
def test_dropout_applies_to_attention_weights(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With values that are the unit vectors, the context is the weights themselves."""
    torch.manual_seed(0)
    tokens = 6
    query, key = torch.randn(2, 1, 1, tokens, 8).requires_grad_()
    value = torch.eye(tokens).expand(1, 1, tokens, tokens)
    weights = eager_attention(query, key, value)
    if packed:
        parts = (x[0].transpose(0, 1) for x in (query, key, value))
        context = PackedMask([tokens], [tokens]).attend(*parts, 0.25).transpose(0, 1)[None]
    else:
        context = attention.attend(query, key, value, dropout_p=0.25)
    dropped = context.eq(0)
    assert 0 < dropped.sum() < dropped.numel()
    torch.testing.assert_close(context[~dropped], (weights / 0.75)[~dropped])


def test_packed_module_is_the_padded_one() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(12, HEADS, dropout=0.0, layer_idx=0)
    is_query = torch.arange(5) < torch.tensor([[5], [2]])
    is_key = torch.arange(7) < torch.tensor([[3], [7]])
    x, pair = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    expected = layer(x, pair, is_key[:, None, None])
    packed = layer(pack(x, is_query), pack(pair, is_key), PackedMask([5, 2], [3, 7]))
    torch.testing.assert_close(packed, pack(expected, is_query))
