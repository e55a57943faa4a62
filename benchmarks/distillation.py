"""Distillation on Multi30k, behind docs/distillation.md: what a student of half the layers keeps, and how fast it is.

    python benchmarks/distillation.py CORPORA --output DIR [--steps 4000] [--seeds 1 2 3] [--parallel 2]
    python benchmarks/distillation.py CORPORA --output DIR --layers 4 --batch-pairs 32 --steps 1500 --epochs 2 --seeds 1
    python benchmarks/distillation.py CORPORA --output DIR --quick          a very small shape, a few updates, English

CORPORA has mt/multi30k and xtreme/{udpos,panx}. A teacher is pre-trained from random weights by pretrain/recipes/
multi30k.yaml with six layers, twice the recipe's, or --layers; then four students of half as many, on the same data:

    alone        from random weights, by the teacher's objective
    layers       from every second layer of the teacher, by the teacher's objective
    distilled    from random weights, by that objective and `distil`
    both         from the teacher's layers, by that objective and `distil`

All make --steps updates, the teacher --teacher-steps if given, `alone` and `layers` --longer times as many: an update
with a teacher takes longer, and the table shows the seconds. Each model is fine-tuned for POS and NER in English and
German over --seeds; `both, taught` is `both` whose fine-tuning learns from the fine-tuned teacher's logits too, and
from its states with --taught-states. POS and NER here have a thousand sentences of each language to learn from; --tasks
panx is NER of XTREME, with its 20,000 of English.
Captions of test_2016_flickr are looked for among all, plugged out, by the cosine of centred vectors (csls), in the
layer that is best on the other language. The speed is that of the encoder plugged out, on the captions, in this
process: the best of several passes, model by model.

DIR/results.json has all numbers, DIR/table.md their means, and the share of the teacher's that a student keeps. What is
finished is not done again: interrupt it, and start it with the same flags.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from objectives_study import QUICK_LINES, prepare, seconds_of_updates, shortened, tokens_of_update
from transformers import AutoModel, AutoTokenizer

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import write_texts
from data_tools.text.lines import open_text
from finetune.command_stages import Stage
from finetune.comparison import mean_and_deviation
from finetune.steps import Step, check_unchanged, held, run_steps
from pretrain.recipe import PretrainRecipe
from training.meters import read_metrics
from training.recipe.parsing import parse_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "pretrain" / "recipes" / "multi30k.yaml"
LANGUAGES = ("en", "de")  # of POS and NER
OWN_TASKS = ROOT / "finetune" / "studies" / "tasks"
TASKS = {"pos": f"{OWN_TASKS / 'pos.yaml'}", "ner": f"{OWN_TASKS / 'ner.yaml'}", "panx": "panx"}
TASK_LANGUAGES = {"pos": LANGUAGES, "ner": LANGUAGES, "panx": ("en",)}  # that have text to learn from
TEACHER, TAUGHT = "teacher", "both, taught"
STUDENTS = ("alone", "layers", "distilled", "both")
LAYERS = 6  # of the teacher: its students have as many as the recipe
SPEED_PASSES, SPEED_BATCH = 5, 32
OBJECTIVE = "mlm + tlm + contrast"
DISTIL = "distil(relations=1, states=1, logits=1, every_layer=True)"
TUNING = {
    **{"config": "general", "setting": "individual", "engine": "plain", "loader_workers": 0, "max_length": 96},
    **{"ds_config": "zero1_bf16.json", "cpu_precision": "float32", "attention": "eager"},
    **{"learning_rate": 5e-4, "dropout": 0.1},
}
QUICK_SHAPE = {
    **{"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "bilingual_batch_pairs": 8},
    **{"contrast_pairs": 8, "warmup_steps": 1, "validate_batches": 1},
}
QUICK_STEPS, QUICK_TUNING = 3, {"epochs": 0, "steps": 2, "save_every": 2, "train_examples": 32}


@dataclass(frozen=True)
class Model:
    """A model that is pre-trained, by these flags of pretrain/train.py beside the recipe's."""

    name: str
    flags: dict[str, Any]
    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / "last"


