import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.cli import FlagParser, first_of, one_line, run_main


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
    assert one_line(error_info.value) == r"'tokenizer/M\udcfcller': the file name is not valid UTF-8; rename the file"


def test_many_names_are_abbreviated() -> None:
    assert first_of([]) == "" and first_of(list("abc")) == "a, b, c"
    assert first_of([*"abc", *["d"] * 1000], separator="; ") == "a; b; c and 1,000 more"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(KeyError):
        run_main(_raise(KeyError("x")))


def test_an_interrupt_is_one_word_and_exit_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_main(_raise(KeyboardInterrupt()))
    assert exit_info.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_closed_pipe_is_no_error(environment: dict[str, str]) -> None:
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


def parser() -> FlagParser:
    made = FlagParser(prog="made")
    made.add_argument("--learning-rate", type=float)
    made.add_argument("--max_length", "--longest", type=int, default=7)
    made.add_argument("--text", nargs="+", default=[])
    made.add_argument("--reference", nargs="+", action="extend")
    made.add_argument("--quiet", action="store_true")
    made.add_argument("rest", nargs="*")
    return made


@pytest.mark.parametrize(
    "line",
    [
        "--learning-rate 1 --max-length 5 --reference a b",
        "--learning_rate 1 --max_length 5 --reference a --reference b",
        "--max-length=5 --quiet --learning_rate=1 --quiet --reference=a --reference b",
    ],
)
def test_flags_are_read_in_both_spellings(line: str) -> None:
    found = parser().parse_args(line.split())
    assert (found.learning_rate, found.max_length, found.reference) == (1.0, 5, ["a", "b"])


def test_values_keep_their_spelling() -> None:
    found = parser().parse_args(["--text=--max-length_a", "x_y=1-2", "--", "--max-length", "--max-length", "--typo"])
    assert found.text == ["--max-length_a"]
    assert found.rest == ["x_y=1-2", "--max-length", "--max-length", "--typo"] and found.max_length == 7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--learning-rat 1", "unknown flag --learning-rat, did you mean --learning-rate?; --help lists all flags"),
        ("--max-lenght=1", "unknown flag --max-lenght, did you mean --max_length?"),
        (
            "--max 1",
            "unknown flag --max, did you mean --max_length?",
        ),  # flags are not cut short
        ("--zzz", "unknown flag --zzz; --help"),
        ("--max_length 1 --max-length 2", "--max_length is given twice; give it once;"),
        ("--max_length 1 --longest=1", "--longest is given twice; give it once;"),
        ("--text a --text b", "--text is given twice; give it once with all its values"),
        ("--max_length x", "argument --max_length/--longest: invalid int value: 'x'"),
    ],
)
def test_invalid_flags_are_named(line: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        parser().parse_args(line.split())


def test_flags_of_subcommands_are_checked_too() -> None:
    """The flags of a command of a program are as all others; a required one that is misspelt is told as such."""
    made = FlagParser()
    cut = made.add_subparsers(dest="command").add_parser("cut")
    cut.add_argument("--min-count", type=int, required=True)
    assert made.parse_args(["cut", "--min_count", "3"]).min_count == 3
    with pytest.raises(ValueError, match="unknown flag --min_cont, did you mean --min-count"):
        made.parse_args(["cut", "--min_cont", "3"])
    with pytest.raises(ValueError, match="--min-count is given twice"):
        made.parse_args(["cut", "--min_count", "3", "--min-count", "4"])
    with pytest.raises(ValueError, match="required: --min-count"):
        made.parse_args(["cut"])


def test_arguments_for_another_parser_keep_their_spelling() -> None:
    made = FlagParser()
    made.add_argument("--max_length")
    found, others = made.parse_known_args(["--max-length", "3", "--batch-size", "4", "--batch_size", "5"])
    assert found.max_length == "3" and others == ["--batch-size", "4", "--batch_size", "5"]


def test_the_home_directory_is_expanded_in_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell fills it in in `--output ~/x`, but not in `--output=~/x`."""
    monkeypatch.setenv("HOME", "/home/me")
    parser = FlagParser()
    for name in ("--output", "--input"):
        parser.add_argument(name, type=Path)
    parsed = parser.parse_args(["--output=~/x", "--input=a~/~"])
    assert (parsed.output, parsed.input) == (Path("/home/me/x"), Path("a~/~"))
