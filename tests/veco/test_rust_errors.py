"""Libraries written in Rust cannot write: one OSError names the place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from veco.rust_errors import rust_errors_as_oserrors


def test_failed_writes_raise_oserror_with_the_path(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    tokenizer = Tokenizer(models.Unigram([("a", -1.0)], 0))
    for write in (
        lambda: save_file({"weight": torch.zeros(3)}, missing / "x.safetensors"),
        lambda: tokenizer.save(str(missing / "tokenizer.json")),
    ):
        with pytest.raises(OSError, match=f"{missing}: .*No such file or directory"), rust_errors_as_oserrors(missing):
            write()


def test_other_errors_pass_unchanged() -> None:
    for error in (KeyError("x"), ValueError("x"), RuntimeError("x")):
        with pytest.raises(type(error)) as raised, rust_errors_as_oserrors(Path("x")):
            raise error
        assert raised.value is error
