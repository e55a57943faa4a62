"""Raw text to verified token shards: `python -m data_tools.prepare CORPUS.yaml --output DATA`.

The inputs of CORPUS.yaml become tasks (data_tools.stages.plan), tasks pass through stages
(data_tools.stages.pipeline), and an executor of datatrove runs those that are not done yet
(data_tools.stages.executors):

    DATA/plan.json          what this directory is made from; another corpus needs another directory
    DATA/.work/             what tasks have made while the run lasts; all in it is removed at the end
    DATA/.logs/             what the executor has to say; likewise
    DATA/tokenizer/         copy of the tokenizer
    DATA/mono/de/00000.{bin,idx}, DATA/parallel/de-en/00000.{de,en}.{bin,idx}, DATA/valid/… of the same form
    DATA/manifest.json      written last

A run that was killed, or in which tasks have failed, goes on with what is missing. All bytes depend on text (of
plan.json on its paths too), tokenizer and settings only, not on executor, number of workers or on who was killed when.
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
from data_tools.tokenizers.sentence_piece import MODEL_FILE, PieceEncoder

# A tokenizer may lie in the directory of a whole model, or of a whole project: these are the files that belong to it.
TOKENIZER_FILES = (
    MODEL_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
DEFAULT_SHARD_TOKENS = 100_000_000
DEFAULT_MEMORY_GB = 2
FINAL_NAMES = ("mono", "parallel", "valid")
EXECUTORS = ("local", "slurm", "ray")
RunStages = Callable[[Sequence[Stage], Path], None]


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep every other prepare out of the directory while it lasts; raises ValueError if one is at work there.

    The lock goes with the process that holds it; its file is removed at the end.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / LOCK_NAME
    try:
        file = open_locked(path)
    except BlockingIOError:
        raise ValueError(f"{output}: another data_tools.prepare is at work in this directory") from None
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def open_locked(path: Path) -> IO[str]:
    """The file at `path`, made if need be, which nobody else has locked; raises BlockingIOError if somebody has."""
    while True:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed it since it was opened: then the lock is on a file without a name.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    stack.pop_all()
                    return file


def begin(plan: Plan, corpus: Corpus, tokenizer_sha256: str) -> None:
    """Make the directory ready for the tasks of a plan, keeping those that are done.

    Raises ValueError if shards of another plan have their final names already, or if the tokenizer's directory, which
    is to be replaced, holds files of others.
    """
    begun = plan_of(plan.output)
    if begun is not None and begun.key != plan.key and any((plan.output / name).exists() for name in FINAL_NAMES):
        raise ValueError(f"{plan.output}: made {changes(begun, plan)}; choose another output or remove it")
    tokenizer = plan.output / TOKENIZER_NAME
    is_other = not (tokenizer / MODEL_FILE).exists() or PieceEncoder(tokenizer).tokenizer_sha256 != tokenizer_sha256
    if is_other and tokenizer.exists() and (others := set(os.listdir(tokenizer)).difference(TOKENIZER_FILES)):
        raise ValueError(
            f"{tokenizer}: holds {shortened(sorted(others))}, not written by data_tools.prepare, which would "
            "replace all; move them elsewhere or choose another output"
        )
    remove_left_overs(plan)
    plan.save()
    if is_other:
        for name in TOKENIZER_FILES:
            (tokenizer / name).unlink(missing_ok=True)
        with atomic_directory(tokenizer) as temporary:
            for name in TOKENIZER_FILES:
                if (corpus.tokenizer / name).is_file():
                    shutil.copy(corpus.tokenizer / name, temporary / name)


def remove_left_overs(plan: Plan) -> None:
    """Remove what kills have left under temporary names, and what only earlier plans have a use for.

    Marks of finished tasks go before the tasks that they stand for.
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
    """Whether there was anything to do; then `run` has run the stages or, on Slurm, submitted them."""
    output = output.absolute()
    encoder = PieceEncoder(corpus.tokenizer)
    plan = make_plan(corpus, output, encoder.tokenizer_sha256, shard_tokens)
    if is_finished(plan):  # perhaps on a disk that cannot be written to
        if (output / WORK_NAME).exists():  # Slurm's jobs are done, or the last run was killed at its very end
            with locked(output):
                remove_work(output)
        return False
    check_output_directory(output, [path for item in corpus.inputs for path in item.paths])
    stages = make_stages(plan, corpus, shard_tokens)
    with locked(output):
        begin(plan, corpus, encoder.tokenizer_sha256)
        run(stages, plan.logs)
        if is_finished(plan):
            remove_work(output)
    return True


