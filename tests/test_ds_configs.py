"""DeepSpeed accepts every file of ds_configs/ on two ranks, and all of its checkpoint can be read.

The oracles: the weights of the live engine, and DeepSpeed's own consolidation where it can read its checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
from launching import start_ranks

from training.checkpoints.zero_shards import checkpoint_weights
from training.recipe.ds_config import DS_CONFIGS, read_ds_config

SHIPPED = sorted(path.name for path in DS_CONFIGS.glob("*.json"))
OFFLOADING = [name for name in SHIPPED if "offload" in name]
TRIED = [name for name in SHIPPED if name not in OFFLOADING]
FROZEN = ["zero1_bf16.json+frozen", "zero3_bf16.json+frozen"]
TIED = "lm_head.decoder.weight"
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("name", SHIPPED)
def test_name_matches_stage_and_precision(name: str) -> None:
    config = read_ds_config(name)
    stage, precision = config["zero_optimization"]["stage"], next(iter(PRECISIONS.keys() & config.keys()), "fp32")
    if match := re.match(r"zero(\d)", name):
        assert stage == int(match[1])
    named = next((word for word in ("bf16", "fp16", "fp32") if word in name), None)
    assert named in (precision, None)
    # Gradients over accumulation steps and ranks must not be summed in 16 bits.
    assert precision == "fp32" or config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert ("offload_optimizer" in config["zero_optimization"]) == ("offload" in name)


def trained(configs: list[str], output: Path) -> Path:
    for result in start_ranks(2, "tests/helpers/train_with_ds_configs.py", str(output), *configs):
        assert result.returncode == 0, result.stderr[-3000:]
    return output


def check(output: Path, config: str) -> None:
    """Compare a checkpoint's consolidated weights with the oracles."""
    directory = output / config
    if (directory / "refused.txt").exists():
        reason = (directory / "refused.txt").read_text(encoding="utf-8")
        assert "not supported on your device" in reason
        pytest.skip(reason)
    live = torch.load(directory / "weights.pt", weights_only=True)
    stored = {name: tensor.read() for name, tensor in checkpoint_weights(directory / "step-1").items()}
    assert stored.keys() == live.keys() - {TIED}
    for name, weight in stored.items():
        torch.testing.assert_close(weight.to(live[name].dtype), live[name], rtol=0, atol=0, msg=name)
    expected = "zero1_bf16" not in config and read_ds_config(config.partition("+")[0])["zero_optimization"]["stage"]
    if expected:  # DeepSpeed's script cannot read bf16 under stage 1, nor stage 0
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reference = get_fp32_state_dict_from_zero_checkpoint(str(directory), tag="step-1")
        for name, weight in stored.items():
            assert torch.equal(weight, reference[name]), name


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained([*TRIED, *FROZEN], tmp_path_factory.mktemp("ds_configs"))


@pytest.mark.parametrize("config", [*TRIED, *FROZEN])
def test_deepspeed_accepts_it_and_its_checkpoint_can_be_read(checkpoints: Path, config: str) -> None:
    check(checkpoints, config)


@pytest.mark.parametrize("config", [*TRIED, *FROZEN])
def test_an_engine_gives_its_memory_back(checkpoints: Path, config: str) -> None:
    """A run may build one after the other. DeepSpeed's own `destroy` keeps weights, gradients and moments, 18 bytes a
    parameter in 16 bits; at most those of a bfloat16 copy are allowed."""
    if (checkpoints / config / "refused.txt").exists():
        pytest.skip((checkpoints / config / "refused.txt").read_text(encoding="utf-8"))
    weights = torch.load(checkpoints / config / "weights.pt", weights_only=True)
    assert int((checkpoints / config / "left.txt").read_text()) <= 2 * sum(map(torch.numel, weights.values()))


@pytest.mark.slow
@pytest.mark.parametrize("config", OFFLOADING)
def test_offloading(tmp_path: Path, config: str) -> None:
    """Slow, because DeepSpeed compiles its CPU Adam the first time."""
    check(trained([config], tmp_path), config)
