import pytest
import torch

from veco.dropout import Dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.3])
def test_share_scale_and_gradient(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((301, 999), 2.0, dtype=dtype, requires_grad=True)
    y = dropout(x, p)
    kept = y.ne(0)
    # Six standard deviations of a share of 300,699 draws.
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=6 * (p * (1 - p) / x.numel()) ** 0.5)
    assert y[kept].float().unique().tolist() == pytest.approx(
        [2 / (1 - p)], rel=1e-2 if dtype == torch.bfloat16 else 1e-4
    )
    y.float().sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / 2)


def test_elements_are_drawn_independently() -> None:
    """Each pair of the four elements that share a 64-bit number is dropped together as often as by chance."""
    torch.manual_seed(1)
    dropped = dropout(torch.ones(250_000, 4), 0.2).eq(0).float()
    together = dropped.T @ dropped / len(dropped)
    torch.testing.assert_close(together.fill_diagonal_(0.04), torch.full((4, 4), 0.04), rtol=0, atol=3e-3)


def test_seed_decides_and_masks_differ() -> None:
    x = torch.ones(64, 64)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(second, first)


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_nothing_is_dropped_without_probability(p: float) -> None:
    x = torch.randn(3, 5)
    assert torch.equal(dropout(x, p), x)


def test_all_is_dropped_with_certainty() -> None:
    assert not dropout(torch.ones(3, 5), 1.0).any()


def test_module_drops_in_training_only() -> None:
    module, x = Dropout(0.5), torch.ones(20, 20)
    assert module(x).eq(0).any()
    assert torch.equal(module.eval()(x), x)
