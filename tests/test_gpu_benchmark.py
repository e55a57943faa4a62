"""benchmarks/gpu.py without a card: a small shape on the CPU."""

from __future__ import annotations

import pytest
import torch
from launching import run_script


@pytest.mark.slow
def test_every_row_of_the_table_is_filled() -> None:
    result = run_script("benchmarks/gpu.py", "--tiny", "--pairs", "2", "--peak_tflops", "0.1")
    assert result.returncode == 0, result.stderr
    _, header, line, *rows = result.stdout.splitlines()
    assert header.count("|") == line.count("|") == 9
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(row[0], row[1]) for row in cells] == [
        (config, recompute) for config in ("zero1_bf16.json", "zero3_bf16.json") for recompute in ("no", "yes")
    ]
    for _, _, pairs, milliseconds, tokens, tflops, share, _ in cells:
        assert int(pairs) == 2 and float(milliseconds) > 0 and float(tokens.replace(",", "")) > 0
        assert float(share.strip("%")) == pytest.approx(1000 * float(tflops), rel=0.05, abs=0.06)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_missing_card_is_reported_in_one_line() -> None:
    result = run_script("benchmarks/gpu.py")
    assert result.returncode == 1 and result.stderr == "no CUDA card here; --tiny runs a small shape on the CPU\n"
