"""The momentum encoder follows, its queue turns, and both are saved and loaded to the bit."""

from __future__ import annotations

import pytest
import torch

from veco import VecoConfig, VecoModel
from veco.objectives.shared.momentum import Momentum, MomentumModule


def begun(config: VecoConfig, queue: int = 5, projects: bool = True) -> tuple[VecoModel, MomentumModule, Momentum]:
    torch.manual_seed(1)
    model = VecoModel(config)
    module = MomentumModule(config, 2, queue, 0.9, projects)
    return model, module, module.begin(model)


def test_it_is_a_copy_in_float32_that_keeps_its_share(config: VecoConfig) -> None:
    model, module, momentum = begun(config)
    assert len(momentum.encoder.layers) == 2 and not [name for name in momentum.encoder.state_dict() if "cross" in name]
    before = {name: weight.clone() for name, weight in momentum.encoder.named_parameters()}
    for name, weight in before.items():
        assert torch.equal(weight, model.state_dict()[name])
    matrix = momentum.projection_DD.clone()
    for name in module.state_dict():
        assert name == "projection.weight", "neither copy nor queue is among the weights"
    model, module = model.bfloat16(), module.bfloat16()
    with torch.no_grad():
        for weight in (*model.parameters(), *module.parameters()):
            weight += 1
    module.after_update(model)
    for name, weight in momentum.encoder.named_parameters():
        expected = 0.9 * before[name].double() + 0.1 * model.state_dict()[name].double()
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight.double(), expected, rtol=1e-6, atol=1e-6)
    expected = 0.9 * matrix + 0.1 * module.projection.weight.float()
    torch.testing.assert_close(momentum.projection_DD, expected)


def test_queue_turns(config: VecoConfig) -> None:
    _, _, momentum = begun(config)
    added = torch.arange(14.0).unsqueeze(1).expand(14, config.hidden_size)
    for rows in (added[:3], added[3:7], added[7:14]):
        momentum.enqueue(rows)
        seen = int(rows[-1, 0]) + 1
        assert sorted(momentum.queue_QD[:, 0].tolist())[-min(seen, 5) :] == list(
            map(float, range(max(0, seen - 5), seen))
        )
    oldest = momentum.queue_QD[momentum.oldest, 0]
    assert oldest == 9, "which is replaced next"


def test_it_goes_on_from_its_tensors(config: VecoConfig) -> None:
    model, _, momentum = begun(config)
    momentum.enqueue(torch.randn(3, config.hidden_size))
    with torch.no_grad():
        for weight in momentum.encoder.parameters():
            weight += 0.5
    other = Momentum.of(model, torch.nn.Linear(config.hidden_size, config.hidden_size), 2, 5)
    other.load({name: tensor.clone() for name, tensor in momentum.tensors().items()})
    assert other.oldest == 3
    ours, theirs = momentum.tensors(), other.tensors()
    assert ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize(("queue", "projects", "name"), [(7, True, "queue"), (5, False, "projection")])
def test_tensors_of_other_options_are_refused(config: VecoConfig, queue: int, projects: bool, name: str) -> None:
    _, _, momentum = begun(config)
    _, _, other = begun(config, queue, projects)
    with pytest.raises(ValueError, match=f"the momentum encoder's {name} has shape"):
        other.load(momentum.tensors())
