from pathlib import Path

import pytest

from data_tools.files import atomic_directory, atomic_path, sha256_of


def test_atomic_path_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent  # os.replace is atomic within one file system
    assert path.read_text() == "content"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_keeps_the_old_file_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_directory(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "directory"
    with atomic_directory(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists()
    with pytest.raises(ValueError, match="exists already"), atomic_directory(path):
        pass
    with pytest.raises(RuntimeError), atomic_directory(path, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["a"]
    with atomic_directory(path, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
    assert [file.name for file in path.iterdir()] == ["b"]
    assert [file.name for file in path.parent.iterdir()] == ["directory"]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
