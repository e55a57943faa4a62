import pytest
import torch

from veco import VecoConfig, VecoForMaskedLM


def count_parameters(config: VecoConfig) -> int:
    with torch.device("meta"):
        model = VecoForMaskedLM(config)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("config", "millions"), [(VecoConfig.large(), 660.95), (VecoConfig.small(), 249.95)])
def test_parameter_counts_are_the_papers(config: VecoConfig, millions: float) -> None:
    # Counted by formula for 250,002 pieces and 514 positions, head included, embedding once; the paper prints 662, 247.
    assert round(count_parameters(config) / 1e6, 2) == millions


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"hidden_size 30 .* num_attention_heads 4.*num_hidden_layers 0"):
        VecoConfig(hidden_size=30, num_attention_heads=4, num_hidden_layers=0)


def test_presets_take_overrides() -> None:
    config = VecoConfig.small(vocab_size=8000)
    assert (config.vocab_size, config.num_hidden_layers, config.max_tokens) == (8000, 6, 512)
