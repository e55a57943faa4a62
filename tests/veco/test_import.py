"""`import veco` in a process of its own."""

from __future__ import annotations

import subprocess
import sys

LOADED = "import sys, veco; print(*sorted({name.split('.')[0] for name in sys.modules}))"


def test_import_veco_loads_none_of_the_other_packages() -> None:
    """Models open in transformers without what prepares data or trains; commands of veco import that themselves."""
    result = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "veco" in loaded
    assert not loaded & {"data_tools", "training", "pretrain", "finetune", "inference", "analysis"}
