"""What identifies a model: a run that is resumed must read the same one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_tools.files.atomic import sha256_of
from training.run_directory.kinds import CONFIG_FILE


def fingerprint_of_model(directory: Path) -> str:
    """A hash of the configuration and the weights in a model's directory, hexadecimal."""
    paths = sorted([directory / CONFIG_FILE, *directory.glob("*.safetensors")])
    return hashlib.sha256("".join(sha256_of(path) for path in paths).encode()).hexdigest()
