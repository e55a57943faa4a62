from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_workers_of_ray_make_the_same_bytes(
    tmp_path: Path, corpus_file: Path, run_module: Callable, assert_one_line_error: Callable
) -> None:
    arguments = ["data_tools.prepare", corpus_file, "--shard-tokens", "1500", "--workers", "2", "--output"]
    process = run_module(*arguments, tmp_path / "local")
    assert process.returncode == 0, process.stderr

    broken = tmp_path / "text" / "pair2.ru"
    whole = broken.read_bytes()
    broken.write_bytes(whole + b"\xff\n")
    process = run_module(*arguments, tmp_path / "ray", "--executor", "ray")
    assert_one_line_error(process, "pair2.ru: line 101 is not UTF-8")

    broken.write_bytes(whole)
    process = run_module(*arguments, tmp_path / "ray", "--executor", "ray")
    assert process.returncode == 0, process.stderr
    for path in (path for path in (tmp_path / "local").rglob("*") if path.is_file()):
        assert (tmp_path / "ray" / path.relative_to(tmp_path / "local")).read_bytes() == path.read_bytes()
