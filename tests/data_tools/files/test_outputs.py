import os
from pathlib import Path

import pytest

from data_tools.files.outputs import check_filled_directory, check_output_directory, check_outputs


@pytest.mark.parametrize("path", ["text", "deep/../text", "missing/../text", "link", "hard"])
def test_an_output_must_not_be_an_input_by_any_path(tmp_path: Path, path: str) -> None:
    text = tmp_path / "text"
    text.write_text("1")
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("text")
    os.link(text, tmp_path / "hard")
    check_outputs({"--output": tmp_path / "new", "--json": None}, [text, None, "hub:name"])
    with pytest.raises(ValueError, match=r"--output .*: is the input .*text, which would be lost; choose another"):
        check_outputs({"--output": tmp_path / path}, [text])
    assert text.read_text() == "1"


def test_an_output_must_not_be_a_file_of_a_directory_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "deep" / "config.json").write_text("1")
    (tmp_path / "link").symlink_to("model")
    check_outputs({"--json": tmp_path / "model" / "new.json"}, [tmp_path / "model"])
    with pytest.raises(ValueError, match=r"--json .*config.json: is a file of the input .*model; choose another"):
        check_outputs({"--json": tmp_path / "link" / "deep" / "config.json"}, [tmp_path / "model"])


def test_standard_input_is_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text"
    text.write_text("1")
    descriptor, saved = os.open(text, os.O_RDONLY), os.dup(0)
    os.dup2(descriptor, 0)
    try:
        with pytest.raises(ValueError, match="is the input /dev/stdin"):
            check_outputs({"--output": text}, ["-"])
    finally:
        os.dup2(saved, 0)
        os.close(descriptor)
        os.close(saved)


def test_two_outputs_must_not_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(ValueError, match="--b .*link and --a .*new are one file; choose another --b"):
        check_outputs({"--a": tmp_path / "new", "--b": tmp_path / "link"}, [])
    null = Path("/dev/null")
    check_outputs({"--a": null, "--b": null}, [null])


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no directory"):
        check_outputs({"--json": tmp_path / "nowhere" / "a.json"}, [])
    assert list(tmp_path.iterdir()) == []


def test_an_output_directory_must_not_contain_an_input(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "text").write_text("1")
    (tmp_path / "link").symlink_to("a")
    check_output_directory(tmp_path / "a" / "new", [tmp_path / "a", tmp_path / "a" / "text", "s3://a/b"])
    for output in ("a", "link", "."):
        with pytest.raises(ValueError, match="text is in it"):
            check_output_directory(tmp_path / output, [str(tmp_path / "a" / "text")])


def test_a_directory_must_not_be_both_read_and_filled(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("data")
    check_filled_directory(tmp_path / "predictions", tmp_path / "data")
    with pytest.raises(ValueError, match="is the directory that is read"):
        check_filled_directory(tmp_path / "link", str(tmp_path / "data"))
