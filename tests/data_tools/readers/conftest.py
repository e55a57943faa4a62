"""Sources read to the end."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.corpus.inputs import Input, Part
from data_tools.readers import InputReader, size_of

PAIR = ("de", "en")


@pytest.fixture(scope="session")
def read_documents() -> Callable[..., tuple[list[list[str]], Counter[str]]]:
    """A function (format, path, part=None, **fields of Input) -> (documents, dropped)."""

    def read(format: str, path: Path | str, part: Part | None = None, **fields: Any) -> Any:
        with InputReader(Input(("de",), format, (str(path),), **fields), part) as reader:
            return list(reader.documents()), reader.dropped

    return read


@pytest.fixture(scope="session")
def read_pairs() -> Callable[..., tuple[list[tuple[str, str]], Counter[str]]]:
    """A function (format, *paths, part=None, languages=(de, en), **fields of Input) -> (pairs, dropped)."""

    def read(
        format: str, *paths: Path | str, part: Part | None = None, languages: tuple[str, str] = PAIR, **fields: Any
    ) -> Any:
        item = Input(languages, format, tuple(map(str, paths)), **fields)
        with InputReader(item, part) as reader:
            assert reader.num_bytes_read < 1 << 16  # what opening reads, such as an archive's table of contents
            pairs = list(reader.pairs())
            if part is None:
                assert reader.num_bytes_read == size_of(item)
            return pairs, reader.dropped

    return read