def is_finished(plan: Plan) -> bool:
    """Whether the directory holds what the plan asks for; raises ValueError for a directory with other content."""
    begun = plan_of(plan.output)
    return begun is not None and begun.key == plan.key and (plan.output / MANIFEST_NAME).exists()


def executor_of(options: argparse.Namespace) -> RunStages:
    """What runs the stages, as the flags say; raises ValueError for flags that are missing."""
    if options.executor == "slurm":
        return partial(run_on_slurm, num_workers=options.workers, options=slurm_options(options))
    if options.executor == "ray":
        return partial(run_on_ray, num_workers=options.workers, address=options.ray_address)
    return partial(run_locally, num_workers=options.workers)


def slurm_options(options: argparse.Namespace) -> SlurmOptions:
    """What the flags say of Slurm; raises ValueError for what is missing."""
    for name in ("slurm_partition", "slurm_time"):
        if vars(options)[name] is None:
            raise ValueError(f"--executor slurm needs --{name.replace('_', '-')}")
    if shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: no command sbatch here; run it where jobs are submitted")
    arguments = {}
    for argument in options.slurm_argument:
        name, sign, value = argument.removeprefix("--").partition("=")
        if not sign:
            raise ValueError(f"--slurm-argument {argument}: expected NAME=VALUE, for example account=nlp")
        arguments[name] = value
    return SlurmOptions(
        partition=options.slurm_partition,
        time=options.slurm_time,
        memory_gb=options.slurm_memory_gb,
        # The jobs find datatrove's launcher and these packages where this very Python finds them.
        setup=options.slurm_setup or f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        arguments=arguments,
    )


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m data_tools.prepare",
        description="Tokenises the text named in CORPUS.yaml into memory-mapped shards. Started again after a kill it "
        "does only what is missing; on a finished directory it does nothing.",
    )
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS.yaml", help="see data_tools/corpus/configuration.py for its form"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DATA", help="the data directory to make")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="tasks that run at a time (default: the cores, here %(default)s)",
    )
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="local",
        help="who runs the tasks: processes of this machine, a Slurm array or a Ray cluster (default %(default)s)",
    )
    parser.add_argument(
        "--shard-tokens",
        type=int,
        default=DEFAULT_SHARD_TOKENS,
        metavar="N",
        help="begin a new shard after so many tokens (default %(default)s)",
    )
    slurm = parser.add_argument_group("Slurm", "the jobs are submitted; DATA/manifest.json is there when all are done")
    slurm.add_argument("--slurm-partition", metavar="NAME", help="the partition to run on")
    slurm.add_argument("--slurm-time", metavar="HH:MM:SS", help="limit of a task")
    slurm.add_argument(
        "--slurm-memory-gb", type=int, default=DEFAULT_MEMORY_GB, metavar="GB", help="of a task (default %(default)s)"
    )
    slurm.add_argument(
        "--slurm-setup", metavar="COMMAND", help="shell command that makes Python ready in a job (default: this Python)"
    )
    slurm.add_argument(
        "--slurm-argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of sbatch, for example account=nlp; can be repeated",
    )
    ray = parser.add_argument_group("Ray")
    ray.add_argument(
        "--ray-address", metavar="ADDRESS", help="of a running cluster (default: one made on this machine)"
    )
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    options = parse_arguments()
    for name in ("workers", "shard_tokens"):
        value = vars(options)[name]
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected at least 1")
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
        print(f"{options.output}: complete already, {num_tokens:,} tokens; nothing to do")


if __name__ == "__main__":
    run_main(main)
