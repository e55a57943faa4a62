"""benchmarks/gpu.py without a card: a small shape on the CPU."""

from __future__ import annotations

import pytest
import torch
from launching import run_script


@pytest.mark.slow
def test_every_row_of_the_table_is_filled() -> None:
    result = run_script("benchmarks/gpu.py", "--quick", "--pairs", "2", "--peak_tflops", "0.1")
    assert result.returncode == 0, result.stderr
    machine, header, line, *rows = result.stdout.splitlines()
    assert f"torch {torch.__version__}, CUDA" in machine and machine.endswith("0.1 TFLOP/s")
    assert header.count("|") == line.count("|") == 12
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    veco = [(kind, "zero1_bf16.json", recompute) for recompute in ("no", "yes") for kind in ("mono", "bilingual")]
    assert [(row[0], row[1], row[2]) for row in cells] == [*veco, ("xlm-r", "-", "no")]
    assert [row[3] for row in cells[:4]] == ["2", "8", "2", "8"] and cells[4][3].endswith(" rows")
    for *_, milliseconds, tokens, tflops, share, _waits, _peak, planned in cells:
        assert float(milliseconds) > 0 and float(tokens.replace(",", "")) > 0
        assert float(share.strip("%")) == pytest.approx(1000 * float(tflops), rel=0.05, abs=0.06)
        assert planned == "-" or float(planned) > 0
    # The same operations: what each row does in an update, from its time and its rate.
    work = [float(row[4]) * float(row[6]) for row in (cells[0], cells[4])]
    assert work[1] == pytest.approx(work[0], rel=0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_missing_card_is_reported_in_one_line() -> None:
    result = run_script("benchmarks/gpu.py")
    assert result.returncode == 1 and result.stderr == "no CUDA card here; --quick runs a small shape on the CPU\n"
