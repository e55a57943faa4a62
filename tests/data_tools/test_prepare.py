import errno
import fcntl
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from transformers import AutoTokenizer

from data_tools.corpus.configuration import Corpus
from data_tools.prepare import begin, main, open_locked, prepare
from data_tools.shards.format import Shard
from data_tools.shards.manifest import Manifest
from data_tools.stages.executors import Stage, run_locally
from data_tools.stages.plan import make_plan
from data_tools.tokenizers.sentence_piece import PieceEncoder

MODULE = "data_tools.prepare"


def _prepare(corpus_file: Path, output: Path, num_workers: int = 1, shard_tokens: int = 1500) -> Manifest:
    prepare(Corpus.load(corpus_file), output, shard_tokens, partial(run_locally, num_workers=num_workers))
    return Manifest.load(output)


def _run_here(stages: Sequence[Stage], logs: Path) -> None:
    """Run all tasks in this process, where a test can patch functions."""
    for stage in stages:
        for rank in range(stage.num_tasks):
            data = None
            for step in stage.steps:
                data = step.run(data, rank, stage.num_tasks)


def _content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def a_task_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each file a task of its own, even the smallest."""
    monkeypatch.setattr("data_tools.stages.plan.MIN_PART_BYTES", 1)


def test_shards_hold_the_text_in_order(
    tmp_path: Path, corpus_file: Path, tokenizer_dir: Path, sentences: dict[str, list[str]]
) -> None:
    data = tmp_path / "data"
    manifest = _prepare(corpus_file, data, num_workers=2)
    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizer")
    assert manifest.vocab_size == len(tokenizer)
    for language in ("de", "ru"):
        shards = [Shard(data / info.prefix) for info in manifest.mono[language]]
        assert len(shards) > 3
        expected = tokenizer(sentences[language][:300], add_special_tokens=False)["input_ids"]
        assert [ids.tolist() for shard in shards for ids in shard] == expected
        assert sum(shard.num_documents for shard in shards) == 60
        pair_sides = [Shard(data / sides[language].prefix) for sides in manifest.parallel["de-ru"]]
        assert [ids.tolist() for shard in pair_sides for ids in shard] == expected
    for sides in manifest.parallel["de-ru"]:
        assert sides["de"].num_sequences == sides["ru"].num_sequences
    assert [info.prefix for info in manifest.mono["de"][:2]] == ["mono/de/00000", "mono/de/00001"]
    assert manifest.parallel["de-ru"][1]["ru"].prefix == "parallel/de-ru/00001.ru"
    assert Manifest.load(data) == manifest
    assert sorted(path.name for path in data.iterdir()) == [
        "manifest.json",
        "mono",
        "parallel",
        "plan.json",
        "tokenizer",
    ]


def test_the_tokenizer_is_copied_without_weights(tmp_path: Path, corpus_file: Path, tokenizer_dir: Path) -> None:
    model_dir = tmp_path / "model"
    shutil.copytree(tokenizer_dir, model_dir)
    (model_dir / "model.safetensors").write_bytes(b"weights")
    corpus_file.write_text(corpus_file.read_text().replace(str(tokenizer_dir), "model"))
    _prepare(corpus_file, tmp_path / "data")
    assert _content(tmp_path / "data" / "tokenizer") == _content(tokenizer_dir)


@pytest.mark.usefixtures("a_task_a_file")
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, corpus_file: Path) -> None:
    for num_workers in (1, 2, 5):
        _prepare(corpus_file, tmp_path / f"data{num_workers}", num_workers)
    assert _content(tmp_path / "data1") == _content(tmp_path / "data2") == _content(tmp_path / "data5")


def test_killed_at_any_time_a_second_run_completes_the_same_bytes(
    tmp_path: Path, corpus_file: Path, environment: dict[str, str]
) -> None:
    _prepare(corpus_file, tmp_path / "undisturbed")
    command = [
        sys.executable,
        "-m",
        MODULE,
        str(corpus_file),
        "--output",
        str(tmp_path / "data"),
        "--shard-tokens",
        "1500",
    ]
    return_codes = []
    for delay in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, None):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if delay is not None:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        return_codes.append(process.wait())
    assert return_codes[0] == -signal.SIGKILL
    assert return_codes[-1] == 0
    assert _content(tmp_path / "data") == _content(tmp_path / "undisturbed")


@pytest.mark.parametrize("num_moves", [0, 1, 10])
def test_a_run_stopped_while_renaming_shards_is_completed(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, num_moves: int
) -> None:
    moved = []
    replace = os.replace

    def stops(source: Path, target: Path) -> None:
        if len(moved) == num_moves:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    def run(stages: Sequence[Stage], logs: Path) -> None:
        _run_here(stages[:-1], logs)
        monkeypatch.setattr("data_tools.stages.pipeline.os.replace", stops)
        _run_here(stages[-1:], logs)

    with pytest.raises(KeyboardInterrupt):
        prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, run)
    monkeypatch.undo()
    assert not (tmp_path / "data" / "manifest.json").exists()
    with pytest.raises(ValueError, match="--shard-tokens was 1500, is 9; choose another output"):
        _prepare(corpus_file, tmp_path / "data", shard_tokens=9)  # which leaves alone what is still to be renamed
    _prepare(corpus_file, tmp_path / "data")
    _prepare(corpus_file, tmp_path / "undisturbed")
    assert _content(tmp_path / "data") == _content(tmp_path / "undisturbed")


@pytest.mark.usefixtures("a_task_a_file")
def test_finished_work_is_not_done_again(tmp_path: Path, corpus_file: Path) -> None:
    broken = tmp_path / "text" / "pair2.ru"
    whole = broken.read_bytes()
    broken.write_bytes(whole + b"\xff\n")
    with pytest.raises(ValueError, match=r"pair2\.ru: line 101 is not UTF-8"):
        _prepare(corpus_file, tmp_path / "data")
    results = _results(tmp_path / "data")
    broken.write_bytes(whole)

    moments = []

    def run_and_look(stages: Sequence[Stage], logs: Path) -> None:
        _run_here(stages[:-1], logs)
        moments.append(_results(tmp_path / "data"))
        _run_here(stages[-1:], logs)

    prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, run_and_look)
    assert len(results) >= 1, "the error should have come after some other input was done"
    assert results.items() <= moments[0].items()
    assert len(moments[0]) == 9

    content = _content(tmp_path / "data")
    broken.touch()  # known by its content
    assert not prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, _run_here)
    assert _content(tmp_path / "data") == content


def _results(data: Path) -> dict[Path, int]:
    """When each task was finished."""
    return {path: path.stat().st_mtime_ns for path in (data / ".work").rglob("result.json")}


@pytest.mark.usefixtures("a_task_a_file")
def test_an_earlier_corpus_can_be_continued(tmp_path: Path, corpus_file: Path) -> None:
    """A is killed, B begun and killed, A begun again: markers of finished tasks are removed with their output."""
    first = corpus_file.read_text()
    second = first + "\n        filters: {digits: 0.9}\n"

    def stop_early(stages: Sequence[Stage], logs: Path) -> None:
        run_locally([replace(stages[0], num_tasks=2)], logs, num_workers=1)
        raise KeyboardInterrupt

    for text in (first, second):
        corpus_file.write_text(text)
        with pytest.raises(KeyboardInterrupt):
            prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, stop_early)
    corpus_file.write_text(first)
    _prepare(corpus_file, tmp_path / "data")
    _prepare(corpus_file, tmp_path / "undisturbed")
    assert _content(tmp_path / "data") == _content(tmp_path / "undisturbed")


def test_left_overs_of_killed_runs_are_removed(tmp_path: Path, corpus_file: Path) -> None:
    data = tmp_path / "data"
    (data / ".tokenizer.host.12.tmp").mkdir(parents=True)
    for name in (".plan.json.host.12.tmp", ".manifest.json.host.12.tmp", ".lock"):
        (data / name).touch()
    _prepare(corpus_file, data)
    _prepare(corpus_file, tmp_path / "undisturbed")
    assert _content(data) == _content(tmp_path / "undisturbed")


def test_the_tokenizer_may_be_next_to_the_output(tmp_path: Path, corpus_file: Path, tokenizer_dir: Path) -> None:
    shutil.copytree(tokenizer_dir, tmp_path, dirs_exist_ok=True)
    corpus_file.write_text(corpus_file.read_text().replace(str(tokenizer_dir), "."))
    _prepare(corpus_file, tmp_path / "data")
    assert _content(tmp_path / "data" / "tokenizer") == _content(tokenizer_dir)


@pytest.mark.usefixtures("a_task_a_file")
def test_a_run_continues_after_a_full_disk(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished work is kept, and the next run ends with the same bytes."""
    num_synced = 0

    def is_full(descriptor: int) -> None:
        nonlocal num_synced
        num_synced += ".bin." in os.readlink(f"/proc/self/fd/{descriptor}")  # the temporary file of a shard
        if num_synced == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", is_full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, _run_here)
    assert str(tmp_path / "data") in str(caught.value.filename)
    monkeypatch.undo()
    assert _results(tmp_path / "data")
    _prepare(corpus_file, tmp_path / "data")
    _prepare(corpus_file, tmp_path / "undisturbed")
    assert _content(tmp_path / "data") == _content(tmp_path / "undisturbed")
    with pytest.raises(OSError, match="text/pair0.de"):
        _prepare(corpus_file, tmp_path / "text" / "pair0.de" / "data")


