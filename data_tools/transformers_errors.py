"""Errors of transformers over files that it did not expect so, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_of_transformers(what: str) -> Iterator[None]:
    """Raise ValueError, on one line, for anything that transformers raises over a file that it did not expect so."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{what} cannot be opened by transformers: {type(error).__name__}: {reason}") from error
