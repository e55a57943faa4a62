"""encoder.json, which describes an exported encoder: its engine, its layer, and how its states become a vector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

SETTINGS_FILE = "encoder.json"
FORMAT = 1  # of the directory; raised when older readers would misread a newer one
SHOWN = 40  # characters of what is wrong


class EngineName(StrEnum):
    """What computes the states."""

    CTRANSLATE2 = "ct2"
    ONNX = "onnx"


class Pooling(StrEnum):
    """What of the states of a sentence's tokens is its vector."""

    MEAN = "mean"  # over all tokens, `<s>` and `</s>` included
    CLS = "cls"  # the state of the first token


@dataclass(frozen=True)
class ExportedSettings:
    """What an exported encoder computes: the states of layer `layer` of `source`, in `precision`.

    `source_sha256` are those of the source's files of weights, by name. `max_length` is in tokens, special ones
    included; `normalise` says whether vectors have length 1. `files` are the engine's, with their sizes in bytes.
    """

    engine: EngineName
    precision: str  # float32 or int8
    layer: int
    hidden_size: int
    max_length: int
    pooling: Pooling
    normalise: bool
    source: str
    source_num_layers: int
    source_sha256: Mapping[str, str]
    format: int = FORMAT
    files: Mapping[str, int] = field(default_factory=dict)  # empty in older exports

    def write(self, directory: Path) -> None:
        """Write encoder.json into a directory."""
        (directory / SETTINGS_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> ExportedSettings:
        """The settings in a directory. Raises ValueError for a file that is damaged or of a newer format."""
        path = directory / SETTINGS_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] > FORMAT:
                raise ValueError(f"format {content['format']}, of a newer version; this one reads up to {FORMAT}")
            named = {one.name: content[one.name] for one in fields(cls) if one.name != "files"}
            named |= {"files": checked_sizes(content.get("files", {}))}
            named |= {"engine": EngineName(named["engine"]), "pooling": Pooling(named["pooling"])}
        except (ValueError, TypeError, KeyError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: {reason}; export the encoder again") from None
        return cls(**named)

    def check_files(self, directory: Path) -> None:
        """Raise ValueError where a file of the engine is not in a directory, or not whole, as after a broken copy."""
        for name, size in self.files.items():
            path = directory / name
            if not path.is_file() or path.stat().st_size != size:
                found = f"has {path.stat().st_size:,}" if path.is_file() else "is missing"
                raise ValueError(
                    f"{path}: {found}, expected {size:,} bytes; copy all files of the directory, or export again"
                )


def checked_sizes(files: Any) -> Mapping[str, int]:
    """The sizes of files as encoder.json has them. Raises ValueError for anything but names with whole numbers."""
    if not isinstance(files, dict):
        raise ValueError(f"files: expected names with their sizes in bytes, found {json.dumps(files)[:SHOWN]}")
    for name, size in files.items():
        if type(size) is not int or size < 0:  # true is an int, too
            found = json.dumps(size)[:SHOWN]
            raise ValueError(f"files: {name[:SHOWN]}: expected a whole number of bytes, found {found}")
    return files


def sizes_of(directory: Path) -> dict[str, int]:
    """The bytes of all files below a directory, by their paths in it."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}


def is_exported(directory: Path) -> bool:
    """Whether a directory holds an exported encoder."""
    return (directory / SETTINGS_FILE).is_file()
