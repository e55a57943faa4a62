"""What libraries in Rust say of a disk that they cannot write to is one line that names the place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from veco.cli import read_text, told_by_the_system


def test_writers_in_rust_raise_oserrors(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    tokenizer = Tokenizer(models.Unigram([("a", -1.0)], 0))
    for write in (
        lambda: save_file({"weight": torch.zeros(3)}, missing / "x.safetensors"),
        lambda: tokenizer.save(str(missing / "tokenizer.json")),
    ):
        with pytest.raises(OSError, match=f"{missing}: .*No such file or directory"), told_by_the_system(missing):
            write()


def test_mistakes_of_ours_stay_what_they_are() -> None:
    for error in (KeyError("x"), ValueError("x"), RuntimeError("x")):
        with pytest.raises(type(error)) as raised, told_by_the_system(Path("x")):
            raise error
        assert raised.value is error


def test_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"stra\xdfe")
    with pytest.raises(ValueError, match="x.txt: not UTF-8 at byte 4 .*; convert the file"):
        read_text(tmp_path / "x.txt")
