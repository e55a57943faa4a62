import os
from pathlib import Path

import numpy as np
import pytest

from data_tools.files.memory_maps import _Region, map_file

INT32 = np.dtype("<i4")


def _num_maps(path: Path) -> int:
    """Maps of a file in this process, also when the file has no name any more."""
    return Path("/proc/self/maps").read_text().count(str(path))


def _num_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the numbers 0 to 9,999, larger than a page of memory."""
    np.arange(10_000, dtype=INT32).tofile(tmp_path / "numbers")
    return tmp_path / "numbers"


def test_a_file_becomes_a_plain_read_only_array(path: Path) -> None:
    numbers = map_file(path, INT32)
    assert type(numbers) is np.ndarray
    assert numbers.dtype == INT32
    assert numbers.tolist() == list(range(10_000))
    assert map_file(path, np.dtype(np.uint8)).tobytes() == path.read_bytes()
    with pytest.raises(ValueError, match="read-only"):
        numbers[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        numbers.flags.writeable = True


def test_no_descriptor_and_no_memory_is_kept(path: Path) -> None:
    before = _num_open_files()
    arrays = [map_file(path, INT32) for _ in range(300)]
    assert _num_open_files() == before
    assert _num_maps(path) == 300
    view = arrays[7][5:8].reshape(3, 1)
    del arrays
    assert _num_maps(path) == 1
    path.unlink()
    assert view.tolist() == [[5], [6], [7]]
    del view
    assert _num_maps(path) == 0


def test_an_empty_file_becomes_an_empty_array(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    numbers = map_file(tmp_path / "empty", INT32)
    assert numbers.shape == (0,)
    assert numbers.dtype == INT32


def test_files_that_cannot_be_mapped_are_refused(path: Path) -> None:
    os.truncate(path, 4 * 10_000 - 1)
    with pytest.raises(ValueError, match="numbers: 39,999 bytes is not a multiple of 4-byte items"):
        map_file(path, INT32)
    with pytest.raises(FileNotFoundError, match="missing"):
        map_file(path.with_name("missing"), INT32)
    with open(os.devnull) as file, pytest.raises(OSError, match="/dev/null"):  # a device without memory
        _Region(os.devnull, file.fileno(), 4)


def test_without_the_mmap_of_unix(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_tools.files.memory_maps.os.name", "other")
    numbers = map_file(path, INT32)
    assert type(numbers) is np.ndarray
    assert numbers.tolist() == list(range(10_000))
