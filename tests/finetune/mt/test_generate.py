"""The command: the lines it prints, standard input as it comes, several processes, and messages for bad input."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from digits import write_lines
from launching import run_module
from toy_translation import sentences

from data_tools.cli import run_main
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.output import fairseq_lines
from finetune.mt.decoding.translator import Hypothesis, Translator
from finetune.mt.generate import main, parse_arguments

SCORE_TOLERANCE = 1e-4
ROOT = Path(__file__).parents[3]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["generate", *map(str, arguments)])
    main()


def test_command_prints_fairseq_lines_and_writes_plain_text(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*sentences(5, 7), ""]
    with gzip.open(tmp_path / "source.gz", "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    reference = write_lines(tmp_path / "reference", [f"{line} ." for line in lines])
    files = ("--input", tmp_path / "source.gz", "--reference", reference, "--output", tmp_path / "out")
    run(monkeypatch, model_dir, *files, "--beam", 3, "--lenpen", 0.7, "--nbest", 2)
    options = SearchOptions(beam=3, lenpen=0.7, nbest=2)
    ours = Translator.load(model_dir, options)
    expected = ours.translate(lines)
    printed, told = capsys.readouterr()
    rows = [row.split("\t") for row in printed.split("\n")[:-1]]
    assert [row[0] for row in rows] == [f"{kind}-{i}" for i in range(6) for kind in "STHDPHDP"]
    for i, (line, hypotheses) in enumerate(zip(lines, expected, strict=True)):
        assert rows[8 * i][1] == ours.source_as_pieces(line)
        assert rows[8 * i + 1][1] == ours.reference(f"{line} .", as_text=False)
        for rank, hypothesis in enumerate(hypotheses):
            pieces, text, positions = rows[8 * i + 2 + 3 * rank : 8 * i + 5 + 3 * rank]
            assert float(pieces[1]) == float(text[1]) == pytest.approx(hypothesis.score, abs=SCORE_TOLERANCE)
            assert pieces[2] == hypothesis.pieces and text[2] == hypothesis.text
            scores = [float(score) for score in positions[1].split()]
            assert scores == pytest.approx(hypothesis.positional_scores, abs=SCORE_TOLERANCE)
    plain = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
    assert plain == [*(hypotheses[0].text for hypotheses in expected), ""]
    assert plain[5] == "" and len(plain) == 7  # the empty line keeps its place
    assert "words/s" in told and "sacreBLEU" in told and "tok:13a" in told
    assert "1 empty lines have an empty translation" in told
    assert not list(tmp_path.glob(".out*"))


def test_fairseq_lines_to_the_character() -> None:
    nothing = Hypothesis([], "", "", [], 0.0)
    assert list(fairseq_lines(7, "", None, [nothing], False)) == ["S-7\t", "H-7\t0.0\t", "D-7\t0.0\t", "P-7\t"]
    scored = Hypothesis([9, 8, 2], "▁a b", "ab", [-1.0, -0.00004], -0.50002)
    expected = ["S-0\tb", "T-0\tc", "H-0\t-0.50002\t▁a b", "D-0\t-0.50002\tab", "P-0\t-1.0000 -0.0000"]
    assert list(fairseq_lines(0, "b", "c", [scored], as_text=False)) == expected
    expected[2] = "H-0\t-0.50002\tab"
    assert list(fairseq_lines(0, "b", "c", [scored], as_text=True)) == expected


def test_output_is_utf8_whatever_the_terminal(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    run(monkeypatch, model_dir, "--input", write_lines(tmp_path / "source", ["1 2 3"]))
    assert isinstance(terminal.buffer, io.BytesIO)
    assert "▁" in terminal.buffer.getvalue().decode("utf-8").splitlines()[0]


def test_other_formats_are_not_translated(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "a.txt", ['{"text": "1 2 3"}'])
    write_lines(tmp_path / "a.jsonl", ["1 2 3"])
    for name, message in [("a.txt", "JSON, expected plain text"), ("a.jsonl", "by its suffix jsonl, expected plain")]:
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            run(monkeypatch, model_dir, "--input", tmp_path / name)


def test_scores_of_references(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, translations = sentences(4, 11), sentences(4, 12)
    files = (
        "--input",
        write_lines(tmp_path / "source", lines),
        "--reference",
        write_lines(tmp_path / "reference", translations),
    )
    run(monkeypatch, model_dir, *files, "--score-reference", "--lenpen", 0.5, "--remove-bpe", "sentencepiece")
    rows = [row.split("\t") for row in capsys.readouterr().out.split("\n")[:-1]]
    ours = Translator.load(model_dir, SearchOptions(lenpen=0.5))
    expected = [hypotheses[0] for hypotheses in ours.score(lines, translations)]
    assert [row[-1] for row in rows if row[0][0] == "S"] == lines
    assert [row[-1] for row in rows if row[0][0] == "H"] == translations
    assert [float(row[1]) for row in rows if row[0][0] == "H"] == pytest.approx([one.score for one in expected])
    run(monkeypatch, model_dir, *files, "--score-reference", "--lenpen", 0.5, "--quiet", "--output", tmp_path / "out")
    printed, told = capsys.readouterr()
    assert printed == "" and "scored 4 sentences" in told and "BLEU" not in told
    scores = [float(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert scores == pytest.approx([one.score for one in expected])


def test_standard_input_quietly(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"haus\n\nrot und alt\r\n")))
    run(monkeypatch, model_dir, "--quiet", "--beam", 2, "--dtype", "bfloat16")
    printed = capsys.readouterr().out.split("\n")
    assert len(printed) == 4 and printed[1] == ""  # a line for each of three, and nothing but translations


def test_no_input_leaves_an_earlier_output(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a command that failed."""
    (tmp_path / "out").write_text("earlier")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(ValueError, match="standard input has no line: nothing to translate"):
        run(monkeypatch, model_dir, "--quiet", "--output", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "earlier"


def test_a_typed_line_is_answered_at_once(model_dir: Path) -> None:
    """The answer comes while the other end of the pipe is still open; if it were delayed, this would hang."""
    command = [sys.executable, "-m", "finetune.mt.generate", str(model_dir), "--quiet"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        answers = []
        for line in ("haus", "rot und alt"):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answers.append(process.stdout.readline())
        process.stdin.close()
        assert process.stdout.read() == ""
    expected = Translator.load(model_dir, SearchOptions()).translate(["haus", "rot und alt"])
    assert answers == [f"{hypotheses[0].text}\n" for hypotheses in expected]


def test_a_pipe_is_read_once(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=("haus\nrot\n",))
    writer.start()
    run(monkeypatch, model_dir, "--quiet", "--input", pipe)
    writer.join()
    assert len(capsys.readouterr().out.splitlines()) == 2


def filled_pipe(path: Path, lines: list[str]) -> Path:
    """A named pipe from which the lines can be read once."""
    os.mkfifo(path)
    Thread(target=write_lines, args=(path, lines), daemon=True).start()
    return path


@pytest.mark.parametrize("pipes", ["reference", "input", "both", "standard input", "standard input as reference"])
def test_references_may_be_pipes(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pipes: str
) -> None:
    """Whichever side is a pipe, T-lines and BLEU are those of files."""
    lines, references = sentences(5, 14), sentences(5, 15)
    texts = {"source": write_lines(tmp_path / "s", lines), "reference": write_lines(tmp_path / "r", references)}
    run(monkeypatch, model_dir, "--input", texts["source"], "--reference", texts["reference"])
    expected = capsys.readouterr()
    flags: list[object] = ["--reference", texts["reference"], "--input", texts["source"]]
    if pipes in ("reference", "both"):
        flags[1] = filled_pipe(tmp_path / "references", references)
    if pipes in ("input", "both"):
        flags[3] = filled_pipe(tmp_path / "sources", lines)
    if pipes.startswith("standard input"):
        path = texts["source" if pipes == "standard input" else "reference"]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        flags = flags[:2] if pipes == "standard input" else ["--reference", "-", *flags[2:]]
    run(monkeypatch, model_dir, *flags)
    found = capsys.readouterr()
    assert found.out == expected.out and found.out.count("T-") == 5
    bleu = expected.err[expected.err.index("sacreBLEU") :]
    assert found.err.endswith(bleu)


def test_references_of_another_length_in_pipes(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a file it is found before the work; with a pipe when the shorter side ends."""
    two, three = write_lines(tmp_path / "two", ["haus", "rot"]), write_lines(tmp_path / "three", ["haus", "rot", "alt"])
    for number, (flags, message) in enumerate(
        [
            (["--input", two, "--reference", filled_pipe(tmp_path / "a", ["a"] * 3)], "two has 2 lines but .*a has 3:"),
            (["--input", filled_pipe(tmp_path / "b", ["a"] * 3), "--reference", two], "two has 2 lines, .*b more"),
            (["--input", filled_pipe(tmp_path / "c", ["a"] * 2), "--reference", three], "c has 2 lines, .*three more"),
        ]
    ):
        with pytest.raises(ValueError, match=message):
            run(monkeypatch, model_dir, *flags, "--output", tmp_path / "out")
        assert bool(capsys.readouterr().out) == (number == 2) and not (tmp_path / "out").exists()
    os.mkfifo(tmp_path / "d")
    for one, other in ((tmp_path / "d", tmp_path / "d"), ("-", "-")):
        with pytest.raises(ValueError, match="cannot be both the lines to translate and their --reference"):
            run(monkeypatch, model_dir, "--input", one, "--reference", other)


def test_report_of_long_translations_and_the_language_of_bleu(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Translations that reached their limit are counted; the target language determines sacreBLEU's tokenizer."""
    source = write_lines(tmp_path / "source", sentences(4, 3))
    options = ("--input", source, "--reference", source, "--quiet", "--max-len-a", 0, "--max-len-b", 2)
    run(monkeypatch, model_dir, *options)
    told = capsys.readouterr().err
    found = Translator.load(model_dir, SearchOptions(max_len_a=0, max_len_b=2)).translate(sentences(4, 3))
    number = sum(len(hypotheses[0].ids) == 3 for hypotheses in found)  # two pieces and </s>
    assert number and f"\n{number} translations ended at the limit of --max-len-a and --max-len-b" in told
    assert "tok:13a" in told
    monkeypatch.setattr(Translator, "target_language", "zh-CN")
    run(monkeypatch, model_dir, *options)
    assert "tok:zh" in capsys.readouterr().err


@pytest.mark.parametrize("starter", ["workers", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_several_processes_print_the_same(model_dir: Path, tmp_path: Path, starter: str) -> None:
    lines = [*sentences(25, 13), ""]
    source = write_lines(tmp_path / "source", lines)
    arguments = [str(model_dir), "--input", str(source), "--max-tokens", "60", "--nbest", "2"]
    if starter == "workers":
        result = run_module("finetune.mt.generate", *arguments, "--workers", "2")
    else:
        launcher = ["--standalone", "--nproc-per-node", "2", "-m", "finetune.mt.generate"]
        result = run_module("torch.distributed.run", *launcher, *arguments)
    assert result.returncode == 0, result.stderr
    ours = Translator.load(model_dir, replace(SearchOptions(), max_tokens=60, nbest=2))
    expected = [
        row
        for i, (line, hypotheses) in enumerate(zip(lines, ours.translate(lines), strict=True))
        for row in fairseq_lines(i, ours.source_as_pieces(line), None, hypotheses, as_text=False)
    ]
    assert result.stdout.split("\n")[:-1] == expected
    assert result.stderr.count("translated 26 sentences") == 1


def test_bad_command_is_one_line(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write_lines(tmp_path / "one", ["haus"]), write_lines(tmp_path / "two", ["haus", "baum"])
    empty = write_lines(tmp_path / "empty", [])
    (tmp_path / "link").symlink_to("one")
    for flags, message in [
        (["--input", tmp_path / "none"], "none: No such file"),
        (["--input", empty], "empty has no line: nothing to translate"),
        (["--input", one, "--output", tmp_path / "no" / "out"], "there is no directory"),
        (["--input", one, "--output", tmp_path / "nix" / ".." / "one"], "is the input"),
        (["--input", one, "--output", one], "is the input"),
        (["--input", one, "--reference", one, "--output", tmp_path / "link"], "is the input"),
        (["--input", one, "--output", model_dir / "config.json"], "config.json: is the input"),
        (["--input", one, "--reference", two], "one has 1 lines but"),
        (["--input", one, "--score-reference"], "--score-reference needs the translations to score"),
        (["--input", one, "--engine", "ct2", "--unkpen", "1"], "--unkpen is for --engine torch"),
        (["--input", one, "--beam", "0"], "--beam must be at least 1"),
        (["--input", one, "--lenpen", "11"], "--lenpen must be between -10 and 10, found 11"),
        (["--input", one, "--max-len-b", "0"], "--max-len-b must be at least --min-len, found 0 with --min-len 1"),
        (["--input", one, "--workers", "0"], "--workers must be at least 1"),
        (["--input", one, "--target-language", "xx"], "no tag __xx__"),
        (["--input", one, "--engine", "ct2", "--dtype", "float32"], "--dtype is for --engine torch"),
    ]:
        monkeypatch.setattr(sys, "argv", ["generate", str(model_dir), *map(str, flags)])
        with pytest.raises(SystemExit) as stopped:
            run_main(main)
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and message in printed.err and printed.out == ""
        assert printed.err.count("\n") == 1 and printed.err.startswith("error: "), printed.err


def test_defaults() -> None:
    arguments = parse_arguments(["M", "--input", "F"])
    assert (arguments.beam, arguments.lenpen, arguments.engine, arguments.workers) == (5, 1.0, "torch", 1)
