"""Turn raw text into token shards: `python -m data_tools.prepare CORPUS.yaml --output DATA`.

The inputs of CORPUS.yaml are cut into tasks (data_tools.stages.plan), the tasks pass through stages
(data_tools.stages.pipeline), and an executor of datatrove runs those that are not done yet
(data_tools.stages.executors):

    DATA/plan.json          what the directory is made from; another corpus needs another directory
    DATA/.work/             intermediate output of tasks; removed at the end
    DATA/.logs/             logs of the executor; likewise
    DATA/tokenizer/         copy of the tokenizer (data_tools.tokenizers.copying)
    DATA/mono/de/00000.{bin,idx}, DATA/parallel/de-en/00000.{de,en}.{bin,idx}, and the same under DATA/valid/
    DATA/manifest.json      written last

A run that was killed, or in which tasks failed, continues with the missing tasks. All bytes depend only on the text (in
plan.json also on its paths), the tokenizer and the settings, not on the executor, the number of workers or on kills.
"""

import argparse
import fcntl
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from data_tools.cli import FlagParser, run_main, warn
from data_tools.corpus.configuration import Corpus
from data_tools.describe import print_tables, print_unknown
from data_tools.files.atomic import left_overs_of
from data_tools.files.directories import atomic_directory, shortened
from data_tools.files.outputs import check_output_directory
from data_tools.shards.manifest import MANIFEST_NAME, Manifest
from data_tools.stages.executors import SlurmOptions, Stage, run_locally, run_on_ray, run_on_slurm
from data_tools.stages.pipeline import make_stages, remove_work
from data_tools.stages.plan import (
    LOCK_NAME,
    LOGS_NAME,
    TOKENIZER_NAME,
    WORK_NAME,
    WRITTEN_NAMES,
    Plan,
    make_plan,
    plan_of,
)
from data_tools.stages.plan_changes import changes
from data_tools.tokenizers.agreement import check_as_in_transformers
from data_tools.tokenizers.copying import TOKENIZER_FILES, copy_tokenizer, different_files
from data_tools.tokenizers.encoder import Encoder, open_encoder

DEFAULT_SHARD_TOKENS = 100_000_000
DEFAULT_MEMORY_GB = 2
FINAL_NAMES = ("mono", "parallel", "valid")
EXECUTORS = ("local", "slurm", "ray")
RunStages = Callable[[Sequence[Stage], Path], None]


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Lock the directory against other runs of prepare; raises ValueError if one is working in it.

    The lock is released when its process dies; its file is removed at the end.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / LOCK_NAME
    try:
        file = open_locked(path)
    except BlockingIOError:
        raise ValueError(f"{output}: another data_tools.prepare is working in this directory") from None
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def open_locked(path: Path) -> IO[str]:
    """Open and lock the file at `path`, made if need be; raises BlockingIOError if another process has locked it."""
    while True:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file since it was opened: then the lock is on a deleted file.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    stack.pop_all()
                    return file


def begin(plan: Plan, encoder: Encoder) -> None:
    """Prepare the directory for the tasks of a plan, keeping those that are done.

    Raises ValueError if it has finished shards of another plan, if the tokenizer cannot be used later, or if the
    tokenizer directory, which is to be replaced, has foreign files.
    """
    begun = plan_of(plan.output)
    if begun is not None and begun.key != plan.key and any((plan.output / name).exists() for name in FINAL_NAMES):
        raise ValueError(f"{plan.output}: made {changes(begun, plan)}; choose another output or remove it")
    tokenizer = plan.output / TOKENIZER_NAME
    with copied(encoder) as copy:
        is_other = bool(different_files(copy, tokenizer))
        if is_other and tokenizer.exists() and (others := set(os.listdir(tokenizer)).difference(TOKENIZER_FILES)):
            raise ValueError(
                f"{tokenizer}: holds {shortened(sorted(others))}, not written by data_tools.prepare, which would "
                "replace them; move them elsewhere or choose another output"
            )
        remove_left_overs(plan)
        plan.save()
        if is_other:
            for name in TOKENIZER_FILES:
                (tokenizer / name).unlink(missing_ok=True)
            write_tokenizer_directory(copy, tokenizer)


