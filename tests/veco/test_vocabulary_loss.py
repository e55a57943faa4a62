"""The oracle is torch's linear and cross_entropy, and for smoothed labels also numbers computed by hand."""

import math

import pytest
import torch
from products import Products
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from veco import VecoForMaskedLM, vocabulary_loss
from veco.vocabulary_loss import NEVER, VocabularyProjection


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_loss, "CHUNK_POSITIONS", 4)
    monkeypatch.setattr(vocabulary_loss, "BLOCK_LOGITS", 2 * 50)


def gradients(layer: VocabularyProjection, states: torch.Tensor, losses: torch.Tensor) -> list[torch.Tensor]:
    """Of states, weight and bias, for losses that count differently."""
    weighted = losses * torch.linspace(0.5, 2.0, len(losses))
    return list(torch.autograd.grad(weighted.sum(), [states, layer.weight, layer.bias]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("num_positions", [0, 1, 4, 11])
def test_losses_and_gradients_equal_torchs(num_positions: int, smoothing: float, small_chunks) -> None:
    torch.manual_seed(0)
    layer = VocabularyProjection(8, 50)
    states = (3 * torch.randn(num_positions, 8)).requires_grad_()
    targets = torch.randint(0, 50, (num_positions,))
    # torch spreads e' / V over all pieces, fairseq e / (V - 1) over the others: e' = e V / (V - 1).
    expected = cross_entropy(layer(states), targets, reduction="none", label_smoothing=smoothing * 50 / 49)
    losses, is_right = layer(states, targets, smoothing)
    torch.testing.assert_close(losses, expected)
    assert torch.equal(is_right, layer(states).argmax(1) == targets)
    for ours, theirs in zip(gradients(layer, states, losses), gradients(layer, states, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_positions", [0, 1, 11])
def test_most_probable_pieces_are_those_of_all_logits(num_positions: int, small_chunks) -> None:
    torch.manual_seed(0)
    layer = VocabularyProjection(8, 50)
    states = torch.randn(num_positions, 8)
    with Products() as products:
        found = layer(states, only_best=True)
    assert found.dtype == torch.int64 and torch.equal(found, layer(states).argmax(1))
    assert products.count == max(1, math.ceil(num_positions / 4))  # a chunk's logits at a time


def test_smoothed_losses_equal_numbers_computed_by_hand() -> None:
    layer = VocabularyProjection(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))  # the states are the logits
        layer.bias.zero_()
    # The softmax of log(1), log(2), log(5) is 1/8, 2/8, 5/8. Target 2, smoothing 0.2: wanted are 0.1, 0.1, 0.8.
    states = torch.tensor([[1.0, 2.0, 5.0]]).log()
    loss, _ = layer(states, torch.tensor([2]), 0.2)
    assert loss.item() == pytest.approx(0.1 * math.log(8) + 0.1 * math.log(4) + 0.8 * math.log(8 / 5), abs=1e-6)
    assert layer(states, torch.tensor([2]), 0.0)[0].item() == pytest.approx(math.log(8 / 5), abs=1e-6)
    # A uniform model's loss is log V with any smoothing: the target distribution sums to one.
    losses, _ = layer(torch.zeros(3, 3), torch.tensor([0, 1, 2]), 0.3)
    torch.testing.assert_close(losses, torch.full((3,), math.log(3)))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_pieces_that_are_never_predicted_change_nothing(smoothing: float, small_chunks) -> None:
    """Losses and gradients are those of a projection without these rows."""
    torch.manual_seed(1)
    layer, fewer = VocabularyProjection(8, 50), VocabularyProjection(8, 47)
    kept = [*range(20), *range(21, 40), *range(42, 50)]
    with torch.no_grad():
        layer.bias[[20, 40, 41]] = NEVER
        fewer.weight.copy_(layer.weight[kept])
        fewer.bias.copy_(layer.bias[kept])
    states = torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(0, 47, (11,))
    losses, is_right = layer(states, torch.tensor(kept)[targets], smoothing)
    expected, also_right = fewer(states, targets, smoothing)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(is_right, also_right)
    (states_grad, *rows), (states_expected, *rows_expected) = (
        gradients(layer, states, losses),
        gradients(fewer, states, expected),
    )
    torch.testing.assert_close(states_grad, states_expected, rtol=1e-5, atol=1e-6)
    for grad, wanted in zip(rows, rows_expected, strict=True):
        torch.testing.assert_close(grad[kept], wanted, rtol=1e-5, atol=1e-6)
        assert (grad[[20, 40, 41]] == 0).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_its_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"\[0, 1\), found {smoothing}"):
        VocabularyProjection(3, 7)(torch.zeros(1, 3), torch.tensor([0]), smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient_is_right_by_finite_differences(smoothing: float, small_chunks) -> None:
    torch.manual_seed(1)
    layer = VocabularyProjection(3, 7).double()
    states, targets = torch.randn(5, 3, dtype=torch.double, requires_grad=True), torch.randint(0, 7, (5,))
    # Losses are float32 by contract, so the steps are large.
    assert torch.autograd.gradcheck(lambda x: layer(x, targets, smoothing)[0].double(), (states,), eps=1e-2, atol=1e-3)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_within_its_rounding(autocast: bool, small_chunks) -> None:
    torch.manual_seed(2)
    layer = VocabularyProjection(16, 50)
    states, targets = torch.randn(9, 16), torch.randint(0, 50, (9,))
    losses, _ = layer(states.requires_grad_(), targets)
    exact = [*gradients(layer, states, losses), losses]
    layer = layer if autocast else layer.bfloat16()
    states = states.detach().to(layer.weight.dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses, _ = layer(states, targets)
    assert losses.dtype == torch.float32
    for ours, theirs in zip([*gradients(layer, states, losses), losses], exact, strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("is_trained", "products"), [(True, 3), (False, 2)])
def test_backward_pass_has_no_product_for_a_frozen_weight(small_chunks, is_trained: bool, products: int) -> None:
    """The logits again, then the gradients of states and weight."""
    layer = VocabularyProjection(8, 50).requires_grad_(is_trained)
    states, targets = torch.randn(9, 8, requires_grad=True), torch.randint(50, (9,))
    losses, _ = layer(states, targets)
    with Products() as seen:
        losses.sum().backward()
    assert seen.count == products * 3, "of each chunk"


def test_logits_never_exceed_a_chunk(small_chunks) -> None:
    layer = VocabularyProjection(3, 50)
    states, targets = torch.randn(10, 3), torch.randint(0, 50, (10,))
    with LargestTensor(columns=50) as forward:
        losses, _ = layer(states, targets)
    with LargestTensor(columns=50) as backward:
        losses.sum().backward()
    assert (forward.rows, backward.rows) == (4, 4)


class LargestTensor(TorchDispatchMode):
    """The largest number of rows of any tensor with that many columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.rows = columns, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor) and result.dim() == 2 and result.shape[1] == self.columns:
            self.rows = max(self.rows, len(result))
        return result


def test_resized_head_still_gives_cross_entropies(config) -> None:
    model = VecoForMaskedLM(config)
    model.resize_token_embeddings(70, mean_resizing=False)
    states, targets = torch.randn(5, 32), torch.tensor([0, 9, 69, 60, 3])
    expected = cross_entropy(model.lm_head(states), targets, reduction="none")
    assert model.lm_head(states).shape == (5, 70)
    torch.testing.assert_close(model.lm_head(states, targets)[0], expected)
    assert model.lm_head.decoder.weight is model.veco.embeddings.word_embeddings.weight
