"""Run the whole workflow on the embedded corpus, by the commands that a user would type: `make demo`.

Text -> tokenizer -> shards -> ZeRO-1 pre-training -> export -> translation fine-tuned from VECO and, side by side with
the same budget, from random weights -> BLEU. Prints the remaining time before each step, and at the end a table, five
translations and the path of the learning curves. Steps whose results exist are skipped, so a second call is quick;
`--fresh` starts over, and keeps the earlier demo under another name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import write_texts
from data_tools.files.directories import claim, read_record
from finetune.command_stages import Stage, run_stage
from finetune.demo_report import INITS, print_report
from finetune.parallel_runs import run_side_by_side, visible_gpus
from finetune.steps import Step, held, run_step
from training.meters import read_metrics

ROOT = Path(__file__).resolve().parent.parent
PRETRAIN_RECIPE = ROOT / "pretrain" / "recipes" / "demo.yaml"
TRANSLATION_RECIPE = ROOT / "finetune" / "mt" / "recipes" / "demo_en_de.yaml"
VOCABULARY_SIZE = 1000
# Two of the four languages and everyday words, with the whole grammar: minutes suffice to learn what these mean, and to
# attend to the other sentence for one pair of languages instead of six.
CORPUS = ("--languages", "de", "en", "--words", "5", "--documents", "1500", "--pairs", "12000", "--train", "2000")
COMMAND = "finetune.demo"
NOTES = "demo.json"
RESULTS = ("text", "data", "pretrain", "model", *(f"mt-{init}" for init in INITS), "learning_curves.png", NOTES)
REPORT_SECONDS = 20.0  # between two progress lines while both fine-tunings run


@dataclass(frozen=True)
class TimedStage:
    """A stage of the demo, and the seconds it takes on two idle cores."""

    stage: Stage
    seconds: float


def shared_steps(root: Path, processes: int, seed: int) -> list[TimedStage]:
    """The commands up to the pre-trained model, in order."""
    text, tokenizer, data = root / "text", root / "text" / "tokenizer", root / "data"
    run, model = root / "pretrain", root / "model"
    mono = [str(text / "mono" / f"{language}.txt") for language in ("de", "en")]
    corpus = ("data_tools.toy_corpus", *CORPUS, "--seed", f"{seed}", "--output", f"{text}")
    # Every character of so small a text gets a piece: otherwise German would lack its "Ä".
    pieces = ("--vocab-size", f"{VOCABULARY_SIZE}", "--character-coverage", "1.0")
    pretraining = ("--config", f"{PRETRAIN_RECIPE}", "--data", f"{data}", "--seed", f"{seed}", "--output", f"{run}")
    return [
        TimedStage(Stage("write the embedded corpus", corpus, text / "corpus.yaml"), 6),
        TimedStage(
            Stage(
                "train the tokenizer",
                ("data_tools.train_tokenizer", "--input", *mono, *pieces, "--output", f"{tokenizer}"),
                tokenizer,
            ),
            4,
        ),
        TimedStage(
            Stage(
                "prepare shards",
                ("data_tools.prepare", f"{text / 'corpus.yaml'}", "--output", f"{data}"),
                data / "manifest.json",
            ),
            3,
        ),
        TimedStage(
            Stage(
                f"pre-train VECO, ZeRO-1 on {processes} processes",
                ("pretrain/train.py", *pretraining, "--resume"),
                run / "curves.png",
                is_distributed=True,
            ),
            470,
        ),
        TimedStage(
            Stage("export", ("pretrain.export", f"{run}", "--output", f"{model}"), model / "model.safetensors"), 8
        ),
    ]


def translation_steps(root: Path, init: str, seed: int) -> list[TimedStage]:
    """Fine-tune with one initialisation in one process, average, translate and score."""
    text, run = root / "text" / "mt", root / f"mt-{init}"
    files = [
        word
        for part in ("train", "valid")
        for side, language in (("source", "en"), ("target", "de"))
        for word in (f"--{part}_{side}", f"{text / part}.{language}")
    ]
    averaged, output, score = run / "averaged", run / "test.de", run / "score.json"
    recipe = ("--config", f"{TRANSLATION_RECIPE}", "--engine", "plain", "--seed", f"{seed}")
    start = ("--init_from", f"{root / 'model'}", "--init", init)
    scoring = ("--system", f"{output}", "--reference", f"{text / 'test.de'}", "--target-language", "de")
    return [
        TimedStage(
            Stage(
                f"fine-tune English -> German from {init} weights",
                ("finetune.mt.train", *recipe, *start, *files, "--output", f"{run}", "--resume"),
                run / "curves.png",
            ),
            100,
        ),
        TimedStage(
            Stage("average", ("finetune.mt.average", f"{run}", "--last", "2", "--output", f"{averaged}"), averaged), 8
        ),
        TimedStage(
            Stage(
                "translate",
                ("finetune.mt.generate", f"{averaged}", "--input", f"{text / 'test.en'}", "--output", f"{output}"),
                output,
            ),
            10,
        ),
        TimedStage(Stage("score", ("finetune.mt.score", *scoring, "--json", f"{score}"), score), 4),
    ]


class Clock:
    """An estimate of the remaining time, from planned durations and how long the finished steps took."""

    def __init__(self, planned: float) -> None:
        """`planned`: seconds that all steps should take together."""
        self.planned = planned
        self.done = 0.0
        self.spent = 0.0

    def note(self, planned: float, spent: float) -> None:
        """Note that steps that should take `planned` seconds took `spent`."""
        self.done += planned
        self.spent += spent

    def left(self) -> float:
        """Remaining seconds at the pace so far."""
        pace = self.spent / self.done if self.done else 1.0
        return pace * (self.planned - self.done)


def minutes(seconds: float) -> str:
    """Seconds as `M:SS`."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def planned_seconds(steps: Sequence[TimedStage]) -> float:
    """Seconds that the unfinished steps should take."""
    return sum(step.seconds for step in steps if not step.stage.result.exists())