@contextmanager
def copied(encoder: Encoder) -> Iterator[Path]:
    """A temporary directory with the copy of a tokenizer that goes into a data directory."""
    with TemporaryDirectory(prefix="veco-tokenizer-") as directory:
        copy_tokenizer(encoder, Path(directory))
        yield Path(directory)


def write_tokenizer_directory(copy: Path, tokenizer: Path) -> None:
    with atomic_directory(tokenizer) as temporary:
        shutil.copytree(copy, temporary, dirs_exist_ok=True)


def check_finished_tokenizer(plan: Plan, encoder: Encoder) -> bool:
    """Whether the tokenizer of a finished directory was missing, and is written; warns of one that is not up to date.

    It is not replaced unasked: pre-training that has begun with it goes on with the same files only.
    """
    tokenizer = plan.output / TOKENIZER_NAME
    if not different_files(encoder.tokenizer_dir, tokenizer):  # as mostly, and quickly told
        return False
    with copied(encoder) as copy:
        if not tokenizer.exists():
            with locked(plan.output):
                write_tokenizer_directory(copy, tokenizer)
            return True
        if names := different_files(copy, tokenizer):
            warn(
                f"{tokenizer}: {shortened(names)} not as now made of {encoder.tokenizer_dir}; to have it anew, move "
                f"{tokenizer} elsewhere and run this again (pre-training that has begun needs the old one)"
            )
    return False


def remove_left_overs(plan: Plan) -> None:
    """Remove temporary files of killed runs, and the output of tasks that only earlier plans need.

    The markers of finished tasks are removed before the output of these tasks.
    """
    for name in WRITTEN_NAMES:
        for left_over in left_overs_of(plan.output / name):
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
    useful = {plan.logs, plan.work, plan.output / WORK_NAME / "tasks", *map(plan.directory, plan.tasks)}
    for pattern in (f"{LOGS_NAME}/*", f"{WORK_NAME}/*", f"{WORK_NAME}/tasks/*"):
        for left_over in plan.output.glob(pattern):
            if left_over not in useful:
                shutil.rmtree(left_over)


def prepare(corpus: Corpus, output: Path, shard_tokens: int, run: RunStages) -> bool:
    """Run the stages that make a data directory, or submit them on Slurm; returns whether there was anything to do."""
    output = output.absolute()
    encoder = open_encoder(corpus.tokenizer)
    plan = make_plan(corpus, output, encoder.tokenizer_sha256, shard_tokens)
    if is_finished(plan):  # perhaps on a read-only disk
        if (output / WORK_NAME).exists():  # Slurm's jobs are done, or the last run was killed at the very end
            with locked(output):
                remove_work(output)
        return check_finished_tokenizer(plan, encoder)
    check_as_in_transformers(encoder)
    check_output_directory(output, [path for item in corpus.inputs for path in item.paths])
    stages = make_stages(plan, corpus, shard_tokens)
    with locked(output):
        begin(plan, encoder)
        run(stages, plan.logs)
        if is_finished(plan):
            remove_work(output)
    return True


def is_finished(plan: Plan) -> bool:
    """Whether the directory is finished, by the same plan; raises ValueError for a directory with other content."""
    begun = plan_of(plan.output)
    return begun is not None and begun.key == plan.key and (plan.output / MANIFEST_NAME).exists()


def executor_of(options: argparse.Namespace) -> RunStages:
    """The function that runs the stages with the chosen executor; raises ValueError for missing flags."""
    if options.executor == "slurm":
        return partial(run_on_slurm, num_workers=options.workers, options=slurm_options(options))
    if options.executor == "ray":
        return partial(run_on_ray, num_workers=options.workers, address=options.ray_address)
    return partial(run_locally, num_workers=options.workers)


