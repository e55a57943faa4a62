"""SDPA over each sequence alone is the oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_device import DEVICE
from pretend_kernels import pretend_card
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from veco import attention, packing
from veco.attention import MultiHeadAttention, PackedEnds, PackedMask, TokenClasses, eager_attention
from veco.fused_attention import FusedKernel, SequenceBounds, efficient, flash, fused_kernel
from veco.packing import Padding, starts_of

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


@pytest.mark.parametrize("is_rounded", [False, True], ids=["longest", "multiples of 8"])
@pytest.mark.parametrize("limit", [0, 30, 100, 10**9])
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 1000))
def test_packed_attention_is_attention_of_each_sequence(
    limit: int, is_rounded: bool, lengths: list[tuple[int, int]], seed: int
) -> None:
    """In all kinds of blocks: single sequences, a few padded together, all at once (as on accelerators)."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_PAIRS", limit)
        patch.setattr(attention, "compiles_each_shape", lambda _: is_rounded)
        patch.setattr(packing, "SIZES_PER_OCTAVE", 1)
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


def outputs_and_gradients(mask: PackedMask, inputs: list[Tensor], device: str, dropout_p: float = 0.0) -> list[Tensor]:
    """The context of inputs on a device and, with some upstream gradient, the inputs' gradients, float32 on the CPU."""
    moved = [x.detach().to(device).requires_grad_() for x in inputs]
    context = mask.attend(*moved, dropout_p)
    upstream = torch.linspace(-1, 1, context.numel()).view(context.shape).to(context)
    return [x.detach().float().cpu() for x in (context, *torch.autograd.grad(context, moved, upstream))]


KERNELS = {"flash": (torch.bfloat16, (8, 0)), "efficient": (torch.float16, (7, 0)), "none": (torch.float32, (0, 0))}


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_accelerator_attends_as_the_cpu_does(kernel: str, is_causal: bool) -> None:
    """By each fused kernel, whose stand-in goes by its definition, and without one; ends made here or given."""
    torch.manual_seed(0)
    dtype, capability = KERNELS[kernel]
    lengths = [3, 1, 6], [3, 1, 6] if is_causal else [2, 5, 4]
    inputs = [torch.randn(sum(n), HEADS, 8, dtype=dtype) for n in (lengths[0], lengths[1], lengths[1])]
    expected = outputs_and_gradients(PackedMask(*lengths, is_causal), [x.float() for x in inputs], "cpu")
    with pretend_card(capability) as card:
        ends = PackedEnds(*(starts_of(of).to(DEVICE) for of in lengths))
        for mask in (PackedMask(*lengths, is_causal), PackedMask(*lengths, is_causal, ends)):
            card.clear()
            found = outputs_and_gradients(mask, inputs, DEVICE)
            used = [name for name in card.kernels if "attention" in name]
            assert used == (
                [] if kernel == "none" else [f"_{kernel}_attention_forward", f"_{kernel}_attention_backward"]
            )
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kernel", ["flash", "efficient"])
def test_fused_dropout_drops_weights_and_keeps_their_mean(kernel: str) -> None:
    """With values that are unit vectors the context is the weights. The gradient of the values has the same ones."""
    torch.manual_seed(0)
    dtype, capability = KERNELS[kernel]
    tokens, heads = 8, 50  # which are all the same
    query, key = torch.randn(2, tokens, 1, tokens, dtype=dtype).expand(2, tokens, heads, tokens)
    value = torch.eye(tokens, dtype=dtype).unsqueeze(1).expand_as(query)
    mask = PackedMask([tokens], [tokens])
    without = outputs_and_gradients(mask, [query, key, value], "cpu")[0]
    with pretend_card(capability):
        seen = [outputs_and_gradients(mask, [query, key, value], DEVICE, 0.25) for _ in range(10)]
    contexts = torch.stack([context for context, *_ in seen])
    assert contexts.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(contexts.mean((0, 2)), without[:, 0], rtol=0.15, atol=0.02)
    context, *_, of_value = seen[0]
    upstream = torch.linspace(-1, 1, context.numel()).view(context.shape)
    torch.testing.assert_close(of_value, torch.einsum("ths,thk->shk", context, upstream), rtol=0.03, atol=0.03)


@pytest.mark.parametrize(
    ("capability", "dtype", "head", "expected"),
    [
        ((8, 0), torch.bfloat16, 64, "flash"),
        ((9, 0), torch.float16, 64, "flash"),
        ((9, 0), torch.float32, 64, "efficient"),
        ((9, 0), torch.bfloat16, 512, "efficient"),
        ((7, 0), torch.float16, 64, "efficient"),
        ((7, 0), torch.bfloat16, 64, None),
        ((9, 0), torch.bfloat16, 20, None),
        ((0, 0), torch.bfloat16, 64, None),
    ],
)
def test_card_and_precision_choose_the_kernel(
    capability: tuple[int, int], dtype: torch.dtype, head: int, expected: str | None
) -> None:
    with pretend_card(capability):
        kernel = fused_kernel(torch.zeros(1, 1, head, dtype=dtype, device=DEVICE))
    assert (kernel and kernel.__name__) == expected


@pytest.mark.parametrize("kernel", [flash, efficient])
def test_torch_has_the_kernels_with_dropout_and_their_gradients(kernel: FusedKernel) -> None:
    """On tensors without values, which go through the operators' signatures and autograd formulas."""
    inputs = [torch.empty(n, 2, 64, dtype=torch.float16, device="meta", requires_grad=True) for n in (9, 11, 11)]
    starts = torch.empty(4, dtype=torch.int32, device="meta")
    context = kernel(*inputs, SequenceBounds(starts, starts, 5, 6), 0.1, False)
    assert context.shape == inputs[0].shape
    assert [x.shape for x in torch.autograd.grad(context.sum(), inputs)] == [x.shape for x in inputs]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("chosen", [flash, efficient, None])
