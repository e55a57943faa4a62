"""Multiple choice plugged in: the sequence head for each choice with its pair, and plugged out where S is not seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from veco import VecoConfig, VecoForMultipleChoice, VecoForSequenceClassification

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "initializer_range": 0.3,
}


def model(plug_in: bool, model_class: type = VecoForMultipleChoice):
    torch.manual_seed(0)
    return model_class(VecoConfig(**TINY, plug_in=plug_in, num_labels=1)).eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Three examples of two choices, of different lengths, with pairs of other lengths."""
    torch.manual_seed(1)
    inputs = {}
    for prefix, width in (("", 7), ("pair_", 9)):
        ids = torch.randint(5, 40, (3, 2, width))
        lengths = torch.randint(3, width + 1, (3, 2, 1))
        mask = torch.arange(width) < lengths
        inputs |= {f"{prefix}input_ids": ids.masked_fill(~mask, 1), f"{prefix}attention_mask": mask.long()}
    return inputs


def test_each_choice_is_a_sequence_with_its_pair(batch: dict[str, Tensor]) -> None:
    ours, single = model(True), model(True, VecoForSequenceClassification)
    single.load_state_dict(ours.state_dict())
    labels, targets = torch.tensor([0, 1, 1]), torch.tensor([1, 0, -100])
    output = ours(**batch, labels=labels, pair_targets=targets)
    for choice in range(2):
        expected = single(**{name: tensor[:, choice] for name, tensor in batch.items()})
        torch.testing.assert_close(output.logits[:, choice], expected.logits[:, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(output.pair_logits[:, choice], expected.pair_logits[:, 0], rtol=0, atol=1e-5)
    both = torch.cat([output.logits, output.pair_logits])
    expected_loss = cross_entropy(both, torch.cat([labels, targets]), ignore_index=-100)
    torch.testing.assert_close(output.loss, expected_loss)


def test_without_what_it_sees_of_s_it_is_the_plugged_out_one(batch: dict[str, Tensor]) -> None:
    plugged_in, plugged_out = model(True), model(False)
    weights = {name: weight for name, weight in plugged_in.state_dict().items() if "cross_attention" not in name}
    width = TINY["hidden_size"]
    with torch.no_grad():
        plugged_in.classifier.dense.weight[:, width:] = 0
    weights["classifier.dense.weight"] = plugged_in.classifier.dense.weight[:, :width]
    plugged_out.load_state_dict(weights)
    output = plugged_in(**batch)
    for prefix, logits in (("", output.logits), ("pair_", output.pair_logits)):
        alone = plugged_out(batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]).logits
        torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)
        assert alone.std() > 0.01, "choices differ"


def test_pairs_of_another_shape_are_refused(batch: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"pair_input_ids have shape \(3, 1, 9\), expected \(3, 2\) first"):
        model(True)(**{**batch, "pair_input_ids": batch["pair_input_ids"][:, :1]})
    with pytest.raises(ValueError, match="found a pair, but this model is plugged out"):
        model(False)(**batch)
    with pytest.raises(ValueError, match="found no pair_input_ids, but this model is plugged in"):
        model(True)(batch["input_ids"], batch["attention_mask"])
