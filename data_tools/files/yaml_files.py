"""Reading the YAML files that users write, recipes, comparisons and corpora, all by the same rules."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_tools.text.lines import read_text

VARIABLE = re.compile(r"\$\{([^}]*)\}")
HOME = re.compile(r"(?:^|(?<=,))(\s*)(~[^,]*)")  # also after a comma: some fields hold several paths
Keys = tuple[str | int, ...]  # from the top of a file to one of its values
MERGE = "tag:yaml.org,2002:merge"  # of the key <<
NULLS = ("", "~", "null", "none")  # YAML's spellings of null, and Python's, which users write too


class RepeatedKeyError(yaml.constructor.ConstructorError):
    """A key that is given twice in one mapping."""


class StrictLoader(yaml.SafeLoader):
    """YAML in which a repeated key is an error; PyYAML silently keeps the last value."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        # Later a mapping that others are merged into (`<<: *other`) has their keys, too, which its own may replace.
        node = super().compose_mapping_node(anchor)
        keys = [key.value if key.tag == MERGE else self.construct_object(key, deep=True) for key, _ in node.value]
        for number, (key, (key_node, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:number]:
                raise RepeatedKeyError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        return node


def read_mapping(path: Path, expected: str) -> dict[Any, Any]:
    """Read the top-level mapping of a YAML file, empty for an empty file; messages say that `expected` was expected.

    Raises ValueError for a file that does not exist, is not UTF-8 or YAML, repeats a key, or is not a mapping.
    """
    return read_marked_mapping(path, expected).content


@dataclass(frozen=True)
class MarkedMapping:
    """The top-level mapping of a YAML file, and the line and the column of each of its values.

    A value is found by the keys that lead to it: ("files", "train") or ("languages", 0).
    """

    content: dict[Any, Any]
    marks: Mapping[Keys, yaml.Mark]
    written: Mapping[Keys, str]  # the values that are no mappings and lists, as the file spells them
    path: Path

    def place(self, keys: Keys) -> str:
        """Where the value of these keys is, such as "mine.yaml:3:8"; of a missing one, the mapping that lacks it."""
        while keys and keys not in self.marks:
            keys = keys[:-1]
        mark = self.marks.get(keys)
        return f"{self.path}:{mark.line + 1}:{mark.column + 1}" if mark else str(self.path)


def read_marked_mapping(path: Path, expected: str) -> MarkedMapping:
    """Read a YAML file as `read_mapping` does, with the places of its values."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; expected {expected}")
    text = read_text(path)
    try:
        loader = StrictLoader(text)
        root = loader.get_single_node()
        content = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        wrong = ":" if isinstance(error, RepeatedKeyError) else " not valid YAML:"
        raise ValueError(f"{path}:{line}{wrong} {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{path}: expected {expected}, found a {type(content).__name__}")
    nodes = {} if root is None else dict(_nodes(root, ()))
    marks = {keys: node.start_mark for keys, node in nodes.items()}
    written = {keys: node.value for keys, node in nodes.items() if isinstance(node, yaml.ScalarNode)}
    return MarkedMapping(content or {}, marks, written, path)


def _nodes(node: yaml.Node, keys: Keys) -> Iterator[tuple[Keys, yaml.Node]]:
    """The nodes of a value and of all values in it."""
    yield keys, node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _nodes(value, (*keys, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _nodes(value, (*keys, number))


def expanded(text: str) -> str:
    """`text` with environment variables, and `~` for the home directory, expanded.

    Raises ValueError naming each ${VARIABLE} that is not set.
    """
    if unset := [name for name in variables_in([text]) if name not in os.environ]:
        raise ValueError("; ".join(f"the environment variable {name} is not set" for name in unset))
    return HOME.sub(lambda match: match[1] + os.path.expanduser(match[2]), os.path.expandvars(text))


def variables_in(values: Iterable[object]) -> list[str]:
    """The environment variables that `expanded` needs for the texts among `values`, in their order."""
    return list(dict.fromkeys(name for value in values if isinstance(value, str) for name in VARIABLE.findall(value)))


def all_expanded(value: Any, complain: Callable[[str], object]) -> Any:
    """A YAML value with every text in it expanded; for a variable that is not set, `complain` is called."""
    if isinstance(value, dict):
        return {key: all_expanded(item, complain) for key, item in value.items()}
    if isinstance(value, list):
        return [all_expanded(item, complain) for item in value]
    try:
        return expanded(value) if isinstance(value, str) else value
    except ValueError as error:
        complain(str(error))
        return ""


def is_null(value: object) -> bool:
    """Whether a YAML value, or the value of a flag, means null."""
    return value is None or (isinstance(value, str) and value.lower() in NULLS)
