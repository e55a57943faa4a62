"""Errors of libraries written in Rust, as Python would raise them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def rust_errors_as_oserrors(path: Path) -> Iterator[None]:
    """Raise OSError, naming `path`, where safetensors or tokenizers cannot write, as on a full disk."""
    try:
        yield
    except Exception as error:
        # `tokenizers` raises a bare Exception; classes derived from it have a meaning of their own.
        if isinstance(error, SafetensorError) or type(error) is Exception:
            raise OSError(f"{path}: {error}") from error
        raise
