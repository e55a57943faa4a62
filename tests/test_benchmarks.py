"""The benchmarks that have no test of their own, in small shapes: each ends well and prints its figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import run_script

# Words of each command, and a word of what it prints or logs at last.
SMALL = {
    "attention.py --repeats 1": "float32",
    "conversion.py --encoders bert": "bert",
    "encoder_inference.py --quick --repeats 1": "onnx int8",
    "loader.py --directory {directory} --megabytes 1 --repeats 1 --steps 2": "waiting for data",
    "model.py objective utilisation shapes encoder --quick --repeats 1": "lengths 1/4 to 1",
    "overhead.py --directory {directory} --repeats 1 --updates 4 --layers 1 --width 64": "loop / model alone",
    "serving.py --quick --repeats 1 --count 20 --clients 4": "asked to stop",
    "xtreme.py finetune --quick": "Trainer as it is",
    "xtreme.py retrieval --rows 500 --width 16": "mined",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALL)
def test_a_benchmark_prints_its_figures(command: str, tmp_path: Path) -> None:
    script, *arguments = command.format(directory=tmp_path).split()
    result = run_script(f"benchmarks/{script}", *arguments)
    assert result.returncode == 0, result.stderr
    assert SMALL[command] in result.stdout