def test_a_language_without_training_text_is_named(tmp_path: Path, corpus_file: Path) -> None:
    corpus_file.write_text(corpus_file.read_text() + "\n        filters: {length: {min: 1000}}\n")
    with pytest.raises(ValueError) as caught:
        _prepare(corpus_file, tmp_path / "data")
    for name in ("mono/de", "mono/ru", "parallel/de-ru"):
        assert f"{name}: no sentences to train on" in str(caught.value)
    assert "300 too_short" in str(caught.value)
    assert not (tmp_path / "data" / "mono").exists()


def test_another_plan_needs_another_output(tmp_path: Path, corpus_file: Path) -> None:
    _prepare(corpus_file, tmp_path / "data")
    content = _content(tmp_path / "data")
    with pytest.raises(ValueError, match="--shard-tokens was 1500, is 1501; choose another output"):
        _prepare(corpus_file, tmp_path / "data", shard_tokens=1501)
    with (tmp_path / "text" / "pair0.de").open("a") as source, (tmp_path / "text" / "pair0.ru").open("a") as target:
        source.write("mehr\n")
        target.write("больше\n")
    with pytest.raises(ValueError, match=r"changed or .*: parallel/de-ru: \S+pair0\.de, \S+pair0\.ru; choose another"):
        _prepare(corpus_file, tmp_path / "data")
    assert _content(tmp_path / "data") == content


