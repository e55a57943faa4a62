"""The cuBLAS that CTranslate2 needs on a card, where the system's loader does not find it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from finetune.mt.decoding.ct2 import load_cublas


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The libraries that are loaded, on a machine that only finds those given by an existing path."""
    found: list[str] = []

    def load(name: str, mode: int = 0) -> None:
        if not Path(name).is_file():
            raise OSError(f"{name}: cannot open shared object file")
        found.append(Path(name).name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return found


def test_cublas_of_the_extra_is_loaded_with_what_it_needs(loaded: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "nvidia" / "cublas" / "lib"
    directory.mkdir(parents=True)
    for name in ("libcublasLt.so.12", "libcublas.so.12"):
        (directory / name).touch()
    load_cublas([str(tmp_path / "elsewhere"), str(tmp_path)])
    assert loaded == ["libcublasLt.so.12", "libcublas.so.12"]


def test_missing_cublas_is_one_line_with_the_way_out(loaded: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"libcublas\.so\.12 .* pip install 'veco\[ct2\]'") as error:
        load_cublas([str(tmp_path)])
    assert "\n" not in str(error.value) and not loaded
