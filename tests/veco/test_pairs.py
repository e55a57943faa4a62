import pytest
import torch

from veco import VecoConfig, VecoModel
from veco.pairs import encode_pair, stack_pair, swap_pair


def test_shorter_side_is_padded() -> None:
    x, y = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[7], [8]])
    stacked = stack_pair(x, y, filler=-100)
    assert stacked.tolist() == [[1, 2, 3], [4, 5, 6], [7, -100, -100], [8, -100, -100]]
    assert swap_pair(stacked).tolist() == [[7, -100, -100], [8, -100, -100], [1, 2, 3], [4, 5, 6]]
    assert stack_pair(y, x, filler=0).tolist() == [[7, 0, 0], [8, 0, 0], [1, 2, 3], [4, 5, 6]]


def test_unequal_numbers_of_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match="one paired sequence for each sequence, found 1 for 2"):
        stack_pair(torch.zeros(2, 3), torch.zeros(1, 3), filler=0)


@pytest.mark.parametrize("stop_gradient", [False, True])
def test_loss_of_s_reaches_the_other_h_unless_stopped(config: VecoConfig, stop_gradient: bool) -> None:
    model = VecoModel(config)
    x_over_y = torch.tensor([[0, 5, 6, 2], [0, 7, 8, 2]])
    h, s = encode_pair(model, x_over_y, torch.ones(2, 4), stop_gradient, output_hidden_states=True)
    assert len(h.hidden_states) == len(s.hidden_states) == config.num_hidden_layers + 1
    gradient = torch.autograd.grad(s.last_hidden_state[0].square().sum(), h.last_hidden_state, allow_unused=True)[0]
    if stop_gradient:
        assert gradient is None
    else:
        assert gradient[1].abs().sum() > 0 and gradient[0].abs().sum() == 0