def test_output_of_an_earlier_version_is_kept_or_begun_anew(tmp_path: Path, corpus_file: Path) -> None:
    """Finished output is kept; unfinished output is started again."""
    _prepare(corpus_file, tmp_path / "data")
    _prepare(corpus_file, tmp_path / "undisturbed")
    plan = tmp_path / "data" / "plan.json"
    plan.write_text(plan.read_text().replace('"version": 3', '"version": 2'))
    content = _content(tmp_path / "data")
    with pytest.raises(ValueError, match=r"made by another version of data_tools\.prepare.*; choose another output"):
        _prepare(corpus_file, tmp_path / "data")
    assert _content(tmp_path / "data") == content
    for name in ("mono", "parallel"):
        shutil.rmtree(tmp_path / "data" / name)
    (tmp_path / "data" / "manifest.json").unlink()
    _prepare(corpus_file, tmp_path / "data")
    assert _content(tmp_path / "data") == _content(tmp_path / "undisturbed")


def test_a_directory_with_a_running_prepare_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    def begin_another(stages: Sequence[Stage], logs: Path) -> None:
        with pytest.raises(ValueError, match="another data_tools.prepare is working in this directory"):
            _prepare(corpus_file, tmp_path / "data")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, begin_another)
    assert not (tmp_path / "data" / ".lock").exists()
    _prepare(corpus_file, tmp_path / "data")
    assert not (tmp_path / "data" / ".lock").exists()


