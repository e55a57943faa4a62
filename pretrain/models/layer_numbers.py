"""The numbers of layers as a recipe has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.files.yaml_files import is_null


def read_layers(kinds: Mapping[str, Any], value: Any) -> tuple[int, ...]:
    """The numbers of layers in a list, or in a text such as `2,4,6`. Raises ValueError for anything else."""
    if is_null(value) or value == "":
        return ()
    items = value.split(",") if isinstance(value, str) else value
    expected = ValueError(f"expected numbers of layers such as [2, 4, 6], or 2,4,6, found {value!r}")
    if not isinstance(items, list | tuple):
        raise expected
    numbers = [str(item).strip() for item in items]
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise expected
    return tuple(map(int, numbers))
