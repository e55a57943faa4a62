"""Files that come with the packages, which a user names without knowing where they were installed."""

from __future__ import annotations

from pathlib import Path


def shipped_file(name: str, directory: Path) -> Path:
    """The file `name`, or else the YAML file of that name, with or without its ending, in `directory`.

    Where there is neither it is the path `name`, so that whoever opens it says what is missing.
    """
    path = Path(name)
    shipped = directory / f"{name.removesuffix('.yaml')}.yaml"
    return shipped if path.name == name and not path.is_file() and shipped.is_file() else path


def shipped_names(directory: Path) -> list[str]:
    """The names that `shipped_file` finds in `directory`."""
    return sorted(path.stem for path in directory.glob("*.yaml"))