def run_in_turn(steps: Sequence[TimedStage], clock: Clock, processes: int) -> None:
    """Run the steps one after the other, and print the remaining time before each."""
    for step in steps:
        planned = planned_seconds([step])
        if planned:
            print(f"\n--- about {minutes(clock.left())} left", end="", flush=True)
        start = time.perf_counter()
        run_stage(step.stage, processes)
        if planned:
            clock.note(planned, time.perf_counter() - start)


def most_at_once() -> int:
    """Number of fine-tunings to run side by side: both, or one if there is only one device or core."""
    return min(len(INITS), len(visible_gpus()) or len(os.sched_getaffinity(0)))


def seconds_of_all(shared: Sequence[TimedStage], chains: dict[str, list[TimedStage]], at_once: int) -> float:
    """Seconds that all unfinished steps should take, with `at_once` chains side by side."""
    seconds = [planned_seconds(chain) for chain in chains.values()]
    return planned_seconds(shared) + (sum(seconds) if at_once == 1 else max(seconds))


def run_both(chains: dict[str, list[TimedStage]], clock: Clock, root: Path, at_once: int) -> None:
    """Run the steps of both initialisations, `at_once` at a time."""
    start = time.perf_counter()
    expected = clock.left()

    def run_one(init: str, share: dict[str, str]) -> None:
        stages = tuple(step.stage for step in chains[init])
        run_step(Step(f"translation from {init} weights", root / f"mt-{init}", stages), 1, share, own_log=True)

    def report() -> None:
        line = "; ".join(f"from {init} weights: {progress(root / f'mt-{init}')}" for init in chains)
        print(f"{line}; about {minutes(expected - (time.perf_counter() - start))} left", flush=True)

    print(f"\n--- about {minutes(expected)} left")
    with repeated(report, REPORT_SECONDS):
        run_side_by_side(list(chains), run_one, at_once, ranks=1)


def progress(run: Path) -> str:
    """Progress of a fine-tuning in words."""
    if (run / "curves.png").exists():
        return "trained"
    lines = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    return f"update {lines[-1]['step']}" if lines else "starting"


@contextlib.contextmanager
def repeated(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `action` every so many seconds, in its own thread, while the body runs."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def check_unchanged(root: Path, steps: Sequence[TimedStage]) -> None:
    """Record the demo's commands and recipes in its directory. Raises ValueError when an earlier call had others.

    Finished steps are skipped, so otherwise results of two different demos would be compared.
    """
    notes = root / NOTES
    recipes = {path.name: path.read_text(encoding="utf-8") for path in (PRETRAIN_RECIPE, TRANSLATION_RECIPE)}
    ours = {"commands": [list(step.stage.command) for step in steps], "recipes": recipes}
    if notes.is_file() and json.loads(notes.read_text(encoding="utf-8")) != ours:
        raise ValueError(f"{root}: made by other commands or recipes than this demo's; --fresh starts over")
    write_texts(root, {NOTES: json.dumps(ours, indent=1)})


def move_aside(output: Path) -> Path:
    """Rename an earlier demo and return its new path. Raises ValueError for a directory that no demo has made."""
    if not read_record(output, COMMAND):
        raise ValueError(f"{output}: was not made by the demo; choose another --output")
    number = 1
    while os.path.lexists(aside := output.with_name(f"{output.name}.{number}")):
        number += 1
    return output.rename(aside)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="directory for everything (runs/demo)")
    parser.add_argument("--processes", type=int, default=2, help="processes that pre-train (2)")
    parser.add_argument("--seed", type=int, default=1, help="seed of text, weights and order of samples (1)")
    parser.add_argument("--fresh", action="store_true", help="move an earlier demo to OUTPUT.1 (.2, …) and start over")
    arguments = parser.parse_args()
    root: Path = arguments.output
    shared = shared_steps(root, arguments.processes, arguments.seed)
    chains = {init: translation_steps(root, init, arguments.seed) for init in INITS}
    if arguments.fresh and root.exists():
        with held(root):
            print(f"the earlier demo is in {move_aside(root)} now")
    with held(root):
        claim(root, RESULTS, COMMAND)
        check_unchanged(root, [*shared, *(step for chain in chains.values() for step in chain)])
        at_once = most_at_once()
        clock = Clock(seconds_of_all(shared, chains, at_once))
        print(
            f"VECO demo in {root}: writes text in two languages, pre-trains VECO on it from scratch, then fine-tunes\n"
            "English -> German from VECO and from random weights with the same budget, and compares them.\n"
            f"About {minutes(clock.left())} on two idle cores."
        )
        start = time.perf_counter()
        run_in_turn(shared, clock, arguments.processes)
        run_both(chains, clock, root, at_once)
        print_report(root)
        print(f"{(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    run_main(main)