def test_a_lock_that_was_removed_while_it_was_opened_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process ended between our opening the file and our locking it."""
    path = tmp_path / ".lock"
    flock = fcntl.flock
    opened = []

    def ends_meanwhile(file: IO[str], operation: int) -> None:
        opened.append(file)
        if len(opened) == 1:
            path.unlink()
        flock(file, operation)

    monkeypatch.setattr("fcntl.flock", ends_meanwhile)
    with open_locked(path) as file:
        assert len(opened) == 2 and opened[0].closed
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())
        with pytest.raises(BlockingIOError):
            open_locked(path)


def test_the_limit_of_open_files_is_checked_before_the_work(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus_file.write_text(corpus_file.read_text() + "\n        deduplicate: {minhash: true}\n")
    monkeypatch.setattr("resource.getrlimit", lambda kind: (64, 101))
    with pytest.raises(ValueError, match="mono/de: 102 files must be open at once, but the system allows 101; raise"):
        prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, _run_here)
    assert not (tmp_path / "data").exists()


def test_a_directory_with_other_content_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    with pytest.raises(ValueError, match="not made by data_tools"):
        _prepare(corpus_file, tmp_path / "text")
    assert not (tmp_path / "text" / ".lock").exists()


@pytest.mark.parametrize("name", [".work/tasks/notes", ".logs/notes", ".bashrc.old", ".tokenizer.tmp"])
def test_hidden_files_of_others_are_left_alone(tmp_path: Path, corpus_file: Path, name: str) -> None:
    notes = tmp_path / "home" / name
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(ValueError, match="not made by data_tools"):
        _prepare(corpus_file, notes.parents[len(Path(name).parts) - 1])
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == [notes]


def test_files_that_users_add_are_kept(tmp_path: Path, corpus_file: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make_plan(Corpus.load(corpus_file), data, "other", 10).save()
    for name in (".notes.old", ".notes.tmp", "notes.txt"):
        (data / name).write_text("mine")
    _prepare(corpus_file, data)
    assert all((data / name).read_text() == "mine" for name in (".notes.old", ".notes.tmp", "notes.txt"))


def test_a_tokenizer_with_files_of_others_is_not_replaced(
    tmp_path: Path, corpus_file: Path, tokenizer_dir: Path
) -> None:
    data, encoder = tmp_path / "data", PieceEncoder(tokenizer_dir)
    data.mkdir()
    plan = make_plan(Corpus.load(corpus_file), data, encoder.tokenizer_sha256, 10)
    begin(plan, encoder)
    (data / "tokenizer" / "mine.txt").write_text("mine")
    begin(plan, encoder)  # there is nothing to replace
    (data / "tokenizer" / "tokenizer.json").write_text("{}")
    before = _content(data)
    with pytest.raises(ValueError, match=r"data/tokenizer: holds mine\.txt, not written by data_tools\.prepare"):
        begin(plan, encoder)
    assert _content(data) == before
    (data / "tokenizer" / "mine.txt").unlink()
    (data / "tokenizer" / "sentencepiece.bpe.model").unlink()  # as a kill leaves it
    begin(plan, encoder)
    assert _content(data / "tokenizer") == _content(tokenizer_dir)


def test_a_finished_directory_keeps_its_tokenizer_and_says_that_it_is_not_up_to_date(
    tmp_path: Path, corpus_file: Path, tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one has that was made before its source named a class: pre-training that has begun goes on with it."""
    source, copy = tmp_path / "source", tmp_path / "data" / "tokenizer"
    shutil.copytree(tokenizer_dir, source)
    corpus_file.write_text(corpus_file.read_text().replace(str(tokenizer_dir), "source"))
    _prepare(corpus_file, copy.parent)
    (copy / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    old = _content(copy.parent)
    _prepare(corpus_file, copy.parent)
    assert "data/tokenizer: tokenizer_config.json not as now made of" in capsys.readouterr().err
    assert _content(copy.parent) == old
    shutil.rmtree(copy)
    _prepare(corpus_file, copy.parent)
    _prepare(corpus_file, copy.parent)
    assert _content(copy) == _content(source) and "not as now made" not in capsys.readouterr().err


def test_an_input_inside_the_output_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make_plan(Corpus.load(corpus_file), data, "other", 10).save()
    shutil.copy(tmp_path / "text" / "pair1.de", data / "more.de")
    corpus_file.write_text(corpus_file.read_text().replace("text/mono*.de.gz", f"{data}/*.de"))
    with pytest.raises(ValueError, match=r"the input .*more\.de is in it"):
        _prepare(corpus_file, data)
    assert not (data / "tokenizer").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--slurm-partition", "cpu"], "--slurm-partition is for --executor slurm, found local; leave"),
        (
            ["--slurm-argument", "account=nlp", "--executor", "ray"],
            "--slurm-argument is for --executor slurm, found ray",
        ),
        (["--slurm-memory-gb", "3"], "--slurm-memory-gb is for --executor slurm"),
        (["--slurm-memory-gb", "0", "--executor", "slurm"], "--slurm-memory-gb 0: expected at least 1"),
        (["--ray-address", "auto"], "--ray-address is for --executor ray, found local"),
        (["--workers", "0"], "--workers 0: expected at least 1"),
    ],
)
def test_flags_that_nothing_would_read_are_refused(
    flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", "corpus.yaml", "--output", "data", *flags])
    with pytest.raises(ValueError, match=f"^{message}"):
        main()


def test_the_command_line_prints_the_tables(tmp_path: Path, corpus_file: Path, run_module: Callable) -> None:
    with (tmp_path / "text" / "pair0.de").open("a") as source, (tmp_path / "text" / "pair0.ru").open("a") as target:
        source.write("mehr\n\n")
        target.write("\nбольше\n")
    process = run_module(MODULE, corpus_file, "--output", tmp_path / "data", "--workers", "2")
    assert process.returncode == 0, process.stderr
    row = next(line for line in process.stdout.splitlines() if "de-ru" in line)
    assert "300" in row and "2 empty_side" in row
    assert "tokens/s" in process.stdout
    assert Manifest.load(tmp_path / "data").dropped == {"parallel/de-ru": {"empty_side": 2}}


def test_unknown_text_is_reported_in_the_last_lines(
    tmp_path: Path, tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zh.txt").write_text("漢字\n漢\nniemand\n", encoding="utf-8")
    (tmp_path / "de.txt").write_text("niemand\n" * 300 + "niemand 漢\n", encoding="utf-8")
    (tmp_path / "corpus.yaml").write_text(f"tokenizer: {tokenizer_dir}\nmono: {{zh: zh.txt, de: de.txt}}\n")
    arguments = [str(tmp_path / "corpus.yaml"), "--output", str(tmp_path / "data"), "--workers", "1"]
    monkeypatch.setattr("sys.argv", ["prepare", *arguments])
    main()
    captured = capsys.readouterr()
    zh = Manifest.load(tmp_path / "data").unknown["mono/zh"]["zh"]
    assert (zh.pieces, zh.characters, zh.of_characters) == (2, 3, 10)
    share = f"{100 * 2 / zh.of_pieces:.2f} %"
    told = captured.out.splitlines()[-2]
    assert told.startswith(f"unknown pieces (characters they cover): zh {share} (30.00 %), de 0.")
    (warning,) = [line for line in captured.err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: zh: {share} of its pieces are unknown") and "30.00 % of its char" in warning


def test_all_broken_files_are_reported_in_one_run(
    tmp_path: Path, corpus_file: Path, run_module: Callable, assert_one_line_error: Callable
) -> None:
    """Two in one task, and one in another."""
    for name in ("pair0.de", "pair2.ru"):
        with (tmp_path / "text" / name).open("ab") as file:
            file.write(b"\xff\n")
    (tmp_path / "text" / "mono1.de.gz").write_bytes(b"no gzip")
    process = run_module(MODULE, corpus_file, "--output", tmp_path / "data", "--workers", "1")
    assert_one_line_error(process, "error: 3 inputs failed (see above)")
    failed = sorted(line.rpartition("/")[2] for line in process.stderr.splitlines() if line.startswith("failed: "))
    assert [line.partition(" is ")[0].partition(": by")[0] for line in failed] == [
        "mono1.de.gz",
        "pair0.de: line 101",
        "pair2.ru: line 101",
    ]
    assert all(process.stderr.count(name) == 1 for name in ("pair0.de", "pair2.ru", "mono1.de.gz"))


def test_one_broken_file_is_reported_once(
    tmp_path: Path, corpus_file: Path, run_module: Callable, assert_one_line_error: Callable
) -> None:
    (tmp_path / "text" / "mono1.de.gz").write_bytes(b"no gzip")
    process = run_module(MODULE, corpus_file, "--output", tmp_path / "data", "--workers", "1")
    assert_one_line_error(process, "mono1.de.gz: by its suffix .gz")
    assert process.stderr.count("mono1.de.gz") == 1


def test_fifteen_hundred_small_files_take_seconds(
    tmp_path: Path, corpus_file: Path, sentences: dict[str, list[str]]
) -> None:
    """One task and one shard for each language and pair, in the order of the names."""
    for i, line in enumerate(sentences["de"] * 2):
        (tmp_path / "text" / f"{i:04d}.txt").write_text(line + "\n", encoding="utf-8")
    corpus_file.write_text(re.sub(r"mono:(.|\n)*", "mono: {de: text/*.txt}\n", corpus_file.read_text()))
    start = time.monotonic()
    manifest = _prepare(corpus_file, tmp_path / "data", num_workers=2, shard_tokens=10**8)
    assert time.monotonic() - start < 30, "10 s on a quiet machine"
    (info,) = manifest.mono["de"]
    assert info.num_sequences == 1500 and info.num_documents == 1500
    encoder = PieceEncoder(tmp_path / "data" / "tokenizer")
    shard = Shard(tmp_path / "data" / info.prefix)
    assert [encoder.decode(shard[i]) for i in (0, 1, 749, 750, 1499)] == [
        sentences["de"][i] for i in (0, 1, 749, 0, 749)
    ]


def test_bad_input_is_one_line(
    tmp_path: Path, corpus_file: Path, run_module: Callable, assert_one_line_error: Callable
) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        return run_module(MODULE, corpus_file, "--output", tmp_path / "data")

    with (tmp_path / "text" / "pair1.de").open("a") as file:
        file.write("eine mehr\nund noch eine\n")
    assert_one_line_error(run(), "pair1.de has 102 lines", "pair1.ru has 100")
    (tmp_path / "text" / "pair1.de").unlink()
    assert_one_line_error(run(), "text/pair*.de matches 2 files")
    (tmp_path / "text" / "pair1.ru").unlink()
    (tmp_path / "text" / "mono1.ru.gz").write_bytes(gzip.compress(b"a\nb\n" * 10_000)[:-20])
    assert_one_line_error(run(), "mono1.ru.gz", "cut short")
    for path in (tmp_path / "text").glob("mono*.ru.gz"):
        path.write_bytes(gzip.compress(b"\n \n"))
    assert_one_line_error(run(), "mono/ru: no sentences to train on in")
    assert_one_line_error(run_module(MODULE, tmp_path / "none.yaml", "--output", tmp_path / "x"), "none.yaml")
    assert_one_line_error(run_module(MODULE, corpus_file, "--output", tmp_path / "x", "--workers", "0"), "--workers 0")
    assert not (tmp_path / "data" / "manifest.json").exists()
    assert not (tmp_path / "data" / "mono").exists()
