"""Streaming means against torch, files against the safetensors library and transformers' index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.checkpoints import averaging
from training.checkpoints.averaging import WEIGHTS, WEIGHTS_INDEX, Source, write_weights
from training.checkpoints.stored_tensors import Run, read_safetensors


def source(path: Path, seed: int, dtype: torch.dtype = torch.float32) -> Source:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "a": torch.randn(40, 7, generator=generator).to(dtype),
        "b": torch.randn(3, generator=generator).to(dtype),
        "steps": torch.arange(5),
    }
    save_file(tensors, path)
    return Source(path, read_safetensors(path))


def test_mean_is_taken_piece_by_piece_and_rounded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    read = Run.read
    monkeypatch.setattr(Run, "read", lambda run: (sizes.append(run.count), read(run))[1])
    monkeypatch.setattr(averaging, "PIECE", 64)
    sources = [source(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)]
    (tmp_path / "mean").mkdir()
    write_weights(tmp_path / "mean", sources, torch.bfloat16)
    written = load_file(tmp_path / "mean" / WEIGHTS)
    tensors = [load_file(source.path) for source in sources]
    for name in ("a", "b"):
        mean = torch.stack([tensor[name].double() for tensor in tensors]).mean(0)
        assert torch.equal(written[name], mean.bfloat16()), name
    assert torch.equal(written["steps"], torch.arange(5)) and len(written) == 3
    assert max(sizes) == 64


def test_mean_of_sixteen_bits_is_kept_in_float32(tmp_path: Path) -> None:
    sources = [source(tmp_path / f"{seed}.safetensors", seed, torch.bfloat16) for seed in range(2)]
    write_weights(tmp_path, sources, None)
    one, other = (load_file(source.path)["a"].float() for source in sources)
    assert torch.equal(load_file(tmp_path / WEIGHTS)["a"], (one + other) / 2)


def test_several_files_and_their_index(tmp_path: Path) -> None:
    one = source(tmp_path / "1.safetensors", 1)
    (tmp_path / "out").mkdir()
    write_weights(tmp_path / "out", [one], torch.float32, max_file_bytes=45)  # "a" alone is larger; "b", "steps" fit it
    index = json.loads((tmp_path / "out" / WEIGHTS_INDEX).read_text())
    names = {f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, WEIGHTS_INDEX}
    assert index["metadata"] == {"total_parameters": 288, "total_size": 4 * 283 + 8 * 5}
    expected = load_file(one.path)
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / "out" / file)[name], expected[name])
    assert index["weight_map"].keys() == expected.keys()


def test_integers_must_agree_and_nothing_may_be_empty(tmp_path: Path) -> None:
    paths = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for number, path in enumerate(paths):
        save_file({"n": torch.tensor([number])}, path)
    with pytest.raises(ValueError, match="n holds integers that differ between .*1.safetensors and .*2.safetensors"):
        write_weights(tmp_path, [Source(path, read_safetensors(path)) for path in paths], None)
    save_file({"w": torch.empty(0, 4)}, paths[0])
    with pytest.raises(ValueError, match=r"w has 0 numbers for its shape \(0, 4\)"):
        write_weights(tmp_path, [Source(paths[0], read_safetensors(paths[0]))], None)
