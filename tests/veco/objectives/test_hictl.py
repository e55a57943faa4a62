"""Both contrasts of HICTL against plain loops of their formulas, in a model, and what they lower."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.hictl import Bags, interpolation, sentence_losses, word_losses

SEPARATOR = 2


def cosine(a: Tensor, b: Tensor) -> float:
    return torch.cosine_similarity(a, b, dim=0).item()


def plain_direction(x: Tensor, y: Tensor, temperature: float, zeta: float) -> list[float]:
    rows = range(len(x))
    exps = [[math.exp(cosine(x[i], y[j]) / temperature) for j in rows] for i in rows]
    p = sum(exps[i][i] / sum(exps[i]) for i in rows) / len(x)
    losses = []
    for i in rows:
        outside = 0.0
        near = float((x[i] - y[i]).norm())
        for j in rows:
            far = float((x[i] - y[j]).norm())
            negative = x[i] + (near / far) ** (zeta * p) * (y[j] - x[i]) if far > near else y[j]
            outside += 0.0 if i == j else math.exp(cosine(x[i], negative) / temperature)
        losses.append(-math.log(exps[i][i] / (exps[i][i] + outside)))
    return losses


@pytest.mark.parametrize(("temperature", "zeta"), [(1.0, 0.9), (0.2, 3.0), (0.5, 0.0)])
def test_sentence_loss_is_that_of_a_plain_loop(temperature: float, zeta: float) -> None:
    torch.manual_seed(1)
    x = torch.randn(5, 4, dtype=torch.float64)
    y = x + 0.7 * torch.randn(5, 4, dtype=torch.float64)
    both = (plain_direction(x, y, temperature, zeta), plain_direction(y, x, temperature, zeta))
    expected = torch.tensor([sum(losses) / 2 for losses in zip(*both, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(sentence_losses(x, y, temperature, zeta)[0], expected, rtol=1e-6, atol=1e-6)


def test_gradient_of_sentence_loss_takes_the_shares_as_constants() -> None:
    torch.manual_seed(2)
    x, y = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: sentence_losses(a, b, 0.5, 0.0)[0], (x, y))  # all shares are 1
    gradient = torch.autograd.grad(sentence_losses(x, y, 0.5, 0.9)[0].sum(), x)[0]
    fixed = {}
    for name, (a, b) in {"x": (x, y), "y": (y, x)}.items():
        fixed[name] = interpolation((a @ b.t()).detach(), *(v.detach().square().sum(1) for v in (a, b)), 0.5, 0.9)
    losses = []
    for name, (a, b) in {"x": (x, y), "y": (y, x)}.items():
        points = a.unsqueeze(1) + fixed[name].unsqueeze(2) * (b - a.unsqueeze(1))
        cosines = torch.cosine_similarity(a.unsqueeze(1), points, dim=2) / 0.5
        losses.append(-cosines.log_softmax(1).diagonal().sum() / 2)
    torch.testing.assert_close(gradient, torch.autograd.grad(sum(losses), x)[0], rtol=1e-6, atol=1e-8)
    assert 0 < fixed["x"].min() < 1


IDS = torch.tensor([0, 7, 8, 7, 2, 2, 9, 2, 0, 9, 10, 2, 2, 11, 12, 2])
ROWS = torch.tensor([0] * 8 + [1] * 8)


@pytest.mark.parametrize("negatives", [1, 2, 64])
def test_word_loss_is_that_of_a_plain_loop(negatives: int, config: VecoConfig) -> None:
    torch.manual_seed(3)
    q = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    table = torch.randn(13, 4, dtype=torch.float64, requires_grad=True)
    bags = Bags.of(IDS, ROWS, 2, config)
    values, is_right = word_losses(q, table[IDS], bags, negatives, 0.5)
    pieces = [{7, 8, 9}, {9, 10, 11, 12}]
    for row in range(2):
        exps = {piece: math.exp(cosine(q[row], table[piece]) / 0.5) for piece in set.union(*pieces)}
        others = sorted((exps[piece] for piece in exps.keys() - pieces[row]), reverse=True)[:negatives]
        losses = [-math.log(exps[piece] / (exps[piece] + sum(others))) for piece in pieces[row]]
        assert values[row].item() == pytest.approx(sum(losses) / len(losses), abs=1e-6)
        assert is_right[row] == (max(exps[piece] for piece in pieces[row]) > others[0])
    assert torch.autograd.gradcheck(lambda a, b: word_losses(a, b[IDS], bags, negatives, 0.5)[0], (q, table))


def batch(config: VecoConfig, num_rows: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x, y = (torch.randint(4, config.vocab_size - 1, (num_rows, length), generator=generator) for length in (6, 5))
    for ids in (x, y):
        ids[:, 0], ids[:, -1] = 0, SEPARATOR
    both = torch.cat([x, torch.full((num_rows, 1), SEPARATOR), y[:, 1:]], 1)
    found = {}
    for view, ids in (("clean_x", x), ("clean_y", y), ("clean_pair", both)):
        found |= {f"{view}_input_ids": ids, f"{view}_attention_mask": torch.ones_like(ids)}
        found[f"{view}_labels"] = torch.full_like(ids, -100)
    return found


def test_vectors_are_those_of_the_model(config: VecoConfig) -> None:
    torch.manual_seed(5)
    model = VecoForPreTraining(config, "hictl(layer=2, word_weight=0.5, negatives=3)").eval()
    views = batch(config)
    output = model(**views)
    x, y = (
        model.veco(views[f"clean_{side}_input_ids"], output_hidden_states=True).hidden_states[2][:, 0] for side in "xy"
    )
    torch.testing.assert_close(output.losses["hictl_sentences"], sentence_losses(x, y, 1.0, 0.9)[0].mean())
    ids = views["clean_pair_input_ids"]
    q = model.veco(ids).last_hidden_state[:, 0]
    rows = torch.arange(len(ids)).repeat_interleave(ids.shape[1])
    embedded = model.veco.embeddings.word_embeddings(ids.flatten())
    expected, _ = word_losses(q, embedded, Bags.of(ids.flatten(), rows, len(ids), config), 3, 1.0)
    torch.testing.assert_close(output.losses["hictl_words"], 0.5 * expected.mean())


def test_it_lowers_its_losses(config: VecoConfig) -> None:
    torch.manual_seed(6)
    model = VecoForPreTraining(config, "hictl(temperature=0.2, word_temperature=0.2)")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        output = model(**batch(config))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append([output.losses[name].item() for name in ("hictl_sentences", "hictl_words")])
    # The negatives stay on the way to the translation, so the loss of sentences has a bound far above 0.
    assert losses[-1][0] < 0.85 * losses[0][0] and losses[-1][1] < 0.9 * losses[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("temperature=0", "hictl: temperature 0.0 must be above 0"),
        ("zeta=-1", "hictl: zeta -1.0 must not be negative"),
        ("negatives=0", "hictl: negatives 0 must be at least 1"),
        ("pooling=max", "hictl: pooling 'max' must be one of mean, cls"),
    ],
)
def test_bad_options_are_named(options: str, message: str, config: VecoConfig) -> None:
    with pytest.raises(ValueError, match=message):
        VecoForPreTraining(config, f"hictl({options})")