def models_of(options: argparse.Namespace) -> list[Model]:
    """The teacher, and those of its students that are asked for."""
    runs = options.output / "models"
    teacher = runs / TEACHER / "last"
    longer = round(options.steps * options.longer)
    sizes: dict[str, Any] = {**QUICK_SHAPE} if options.quick else {}
    if options.batch_pairs is not None:
        sizes |= {"bilingual_batch_pairs": options.batch_pairs, "contrast_pairs": contrasted(options.batch_pairs)}
    half = {} if options.layers == LAYERS else {"num_hidden_layers": options.layers // 2}
    start = {"init_from": teacher, "keep_layers": ",".join(map(str, range(2, options.layers + 1, 2)))}
    learning = {"teacher": teacher, "objective": f"{options.objective} + {options.distil}"}
    teacher_steps = {} if options.teacher_steps is None else {"steps": options.teacher_steps}
    flags: dict[str, dict[str, Any]] = {
        TEACHER: {**sizes, "num_hidden_layers": options.layers, **teacher_steps},
        "alone": {**sizes, **half, "steps": longer},
        "layers": {**sizes, **start, "steps": longer},
        "distilled": {**sizes, **half, **learning},
        "both": {**sizes, **start, **learning},
    }
    usual = {"objective": options.objective, "steps": options.steps}
    return [Model(name, {**usual, **flags[name]}, runs / name) for name in (TEACHER, *options.students)]


def contrasted(batch_pairs: int) -> int:
    """The pairs that are contrasted with each other, as many as usual or, of a small batch, all."""
    return min(batch_pairs, PretrainRecipe.contrast_pairs)


def words_of(flags: dict[str, Any]) -> list[str]:
    """Flags as words of a command."""
    return [word for name, value in flags.items() for word in (f"--{name}", f"{value}")]


def pretraining(model: Model, captions: Path) -> Step:
    """Pre-training, and the search for captions."""
    found = model.directory.with_name(f"{model.name}-captions")
    without = [] if "init_from" not in model.flags else list(QUICK_SHAPE)[:3]  # the shape is the teacher's
    flags = {name: value for name, value in model.flags.items() if name not in without}
    train = ("pretrain.train", "--config", f"{RECIPE}", *words_of(flags), "--output", f"{model.directory}", "--resume")
    where = ("--task", "tatoeba", "--data", f"{captions}", "--output", f"{found}")
    search = ("finetune.understanding.layers", f"{model.path}", *where, "--similarity", "csls", "--centre")
    stages = (Stage("pre-train", train, model.path), Stage("captions", search, found / "tatoeba.json"))
    return Step(model.name, model.directory, stages, needs=() if model.name == TEACHER else (TEACHER,))


@dataclass(frozen=True)
class Cell:
    """A model that is fine-tuned for a task in a language with a seed."""

    name: str
    model: Model
    task: str
    language: str
    seed: int
    directory: Path
    taught_by: Path | None

    @property
    def scores(self) -> Path:
        return self.directory / "scores.json"

    def step(self, options: argparse.Namespace, teacher: str | None) -> Step:
        """Fine-tuning, predictions of the test and their score; `teacher` names the step of its teacher."""
        data, run = f"{options.corpora / 'xtreme'}", self.directory / "run"
        fields = {**TUNING, "task": TASKS[self.task], "data": data, "languages": self.language, "seed": self.seed}
        fields |= {"init_from": self.model.path, "output": run, "epochs": options.epochs}
        fields |= QUICK_TUNING if options.quick else {}
        if self.taught_by is not None:
            states = {"teacher_states": options.taught_states, "teacher_every_layer": "true"}
            fields |= {"teacher": self.taught_by, **(states if options.taught_states else {})}
        train = ("finetune.understanding.train", *words_of(fields), "--resume")
        test = ("--languages", self.language)
        found = self.directory / "predictions"
        predict = ("finetune.understanding.predict", f"{run}", "--data", data, "--output", f"{found}", *test)
        scored = ("--task", f"{TASKS[self.task]}", "--predictions", f"{found}", "--labels", data)
        evaluate = ("finetune.understanding.evaluate", *scored, "--json", f"{self.scores}", *test)
        stages = (
            Stage("fine-tune", train, run / "best"),
            Stage("predict", predict, found / self.task / f"test-{self.language}.tsv"),
            Stage("evaluate", evaluate, self.scores),
        )
        return Step(self.directory.name, self.directory, stages, (self.model.name, *([teacher] if teacher else [])))


def cells_of(options: argparse.Namespace, models: Sequence[Model]) -> list[tuple[Cell, str | None]]:
    """The fine-tuned models, those of the teacher first, and the step of the teacher that a taught one needs."""
    found: list[tuple[Cell, str | None]] = []
    named = {model.name: model for model in models}
    rows = [*named.items(), *((TAUGHT, model) for name, model in named.items() if name == "both")]
    for (name, model), task, language, seed in itertools.product(rows, options.tasks, LANGUAGES, options.seeds):
        if language not in options.languages or language not in TASK_LANGUAGES[task]:
            continue
        own, of_teacher = (f"{row.replace(', ', '-')}-{task}-{language}-{seed}" for row in (name, TEACHER))
        needs = of_teacher if name == TAUGHT else None
        taught_by = None if needs is None else options.output / "tasks" / needs / "run"
        found.append((Cell(name, model, task, language, seed, options.output / "tasks" / own, taught_by), needs))
    return found


def sentences_per_second(paths: Sequence[Path], lines: Sequence[str], passes: int) -> list[float]:
    """The speed of each encoder plugged out, in batches by length; the models take turns, and the best pass counts."""
    models = [AutoModel.from_pretrained(path, dtype=torch.float32).eval() for path in paths]
    tokenizer = AutoTokenizer.from_pretrained(paths[0])
    ordered = sorted(lines, key=len)
    batches = [
        tokenizer(ordered[start : start + SPEED_BATCH], padding=True, truncation=True, return_tensors="pt")
        for start in range(0, len(ordered), SPEED_BATCH)
    ]
    best = [float("inf")] * len(models)
    with torch.inference_mode():
        for _ in range(passes):
            for number, model in enumerate(models):
                started = time.perf_counter()
                for batch in batches:
                    model(batch["input_ids"], batch["attention_mask"])
                best[number] = min(best[number], time.perf_counter() - started)
    return [len(lines) / seconds for seconds in best]


def results_of(models: Sequence[Model], cells: Sequence[Cell], tokens: float) -> dict[str, dict[str, Any]]:
    """What has been found so far, by row of the table; an update of pre-training has so many tokens."""
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        captions = model.directory.with_name(f"{model.name}-captions") / "tatoeba.json"
        if captions.is_file():
            content = json.loads(captions.read_text(encoding="utf-8"))
            found[model.name] = {
                "captions": content["avg"],
                "seconds": seconds_of_updates(read_metrics(model.directory), tokens),
            }
    for cell in cells:
        if cell.scores.is_file():
            scores = json.loads(cell.scores.read_text(encoding="utf-8"))
            of_row = found.setdefault(cell.name, {}).setdefault(cell.task, {})
            of_row.setdefault(f"{cell.language}", []).append(scores[cell.task][cell.language]["f1"])
    return found


def table(found: dict[str, dict[str, Any]], tasks: Sequence[str], speeds: dict[str, float]) -> str:
    """A row for each model: scores with deviations over seeds, the share of the teacher's, and the speed."""
    columns = [*tasks, "captions"]
    shares_of = [f"{name}, share of the teacher's" for name in columns]
    heads = ["model", *columns, *shares_of, "sentences/s", "speed-up", "seconds of training"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    of_teacher = {name: mean_of(found.get(TEACHER, {}), name) for name in columns}
    for row, own in found.items():
        means = {name: mean_of(own, name) for name in columns}
        told = [shown(own, name) for name in columns]
        shares = [share_of(mean, of_teacher[name]) for name, mean in means.items()]
        speed = [f"{speeds[row]:,.0f}", f"{speeds[row] / speeds[TEACHER]:.2f}"] if row in speeds else ["–", "–"]
        seconds = f"{own['seconds']:,.0f}" if "seconds" in own else "–"
        lines.append(f"| {' | '.join([row, *told, *shares, *speed, seconds])} |")
    return "\n".join(lines) + "\n"


def share_of(score: float | None, teacher: float | None) -> str:
    """A score in percent of the teacher's."""
    return f"{score / teacher:.1%}" if score is not None and teacher else "–"


def mean_of(own: dict[str, Any], name: str) -> float | None:
    """The mean score of a column, over languages and seeds; None where there is none yet."""
    value = own.get(name)
    if isinstance(value, dict):
        return statistics.fmean(score for scores in value.values() for score in scores)
    return value


def shown(own: dict[str, Any], name: str) -> str:
    """A column's score in words, by language."""
    value = own.get(name)
    if isinstance(value, dict):
        return ", ".join(f"{language} {mean_and_deviation(scores)}" for language, scores in value.items())
    return "–" if value is None else f"{value:.2f}"


def study(options: argparse.Namespace) -> None:
    """Do all that is unfinished, and write the results after each step."""
    models = models_of(options)
    cells = cells_of(options, models)
    settings = {model.name: {"flags": {name: f"{value}" for name, value in model.flags.items()}} for model in models}
    tuning = {"epochs": options.epochs, "taught_states": options.taught_states}
    check_unchanged({**settings, "fine-tuning": tuning}, options.output, defaults={"taught_states": 0.0})
    text = shortened(options.corpora, options.output) if options.quick else options.corpora
    os.environ |= {"VECO_CORPORA": f"{text.resolve()}", "VECO_RUNS": f"{options.output.resolve()}"}
    prepare(text, options.output, options.quick)
    captions = options.output / "multi30k" / "captions"
    shared = ["--config", f"{RECIPE}", *words_of(models[0].flags), "--output", f"{models[0].directory}"]
    tokens = tokens_of_update(parse_recipe(PretrainRecipe, shared))
    steps = [pretraining(model, captions) for model in models]
    steps += [cell.step(options, teacher) for cell, teacher in cells]

    def report(speeds: dict[str, float] | None = None) -> None:
        found = results_of(models, [cell for cell, _ in cells], tokens)
        content = {"results": found, "sentences_per_second": speeds or {}}
        texts = {
            "results.json": json.dumps(content, indent=1) + "\n",
            "table.md": table(found, options.tasks, speeds or {}),
        }
        write_texts(options.output, texts)

    run_steps(steps, report, options.parallel, 1, own_logs=options.parallel > 1)
    with open_text(text / "mt" / "multi30k" / "test_2016_flickr.en.gz") as lines:
        sentences = list(itertools.islice(lines, QUICK_LINES if options.quick else None))
    found = sentences_per_second([model.path for model in models], sentences, 1 if options.quick else SPEED_PASSES)
    report({model.name: speed for model, speed in zip(models, found, strict=True)})
    print(f"\n{(options.output / 'table.md').read_text(encoding='utf-8')}")


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("corpora", type=Path, metavar="CORPORA", help="directory with mt/multi30k and xtreme")
    add("--output", type=Path, required=True, metavar="DIR", help="directory for runs and results")
    add("--steps", type=int, default=4000, help="updates of students with a teacher (4000)")
    add("--teacher-steps", type=int, metavar="N", help="updates of the teacher (as many as --steps)")
    add("--longer", type=float, default=1.5, help="times as many updates of students without a teacher (1.5)")
    add("--languages", nargs="+", choices=LANGUAGES, default=LANGUAGES, help="of POS and NER (en de)")
    add("--students", nargs="+", choices=STUDENTS, default=STUDENTS, help=f"to compare ({' '.join(STUDENTS)})")
    add("--tasks", nargs="+", choices=TASKS, default=["pos", "ner"], help="of fine-tuning (pos ner)")
    add("--taught-states", type=float, default=0.0, metavar="W", help="weight of the states of each layer (0)")
    add("--layers", type=int, default=LAYERS, metavar="N", help=f"layers of the teacher; students have half ({LAYERS})")
    add("--batch-pairs", type=int, metavar="N", help="pairs in an update of pre-training (the recipe's, 96)")
    add("--epochs", type=int, default=8, metavar="N", help="of each fine-tuning (8)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of fine-tuning (1 2 3)")
    add("--objective", default=OBJECTIVE, metavar="SUM", help=f"of all pre-training ({OBJECTIVE})")
    add("--distil", default=DISTIL, metavar="PART", help=f"added for students with a teacher ({DISTIL})")
    add("--parallel", type=int, default=1, metavar="N", help="runs at once (1)")
    add("--quick", action="store_true", help="a very small shape, a few updates of a few lines, one seed")
    options = parser.parse_args()
    options.corpora = options.corpora.resolve()
    if options.longer < 1:
        raise ValueError(f"--longer {options.longer} must be at least 1")
    if options.layers < 2 or options.layers % 2:
        raise ValueError(f"--layers {options.layers}: expected an even number, of which students have half")
    if without := [task for task in options.tasks if not {*TASK_LANGUAGES[task]} & {*options.languages}]:
        raise ValueError(f"--tasks {without[0]}: expected a language of {', '.join(TASK_LANGUAGES[without[0]])}")
    pairs = options.batch_pairs
    if pairs is not None and (pairs < 2 or pairs % contrasted(pairs)):
        usual = PretrainRecipe.contrast_pairs
        raise ValueError(f"--batch-pairs {pairs}: expected 2 to {usual}, or a multiple of {usual}")
    if options.quick:
        options.steps, options.teacher_steps, options.seeds, options.languages = QUICK_STEPS, None, [1], ["en"]
    with held(options.output):
        study(options)


if __name__ == "__main__":
    run_main(main)
