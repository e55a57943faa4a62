"""DeepSpeed's layout, cut by hand as its documentation of ZeRO says; tests/test_ds_configs.py has it from DeepSpeed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.checkpoints.zero_shards import checkpoint_weights

SHAPES = {"embedding": (7, 3), "weight": (4, 4), "bias": (5,), "scale": (1,)}


def weights() -> dict[str, torch.Tensor]:
    numbers = iter(torch.randperm(1000).float())
    return {
        name: torch.stack([next(numbers) for _ in range(math.prod(shape))]).view(shape)
        for name, shape in SHAPES.items()
    }


def cut(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    """Equal parts of the flat tensor, the last ones padded with a number that must never come out."""
    size = math.ceil(tensor.numel() / ranks)
    padded = torch.cat([tensor.flatten(), torch.full((size * ranks - tensor.numel(),), -1.0)])
    return list(padded.split(size))


def save_rank(directory: Path, rank: int, kind: str, content: dict[str, object]) -> None:
    torch.save(content, directory / f"bf16_zero_pp_rank_{rank}_mp_rank_00_{kind}.pt")


def write_stage3(directory: Path, whole: dict[str, torch.Tensor], ranks: int, frozen: set[str], group: int) -> None:
    """Flat rows in sub-groups of `group` numbers."""
    trained = {name: tensor for name, tensor in whole.items() if name not in frozen}
    for rank in range(ranks):
        row = torch.cat([cut(tensor, ranks)[rank] for tensor in trained.values()])
        state = {"partition_count": ranks, "fp32_flat_groups": list(row.split(group)), "zero_stage": 3}
        save_rank(directory, rank, "optim_states", {"optimizer_state_dict": state})
        fragments = {name: cut(whole[name], ranks)[rank] for name in frozen}
        model_state = {
            "module": {},
            "buffer_names": [],
            "param_shapes": [{name: tensor.shape for name, tensor in trained.items()}],
            "frozen_param_shapes": {name: whole[name].shape for name in frozen},
            "frozen_param_fragments": fragments,
        }
        save_rank(directory, rank, "model_states", model_state)


def write_stage2(directory: Path, whole: dict[str, torch.Tensor], ranks: int, frozen: set[str]) -> None:
    trained = {name: tensor for name, tensor in whole.items() if name not in frozen}
    row = torch.cat([tensor.flatten() for tensor in trained.values()])
    align = 2 * ranks
    row = torch.cat([row, torch.full((-row.numel() % align,), -1.0)])
    for rank, part in enumerate(row.chunk(ranks)):
        state = {"partition_count": [ranks], "single_partition_of_fp32_groups": [part]}
        save_rank(directory, rank, "optim_states", {"optimizer_state_dict": state})
    # What a phase trains is in the module, too, but rounded.
    module = {name: tensor.clone() if name in frozen else tensor + 0.5 for name, tensor in whole.items()}
    model_state = {
        "module": {**module, "tied": module["embedding"]},
        "buffer_names": [],
        "param_shapes": [{name: tensor.shape for name, tensor in trained.items()}],
    }
    torch.save(model_state, directory / "mp_rank_00_model_states.pt")


def check(directory: Path, whole: dict[str, torch.Tensor]) -> None:
    found = checkpoint_weights(directory)
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        assert found[name].shape == tuple(tensor.shape)
        assert torch.equal(found[name].read(), tensor), name


@settings(max_examples=15, deadline=None)
@given(ranks=st.integers(1, 12), frozen=st.sets(st.sampled_from(["weight", "bias"])), group=st.integers(1, 50))
def test_any_number_of_ranks(
    tmp_path_factory: pytest.TempPathFactory, ranks: int, frozen: set[str], group: int
) -> None:
    """More than ten, so that ranks are ordered as numbers, and more than some parameters have numbers."""
    whole = weights()
    one, other = tmp_path_factory.mktemp("stage3"), tmp_path_factory.mktemp("stage2")
    write_stage3(one, whole, ranks, frozen, group)
    check(one, whole)
    write_stage2(other, whole, ranks, frozen)
    check(other, whole)


def test_plain_engine_and_stage_0(tmp_path: Path) -> None:
    whole = weights()
    for name, key in (("plain_engine.pt", "model"), ("mp_rank_00_model_states.pt", "module")):
        directory = tmp_path / key
        directory.mkdir()
        torch.save({key: {**whole, "tied": whole["embedding"]}, "optimizer": None}, directory / name)
        check(directory, whole)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a training checkpoint"):
        checkpoint_weights(tmp_path)
    write_stage3(tmp_path, weights(), 3, set(), 50)
    shard = tmp_path / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(ValueError, match="3 ranks wrote it, but there are .*optim_states.pt of 2"):
        checkpoint_weights(tmp_path)
    shard.write_bytes(content)
    (tmp_path / "bf16_zero_pp_rank_2_mp_rank_00_model_states.pt").unlink()
    with pytest.raises(ValueError, match="3 ranks wrote it, but there are .*model_states.pt of 2"):
        checkpoint_weights(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    write_stage3(other, {**weights(), "more": torch.ones(3)}, 3, set(), 50)
    state = torch.load(other / "bf16_zero_pp_rank_0_mp_rank_00_model_states.pt")
    del state["param_shapes"][0]["more"]
    save_rank(other, 0, "model_states", state)
    with pytest.raises(ValueError, match="the files do not match"):
        checkpoint_weights(other)
