"""The loss against numbers worked by hand, torch's own smoothing, and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import finetune.mt.losses as losses
from finetune.mt.losses import label_smoothed_cross_entropy


def test_numbers_worked_by_hand() -> None:
    # Softmax of log(1), log(2), log(5) is 1/8, 2/8, 5/8. Gold 2, smoothing 0.2: target 0.1, 0.1, 0.8.
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log()
    loss, nll, count = label_smoothed_cross_entropy(logits, torch.tensor([2]), 0.2)
    assert nll.item() == pytest.approx(math.log(8 / 5), abs=1e-6)
    assert loss.item() == pytest.approx(0.1 * math.log(8) + 0.1 * math.log(4) + 0.8 * math.log(8 / 5), abs=1e-6)
    assert count.item() == 1
    # A uniform model pays log V whatever the smoothing: the target distribution sums to one.
    loss, nll, _ = label_smoothed_cross_entropy(torch.zeros(4, 7), torch.tensor([0, 1, 2, 3]), 0.3)
    assert loss.item() == pytest.approx(4 * math.log(7), abs=1e-5)
    assert nll.item() == pytest.approx(4 * math.log(7), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    smoothing=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
    num_classes=st.integers(2, 40),
    batch=st.integers(1, 4),
    length=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_relation_to_torch(smoothing: float, num_classes: int, batch: int, length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, length, num_classes, generator=generator, dtype=torch.float64).mul(3)
    labels = torch.randint(0, num_classes, (batch, length), generator=generator)
    labels[torch.rand(batch, length, generator=generator) < 0.3] = -100
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, nll, count = label_smoothed_cross_entropy(ours, labels, smoothing)
    # torch spreads e' / V over all classes, fairseq e / (V - 1) over the others: e' = e V / (V - 1).
    equivalent = min(1.0, smoothing * num_classes / (num_classes - 1))
    expected = torch.nn.functional.cross_entropy(
        theirs.flatten(0, 1), labels.flatten(), label_smoothing=equivalent, reduction="sum"
    )
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, plain)
    assert count.item() == int((labels != -100).sum())
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradient_by_finite_differences_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_NUMBERS", 10)  # two rows of five classes a chunk: 7 rows make 3 chunks
    logits = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.tensor([0, 1, -100, 3, 4, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda z: label_smoothed_cross_entropy(z, labels, 0.2)[0], (logits,))
    whole = label_smoothed_cross_entropy(logits, labels, 0.2)[0].item()
    monkeypatch.undo()
    assert label_smoothed_cross_entropy(logits, labels, 0.2)[0].item() == pytest.approx(whole, rel=1e-12)


def test_ignored_rows_give_nothing_even_if_infinite() -> None:
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    logits[1] = math.inf
    logits.requires_grad_()
    loss, nll, count = label_smoothed_cross_entropy(logits, torch.tensor([1, -100, 5]), 0.1)
    loss.backward()
    assert math.isfinite(loss.item()) and math.isfinite(nll.item()) and count.item() == 2
    assert logits.grad is not None
    assert torch.equal(logits.grad[1], torch.zeros(6))
    assert not nll.requires_grad


def test_bfloat16_logits_give_float32_sums() -> None:
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(3)).bfloat16().requires_grad_()
    labels = torch.arange(200) % 50
    loss, nll, _ = label_smoothed_cross_entropy(logits, labels, 0.2)
    exact, exact_nll, _ = label_smoothed_cross_entropy(logits.detach().double(), labels, 0.2)
    assert loss.dtype is torch.float32 and nll.dtype is torch.float32
    # The sum itself is in float32: only float32's rounding separates the two, not bfloat16's 8 bits.
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    assert nll.item() == pytest.approx(exact_nll.item(), rel=1e-5)
    loss.backward()
    assert logits.grad is not None and logits.grad.dtype is torch.bfloat16


def test_no_predicted_position() -> None:
    logits = torch.randn(2, 4, requires_grad=True)
    loss, nll, count = label_smoothed_cross_entropy(logits, torch.tensor([-100, -100]), 0.1)
    loss.backward()
    assert (loss.item(), nll.item(), count.item()) == (0.0, 0.0, 0)
    assert logits.grad is not None and not logits.grad.any()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 5\)"):
        label_smoothed_cross_entropy(torch.zeros(2, 5), torch.zeros(3, dtype=torch.long), 0.1)
    with pytest.raises(ValueError, match=r"\[0, 1\), found 1"):
        label_smoothed_cross_entropy(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long), 1.0)
    with pytest.raises(ValueError, match="two classes"):
        label_smoothed_cross_entropy(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), 0.1)
