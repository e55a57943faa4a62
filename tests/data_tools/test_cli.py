import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.cli import one_line, run_main


def _raise(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def test_user_errors_are_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_main(_raise(ValueError("expected 3\n  found 4\n")))
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: expected 3; found 4\n"


def test_os_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error_info:
        (tmp_path / "none").read_text()
    assert one_line(error_info.value) == f"{tmp_path / 'none'}: No such file or directory"


def test_names_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller")
    with pytest.raises(ValueError) as error_info:
        f"tokenizer/{name}".encode()
    assert one_line(error_info.value) == r"'tokenizer/M\udcfcller': holds bytes that are not UTF-8; rename the file"


def test_our_mistakes_keep_their_traceback() -> None:
    with pytest.raises(KeyError):
        run_main(_raise(KeyError("x")))


def test_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_main(_raise(KeyboardInterrupt()))
    assert exit_info.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_leaves_is_no_error(environment: dict[str, str]) -> None:
    script = "from data_tools.cli import run_main; run_main(lambda: [print('x' * 1000) for _ in range(10_000)])"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_character_is_no_error(environment: dict[str, str], encoding: str) -> None:
    script = (
        "import os\n"
        "from rich.console import Console\n"
        "from data_tools.cli import run_main, warn\n"
        "def main():\n"
        "    print('дом', os.fsdecode(b'M\\xfc'))\n"
        "    Console().print('ж — fertig')\n"
        "    warn('дом')\n"
        "run_main(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env={**environment, "PYTHONIOENCODING": encoding}
    )
    assert done.returncode == 0, done.stderr
    for text, stream in [("дом", done.stdout), ("— fertig", done.stdout), ("дом", done.stderr)]:
        assert text.encode(encoding, errors="backslashreplace") in stream


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_data_is_utf8_on_any_terminal(environment: dict[str, str], encoding: str) -> None:
    script = "from data_tools.cli import run_main, write_utf8; run_main(lambda: (write_utf8(), print('дом')))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env={**environment, "PYTHONIOENCODING": encoding}
    )
    assert (done.returncode, done.stdout.decode("utf-8")) == (0, "дом\n")


def test_the_progress_bar_leaves_standard_output_alone() -> None:
    """With a terminal for stderr only, as in `command > file`."""
    program = (
        "from data_tools.cli import progress_bar\n"
        "with progress_bar() as bar:\n"
        "    bar.add_task('working', total=1, unit='lines')\n"
        "    print('a line that the reader of stdout waits for')\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    assert done.stdout == "a line that the reader of stdout waits for\n"
    assert b"working" in os.read(ours, 4096)
    os.close(ours)
