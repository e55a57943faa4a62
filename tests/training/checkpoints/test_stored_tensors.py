"""Files of torch and safetensors, read without either library."""

from __future__ import annotations

import errno
import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from data_tools.cli import one_line
from training.checkpoints import stored_tensors
from training.checkpoints.stored_tensors import (
    Run,
    Skipped,
    StoredTensor,
    joined,
    read_safetensors,
    read_torch_file,
    write_state,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.uint8]


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool], ids=str)
def test_tensors_of_torch_and_of_safetensors_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": numbers((3, 5), dtype), "b.c": numbers((7,), dtype), "scalar": numbers((), dtype)}
    torch.save(tensors, tmp_path / "a.pt")
    save_file(tensors, tmp_path / "a.safetensors")
    for stored in (read_torch_file(tmp_path / "a.pt"), read_safetensors(tmp_path / "a.safetensors")):
        assert stored.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert stored[name].shape == tuple(tensor.shape)
            torch.testing.assert_close(stored[name].read(), tensor, rtol=0, atol=0)


def test_views_parameters_and_nesting(tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    parameter = torch.nn.Parameter(whole.reshape(4, 6).clone())
    parameter.note = "DeepSpeed hangs attributes on its parameters"
    marked = torch.arange(3.0)
    marked.note = 1
    torch.save(
        {"part": whole[6:12], "same": [whole, (whole,)], "parameter": parameter, "marked": marked}, tmp_path / "a"
    )
    stored = read_torch_file(tmp_path / "a")
    assert torch.equal(stored["part"].read(), whole[6:12])
    assert stored["same"][0].runs == stored["same"][1][0].runs
    assert torch.equal(stored["parameter"].read(), parameter.detach())
    assert torch.equal(stored["marked"].read(), torch.arange(3.0))
    assert stored["part"].runs[0].path == tmp_path / "a"


class Foreign:
    """An object that would do something when it is unpickled."""

    def __reduce__(self) -> object:
        return os.mkdir, (os.environ["FOREIGN_DIRECTORY"],)


class State(dict):
    def __setstate__(self, state: object) -> None:
        raise AssertionError("never called")


def test_nothing_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREIGN_DIRECTORY", str(tmp_path / "made"))
    content = OrderedDict(foreign=Foreign(), counts=defaultdict(int, a=1), path=Path("x"), weight=torch.ones(2), n=3)
    torch.save(content, tmp_path / "a.pt")
    stored = read_torch_file(tmp_path / "a.pt")
    assert not (tmp_path / "made").exists()
    assert isinstance(stored["foreign"], Skipped) and isinstance(stored["counts"], Skipped)
    assert torch.equal(stored["weight"].read(), torch.ones(2)) and stored["n"] == 3
    with pytest.raises(FileExistsError):  # the trap is one: torch itself falls into it, twice
        for _ in range(2):
            pickle.loads(pickle.dumps(Foreign()))


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.data())
def test_any_part_of_any_runs(tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "runs.bin"
    total = sum(counts)
    values = torch.randperm(2 * total + 1)[: 2 * total].to(torch.int32)
    path.write_bytes(values.numpy().tobytes())
    # Run k begins at twice the numbers before it, so there are gaps that no part may read.
    begins = [2 * sum(counts[:number]) for number in range(len(counts))]
    runs = [Run(path, 4 * begin, torch.int32, count) for begin, count in zip(begins, counts, strict=True)]
    expected = torch.cat([values[begin : begin + count] for begin, count in zip(begins, counts, strict=True)])
    tensor = joined([StoredTensor((run.count,), (run,)) for run in runs])
    assert tensor.shape == (total,) and torch.equal(tensor.read(), expected)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    part = StoredTensor((stop - start,), tensor.part(start, stop))
    if start < stop:
        assert torch.equal(part.read(), expected[start:stop])
        assert torch.equal(tensor.read_flat(start, stop), expected[start:stop])


def test_broken_files(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    torch.save({"a": torch.ones(1000)}, good)
    for size in (0, 10, 500, good.stat().st_size - 1):
        bad.write_bytes(good.read_bytes()[:size])
        with pytest.raises(ValueError, match="bad.pt: not a whole file of torch.save"):
            read_torch_file(bad)
    bad.write_bytes(b"text")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_safetensors(bad)
    stored = read_torch_file(good)["a"]
    good.write_bytes(good.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut short"):
        stored.read()


def test_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch itself would say that it found itself at an unexpected position."""

    class Full:
        def __init__(self, path: Path, mode: str) -> None:
            self.room = 1000

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, data: Any) -> int:
            self.room -= len(memoryview(data).cast("B"))
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(data)

    monkeypatch.setattr(stored_tensors, "open", Full, raising=False)
    with pytest.raises(OSError) as error:
        write_state({"weight": torch.zeros(10_000)}, tmp_path / "x.pt")
    assert one_line(error.value) == f"{tmp_path / 'x.pt'}: No space left on device"
