"""The contrast of words against a plain loop of the formula; word vectors and groups of a batch; what it lowers."""

from __future__ import annotations

import math

import pytest
import torch

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.contrast import info_nce
from veco.objectives.veco2 import LinkedWords, word_losses

GROUPS = torch.tensor(
    [[0, -100, 0, 1, 1, 0], [0, 0, -100, -100, -100, -100], [-100] * 6, [0, 0, -100, -100, -100, -100]]
)
NUM_WORDS = (6, 4, 2, 2)  # the last pair's two words have no negative


def padded_words(vectors: torch.Tensor) -> LinkedWords:
    is_word = torch.arange(6) < torch.tensor(NUM_WORDS).unsqueeze(1)
    return LinkedWords(vectors, is_word, GROUPS, torch.zeros(0))


def test_loss_is_that_of_a_plain_loop() -> None:
    torch.manual_seed(1)
    vectors = torch.randn(4, 6, 5, dtype=torch.float64, requires_grad=True)
    values, is_right = word_losses(padded_words(vectors), 0.1)
    for row, num_words in enumerate(NUM_WORDS):
        group = GROUPS[row].tolist()
        for i in range(num_words):
            similarity = [
                torch.cosine_similarity(vectors[row, i], vectors[row, j], dim=0).item() / 0.1 for j in range(num_words)
            ]
            positives = [j for j in range(num_words) if j != i and group[j] == group[i] >= 0]
            negatives = [j for j in range(num_words) if j != i and j not in positives]
            outside = sum(math.exp(similarity[n]) for n in negatives)
            losses = [-math.log(math.exp(similarity[j]) / (math.exp(similarity[j]) + outside)) for j in positives]
            assert values[row, i].item() == pytest.approx(sum(losses) / max(1, len(losses)), abs=1e-6)
            nearest = max((j for j in range(num_words) if j != i), key=similarity.__getitem__)
            assert is_right[row, i] == (nearest in positives)
    assert torch.autograd.gradcheck(lambda v: word_losses(padded_words(v), 0.1)[0], vectors)


def pairs(num_rows: int = 3) -> dict[str, torch.Tensor]:
    """Pairs of `<s> AA B . </s>` and `<s> C DD </s>`, A of two pieces and D of two; A goes with C, and B with D."""
    x_ids = torch.tensor([[0, 11, 12, 13, 5, 2], [0, 21, 22, 23, 5, 2], [0, 31, 32, 33, 5, 2]])[:num_rows]
    y_ids = torch.tensor([[0, 41, 42, 43, 2], [0, 44, 45, 46, 2], [0, 47, 48, 2, 1]])[:num_rows]
    x_words = torch.tensor([[-100, 0, 0, 1, -100, -100]] * 3)[:num_rows]
    y_words = torch.tensor([[-100, 2, 3, 3, -100], [-100, 2, 3, 3, -100], [-100, 2, 3, -100, -100]])[:num_rows]
    links = torch.tensor([[0, 11, 13, 41, 42], [0, 21, 23, 44, 45], [0, 31, 33, 47, 48]])[:num_rows]
    groups = torch.tensor([[-100, 0, 1, 0, 1], [-100, 0, -100, 0, -100], [-100] * 5])[:num_rows]
    found = {}
    for view, ids, labels in (("numbered_x", x_ids, x_words), ("numbered_y", y_ids, y_words), ("links", links, groups)):
        found |= {f"{view}_input_ids": ids, f"{view}_attention_mask": ids.ne(1).long(), f"{view}_labels": labels}
    return found


@pytest.mark.parametrize("layer", [-1, 1])
@pytest.mark.parametrize("word", ["mean", "first"])
def test_vectors_are_states_of_words(config: VecoConfig, layer: int, word: str) -> None:
    torch.manual_seed(2)
    model = VecoForPreTraining(config, f"0.5 * veco2(layer={layer}, word={word}, word_weight=0.3)").eval()
    batch = pairs()
    x, y = (
        model.veco(
            batch[f"numbered_{side}_input_ids"], batch[f"numbered_{side}_attention_mask"], output_hidden_states=True
        ).hidden_states[layer]
        for side in "xy"
    )
    is_mean = word == "mean"
    vectors = torch.stack(
        [x[:, 1:3].mean(1) if is_mean else x[:, 1], x[:, 3], y[:, 1], y[:, 2:4].mean(1) if is_mean else y[:, 2]], 1
    )
    vectors[2, 3] = y[2, 2]
    groups = batch["links_labels"][:, 1:]
    expected, is_right = word_losses(LinkedWords(vectors, torch.ones(3, 4, dtype=torch.bool), groups, groups), 0.1)
    output = model(**batch)
    torch.testing.assert_close(output.losses["veco2_words"], 0.5 * 0.3 * expected.sum() / 6)
    totals = torch.stack([expected.sum(1), torch.tensor([4.0, 2.0, 0.0]), (is_right & (groups >= 0)).sum(1).float()], 1)
    torch.testing.assert_close(output.row_totals["veco2_words"], totals)
    lengths = torch.tensor([5, 5, 4]).unsqueeze(1)
    sentences = x.mean(1), (y * batch["numbered_y_attention_mask"].unsqueeze(2)).sum(1) / lengths
    torch.testing.assert_close(output.losses["veco2_sentences"], 0.5 * info_nce(*sentences, 0.05, 0.0)[0].mean())


def test_words_without_links_cost_nothing(config: VecoConfig) -> None:
    model = VecoForPreTraining(config, "veco2")
    batch = {name: tensor[2:] for name, tensor in pairs().items()}
    loss = model(**batch).losses["veco2_words"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_it_lowers_its_losses(config: VecoConfig) -> None:
    torch.manual_seed(3)
    model = VecoForPreTraining(config, "veco2(word_temperature=0.5)")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        output = model(**pairs())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append([output.losses[name].item() for name in ("veco2_sentences", "veco2_words")])
    assert losses[-1][0] < 0.5 * losses[0][0] and losses[-1][1] < 0.5 * losses[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("temperature=0", "veco2: temperature 0.0 must be above 0"),
        ("word_weight=-1", "veco2: word_weight -1.0 must be above 0"),
        ("word=last", "veco2: word 'last' must be one of mean, first"),
        ("pooling=max", "veco2: pooling 'max' must be one of mean, cls"),
    ],
)
def test_bad_options_are_named(options: str, message: str, config: VecoConfig) -> None:
    with pytest.raises(ValueError, match=message):
        VecoForPreTraining(config, f"veco2({options})")
