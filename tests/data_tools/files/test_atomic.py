import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_tools.files.atomic import atomic_path, left_overs_of, named_errors, sha256_of, temporary_path, try_file


def test_atomic_path_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent  # os.replace is atomic within one file system
    assert path.read_text() == "content"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_keeps_the_old_file_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_followed_and_kept(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link"
    if is_there:
        target.write_text("old")
    link.symlink_to("elsewhere/a.txt")
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "elsewhere", "link"]


def test_a_device_is_written_through() -> None:
    before = os.stat("/dev/null")
    try_file(Path("/dev/null"))
    with atomic_path("/dev/null") as temporary:
        temporary.write_text("gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.stat("/dev/null").st_ino == before.st_ino


def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"), atomic_path("/dev/full") as temporary:
        temporary.write_text("too much")


def test_an_error_that_is_a_message_alone_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="^config.json is not valid JSON$"), named_errors(tmp_path):
        raise OSError("config.json is not valid JSON")


def test_a_pipe_with_a_name_gets_the_whole_content_or_none(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(path.read_text()))
    reader.start()
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not found
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
    reader.join(10)
    assert found == ["whole"]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_goes_on_after_what_was_printed(tmp_path: Path, name: str) -> None:
    code = (
        "from data_tools.files.atomic import atomic_path\n"
        "print('first')\n"
        f"with atomic_path('{name}') as path: path.write_text('second\\n')\n"
        "print('third')"
    )
    path = tmp_path / "out.txt"
    for output in (path.open("w"), subprocess.PIPE):
        result = subprocess.run([sys.executable, "-c", code], stdout=output, text=True, check=True)
        assert (result.stdout or path.read_text()) == "first\nsecond\nthird\n"


def test_process_substitution_of_a_shell_is_written_into(tmp_path: Path) -> None:
    code = "import sys; from data_tools.files.atomic import *; path = sys.argv[1]; try_file(Path(path))\n"
    code += "with atomic_path(path) as temporary: temporary.write_text('through')"
    shell = f'"$0" -c "$1" >(cat > {tmp_path}/found); wait $!'
    subprocess.run(["bash", "-c", shell, sys.executable, code], check=True)
    assert (tmp_path / "found").read_text() == "through"


def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    try_file(tmp_path / "file")
    try_file(tmp_path / "new")
    with pytest.raises(ValueError, match=r"nowhere/a\.txt: there is no directory .*nowhere; make it"):
        try_file(tmp_path / "nowhere" / "a.txt")
    with pytest.raises(ValueError, match="is a directory; expected the name of a file"):
        try_file(tmp_path)
    with pytest.raises(ValueError, match="is a directory"), atomic_path(tmp_path):
        raise AssertionError("work was begun")
    with pytest.raises(OSError, match="/proc/new.json"):  # a file system that takes no new files
        try_file(Path("/proc/new.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "text"


def test_only_own_temporary_files_count_as_left_over(tmp_path: Path) -> None:
    ours = temporary_path(tmp_path / "plan.json")
    for name in (ours.name, ".bashrc.old", ".plan.json.old", ".plan.json.12", "plan.json"):
        (tmp_path / name).write_text("")
    assert left_overs_of(tmp_path / "plan.json") == [ours]


def test_sha256_of_the_example_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