def test_cuda_path_equals_cpu_path(
    chosen: FusedKernel | None, is_causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "fused_kernel", lambda query: chosen if query.is_cuda else None)
    torch.manual_seed(0)
    lengths = [30, 7, 128], [30, 7, 128] if is_causal else [12, 128, 64]
    mask = PackedMask(*lengths, is_causal)
    inputs = [torch.randn(sum(n), 12, 64) for n in (lengths[0], lengths[1], lengths[1])]
    expected = outputs_and_gradients(mask, inputs, "cpu")
    found = outputs_and_gradients(mask, [x.bfloat16() for x in inputs], "cuda")
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", [flash, efficient])
def test_cuda_dropout_drops_weights_and_keeps_their_mean(kernel: FusedKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "fused_kernel", lambda query: kernel if query.is_cuda else None)
    torch.manual_seed(0)
    tokens = 64
    inputs = [torch.randn(tokens, 1, tokens), torch.randn(tokens, 1, tokens), torch.eye(tokens).unsqueeze(1)]
    mask = PackedMask([tokens], [tokens])
    without = outputs_and_gradients(mask, inputs, "cpu")[0]
    halves = [x.bfloat16() for x in inputs]
    seen = torch.stack([outputs_and_gradients(mask, halves, "cuda", 0.25)[0] for _ in range(400)])
    assert seen.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(seen.mean(0), without, rtol=0.3, atol=0.02)


def test_packing_and_padding_undo_each_other() -> None:
    is_token = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    x = torch.arange(9.0).view(3, 3, 1).requires_grad_()
    padding = Padding.of(is_token)
    packed = padding.pack(x)
    assert packed.flatten().tolist() == [0, 2, 6, 7, 8]
    padded = padding.pad(packed)
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
    queries = Padding.of(is_query)
    packed = layer(queries.pack(x), Padding.of(is_key).pack(pair), PackedMask([5, 2], [3, 7]))
    torch.testing.assert_close(packed, queries.pack(expected))


SEEN = ((True, False, True), (False, True, False), (True, True, False))  # by class; each sees some class


def with_classes(lengths: list[int], seed: int) -> tuple[TokenClasses, Tensor]:
    """Classes of packed tokens where each class is seen by its own or others, and as a mask, boolean (N, N)."""
    classes = torch.randint(0, 3, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    for start in starts_of(lengths)[:-1]:
        classes[start : start + 2] = torch.tensor([0, 1])  # so that class 2 has something to see
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    allowed = torch.tensor(SEEN)[classes[:, None], classes[None]] & (rows[:, None] == rows[None])
    return TokenClasses(classes, SEEN), allowed


@pytest.mark.parametrize("is_rounded", [False, True], ids=["longest", "multiples of 8"])
@pytest.mark.parametrize("limit", [0, 30, 10**9], ids=["one by one", "some together", "all at once"])
@pytest.mark.parametrize("lengths", [[6, 6, 6], [5, 2, 9, 3]], ids=["equal", "unequal"])
@pytest.mark.parametrize("back_end", ["eager", "sdpa"])
def test_token_attends_to_the_classes_of_its_own(
    limit: int, lengths: list[int], back_end: str, is_rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Context and gradients are those of eager attention with one explicit mask of all tokens."""
    monkeypatch.setattr(attention, "BLOCK_PAIRS", limit)
    monkeypatch.setattr(attention, "compiles_each_shape", lambda _: is_rounded)
    monkeypatch.setattr(packing, "SIZES_PER_OCTAVE", 1)
    inputs = packed_inputs([(length, length) for length in lengths])
    classes, allowed = with_classes(lengths, seed=4)
    context = PackedMask(lengths, lengths, classes=classes).attend(*inputs, 0.0, back_end)
    expected = eager_attention(*(x.transpose(0, 1)[None] for x in inputs), allowed)[0].transpose(0, 1)
    torch.testing.assert_close(context, expected)
    upstream = torch.randn_like(context)
    for ours, theirs in zip(*(torch.autograd.grad(x, inputs, upstream) for x in (context, expected)), strict=True):
        assert ours.isfinite().all()  # padding, too, attends to something
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kernel", KERNELS)
def test_accelerator_pads_where_tokens_have_classes(kernel: str) -> None:
    """Fused kernels know no classes; with ends given, the host does not wait to find the padding or the mask."""
    dtype, capability = KERNELS[kernel]
    torch.manual_seed(5)
    lengths = [5, 2, 6]
    inputs = [torch.randn(sum(lengths), HEADS, 8, dtype=dtype) for _ in range(3)]
    classes, _ = with_classes(lengths, seed=6)
    mask = PackedMask(lengths, lengths, classes=classes)
    expected = outputs_and_gradients(mask, [x.float() for x in inputs], "cpu")
    with pretend_card(capability) as card:
        ends = PackedEnds(*(starts_of(lengths).to(DEVICE) for _ in range(2)))
        moved = [x.to(DEVICE) for x in inputs]
        on_device = classes._replace(of_tokens=classes.of_tokens.to(DEVICE))
        mask = PackedMask(lengths, lengths, ends=ends, classes=on_device)
        card.clear()
        mask.attend(*moved, 0.0)
        assert card.waits.total() == 0, dict(card.waits)
        found = outputs_and_gradients(mask, inputs, DEVICE)
        assert not [name for name in card.kernels if name.startswith(("_flash", "_efficient"))]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
