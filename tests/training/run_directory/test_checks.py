from pathlib import Path

import pytest

from training.run_directory.checks import check_run_directory


def test_what_is_read_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    check_run_directory(tmp_path / "run", [tmp_path / "data"])
    with pytest.raises(ValueError, match=r"--output .*link: is the directory that is read"):
        check_run_directory(tmp_path / "link", [tmp_path / "data"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("line", ["measured by hand", '{"loss": 1}', "[1]"])
def test_metrics_of_others_are_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    check_run_directory(tmp_path, [])
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is not one of a run's metrics; choose another"):
        check_run_directory(tmp_path, [])


def test_another_tokenizer_is_kept(tmp_path: Path) -> None:
    for name in ("data", "run/tokenizer"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "tokenizer.json").write_text("{}")
    check_run_directory(tmp_path / "run", [], tokenizer=tmp_path / "data")
    (tmp_path / "run/tokenizer/tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match="is not the one of the data"):
        check_run_directory(tmp_path / "run", [], tokenizer=tmp_path / "data")