def slurm_options(options: argparse.Namespace) -> SlurmOptions:
    """The options of Slurm from the flags; raises ValueError for missing flags."""
    for flag, value in (("--slurm-partition", options.slurm_partition), ("--slurm-time", options.slurm_time)):
        if value is None:
            raise ValueError(f"--executor slurm needs {flag}")
    if shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: no command sbatch here; run this on a machine that submits jobs")
    arguments = {}
    for argument in options.slurm_argument:
        name, sign, value = argument.removeprefix("--").partition("=")
        if not sign:
            raise ValueError(f"--slurm-argument {argument}: expected NAME=VALUE, for example account=nlp")
        arguments[name] = value
    return SlurmOptions(
        partition=options.slurm_partition,
        time=options.slurm_time,
        memory_gb=DEFAULT_MEMORY_GB if options.slurm_memory_gb is None else options.slurm_memory_gb,
        # The jobs then find datatrove's launcher and these packages where this Python finds them.
        setup=options.slurm_setup or f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        arguments=arguments,
    )


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m data_tools.prepare",
        description="Tokenise the text named in CORPUS.yaml into memory-mapped shards. After a kill, run it again to "
        "continue; on a finished directory it does nothing.",
    )
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS.yaml", help="see data_tools/corpus/configuration.py for its format"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DATA", help="the data directory to make")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="tasks that run at the same time (default: the number of cores, here %(default)s)",
    )
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="local",
        help="run the tasks in processes of this machine, a Slurm array or a Ray cluster (default %(default)s)",
    )
    parser.add_argument(
        "--shard-tokens",
        type=int,
        default=DEFAULT_SHARD_TOKENS,
        metavar="N",
        help="begin a new shard after N tokens (default %(default)s)",
    )
    slurm = parser.add_argument_group("Slurm", "the jobs are submitted; DATA/manifest.json exists when all are done")
    slurm.add_argument("--slurm-partition", metavar="NAME", help="the partition to run on")
    slurm.add_argument("--slurm-time", metavar="HH:MM:SS", help="time limit of a task")
    slurm.add_argument(
        "--slurm-memory-gb",
        type=int,
        metavar="GB",
        help=f"memory of a task (default {DEFAULT_MEMORY_GB})",
    )
    slurm.add_argument(
        "--slurm-setup", metavar="COMMAND", help="shell command that prepares Python in a job (default: this Python)"
    )
    slurm.add_argument(
        "--slurm-argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of sbatch, for example account=nlp; may be repeated",
    )
    ray = parser.add_argument_group("Ray")
    ray.add_argument(
        "--ray-address", metavar="ADDRESS", help="address of a running cluster (default: start one on this machine)"
    )
    options = parser.parse_args()
    for flag in ("workers", "shard_tokens", "slurm_memory_gb"):
        value = vars(options)[flag]
        if value is not None and value < 1:
            raise ValueError(f"{flag_of(flag)} {value}: expected at least 1")
    for name, value in vars(options).items():
        executor, _, _ = name.partition("_")
        if value and executor in EXECUTORS and executor != options.executor:
            raise ValueError(
                f"{flag_of(name)} is for --executor {executor}, found {options.executor}; leave it out, or choose that"
            )
    return options


def flag_of(name: str) -> str:
    """The flag of the option with that name."""
    return f"--{name.replace('_', '-')}"


def main() -> None:
    """Run the command line."""
    options = parse_arguments()
    start = time.monotonic()
    run = executor_of(options)
    corpus = Corpus.load(options.corpus)
    for warning in corpus.warnings:
        warn(warning)
    was_work = prepare(corpus, options.output, options.shard_tokens, run)
    if not (options.output / MANIFEST_NAME).exists():
        print(f"{options.output}: submitted; see {options.output / LOGS_NAME}, and run this again if a task fails")
        return
    manifest = Manifest.load(options.output)
    num_tokens = print_tables(manifest)
    print_unknown(manifest)
    seconds = time.monotonic() - start
    if was_work:
        print(f"{options.output}: {num_tokens:,} tokens, {seconds:.1f} s, {num_tokens / seconds:,.0f} tokens/s")
    else:
        print(f"{options.output}: already complete, {num_tokens:,} tokens; nothing to do")


if __name__ == "__main__":
    run_main(main)
