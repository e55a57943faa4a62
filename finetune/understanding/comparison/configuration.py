"""COMPARE.yaml: which pre-trained models to compare on which tasks of XTREME, over which seeds, with which budget.

    data: ${VECO_CORPORA}/xtreme         # XTREME's files, or hub:google/xtreme
    models:                              # what is compared: how a run starts
      veco: {init_from: "${VECO_RUNS}/veco/model"}
      xlm: {init_from: "${VECO_RUNS}/xlm/model"}
      random: {init_from: "${VECO_RUNS}/veco/model", init: random}
    tasks: [xnli, udpos, bucc2018, tatoeba]          # default: all nine
    settings: [transfer, translate-train-all]        # default: transfer
    modes: [plug-out, plug-in]                       # default: plug-out
    seeds: [1, 2]
    fields: {epochs: 3}                  # fields of the shipped recipes that are different here, for all runs
    task_fields:                         # and for the runs of a task; of a retrieval task instead of `retrieval`
      xnli: {translated_test: english}
      bucc2018: {similarity: margin}
    languages: {xnli: [de, en]}          # of a task's tests, if not all that there are
    retrieval: {similarity: cosine, layers: [1, 2], layer: 2}    # flags of finetune.understanding.layers; see below
    processes: 1                         # of each training run with DeepSpeed, on a machine without GPU

A task, a setting and a mode take finetune/understanding/recipes/TASK.yaml or TASK_translate_train_all.yaml; where
models, text and output are is said here alone. Every model gets the same data, updates and batches: a field that would
change these for one of them is refused. What the data does not have is left out, and the table says so: tests and their
labels, translated text, tags for it, pairs.

Retrieval has no training. finetune.understanding.layers chooses the layer of each language on the others, among
`layers`; of a single language finetune.understanding.predict takes `layer`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.cli import FlagParser
from finetune.command_stages import Stage
from finetune.comparison import flags_of, parse_comparison, problems_of_counts, problems_of_models
from finetune.understanding.metrics import prediction_path
from finetune.understanding.predict import add_data_flags, add_retrieval_flags
from finetune.understanding.recipe import SETTINGS, UnderstandingRecipe
from finetune.understanding.tasks.table import TASKS
from training.recipe.parsing import build_recipe, laid_over, read_yaml

MODES = ("plug-out", "plug-in")
# A model may start otherwise and be regularised and stepped otherwise, but it sees the same data as often.
MODEL_FIELDS = (
    *("init_from", "init", "learning_rate", "warmup_steps", "warmup_share"),
    *("dropout", "attention_dropout"),
)
PLACES = ("output", "init_from", "data", "translated_train")  # in a recipe of one's own, not of a comparison
# What the comparison decides, or a model.
DECIDED = ("task", "setting", "plug_in", "data", "seed", "output", "resume", "init_from", "init")
RETRIEVAL = tuple(name for name, task in TASKS.items() if task.is_retrieval)
LEAST_FOR_LAYERS = 2  # languages: the layer of one is chosen on the others
RECIPES = Path(__file__).resolve().parents[1] / "recipes"


@dataclass(frozen=True)
class Group:
    """What models are compared in: a task, and a setting and a mode if it has training."""

    task: str
    setting: str = ""
    mode: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in (TASKS[self.task].title, self.setting, self.mode) if part)


@dataclass(frozen=True)
class Run:
    """One run of the comparison.

    `recipe` is None for retrieval, which has no training. `seed` is None where nothing is drawn: retrieval with the
    weights of `init_from`.
    """

    group: Group
    model: str
    seed: int | None
    init_from: str
    output: Path
    recipe: UnderstandingRecipe | None = None

    @property
    def name(self) -> str:
        return self.output.name


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a COMPARE.yaml says; see there."""

    data: str
    models: dict[str, dict[str, Any]]
    seeds: list[int]
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    settings: list[str] = field(default_factory=lambda: list(SETTINGS[:1]))
    modes: list[str] = field(default_factory=lambda: list(MODES[:1]))
    fields: dict[str, Any] = field(default_factory=dict)
    task_fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    languages: dict[str, list[str]] = field(default_factory=dict)
    retrieval: dict[str, Any] = field(default_factory=dict)
    processes: int = 1

    def problems(self) -> list[str]:
        """One sentence for each thing that cannot be."""
        found = problems_of_models(self.models, MODEL_FIELDS)
        found += problems_of_counts(self.seeds, self.processes)
        choices: dict[str, tuple[list[str], Iterable[str]]] = {
            "tasks": (self.tasks, TASKS),
            "settings": (self.settings, SETTINGS),
            "modes": (self.modes, MODES),
        }
        for key, (values, known) in choices.items():
            names = [str(value) for value in values]
            if not names or len(set(names)) != len(names) or not set(names) <= set(known):
                found.append(f"{key} {', '.join(names)}: expected some of {', '.join(known)}, each once")
        by_task: dict[str, Iterable[str]] = {"task_fields": self.task_fields, "languages": self.languages}
        for name, tasks in by_task.items():
            if others := [task for task in tasks if task not in self.tasks]:
                found.append(f"{name} of {', '.join(others)}, which tasks does not name")
        for name, fields in {"fields": self.fields, **self.task_fields}.items():
            if not isinstance(fields, dict):
                found.append(f"task_fields: {name} must have fields")
            elif name not in RETRIEVAL and (refused := sorted(set(fields) & set(DECIDED))):
                found.append(f"{name}: {', '.join(refused)} cannot be set here; the models, seeds and tasks say it")
        found += [
            f"languages: {name} must be a list" for name, own in self.languages.items() if not isinstance(own, list)
        ]
        found += self._problems_of_starts()
        return found + self._problems_of_retrieval()

    def _problems_of_starts(self) -> list[str]:
        """A model needs weights, or at least a shape, from somewhere."""
        fields_of = {name: fields for name, fields in self.models.items() if isinstance(fields, dict)}
        found = [f"model {name} has no init_from" for name, fields in fields_of.items() if not fields.get("init_from")]
        inits = {name: fields.get("init", "pretrained") for name, fields in fields_of.items()}
        return found + [
            f"model {name}: init {init!r} must be 'pretrained' or 'random'"
            for name, init in inits.items()
            if init not in ("pretrained", "random")
        ]

    def _problems_of_retrieval(self) -> list[str]:
        """Wrong flags would else be met after the trainings."""
        found: dict[str, None] = {}
        for task in self.tasks:
            if task in RETRIEVAL:
                found |= dict.fromkeys(problems_of_flags(self.retrieval_flags(task)))
        return [f"retrieval: {problem}" for problem in found]

    def wanted_languages(self, task: str) -> str:
        """The languages of a task's tests as flags take them; empty for all that there are."""
        return ",".join(map(str, self.languages.get(task, [])))

    def retrieval_flags(self, task: str) -> dict[str, Any]:
        """How a retrieval task is done: `retrieval`, and what `task_fields` says otherwise."""
        own = self.task_fields.get(task, {})
        return {**self.retrieval, **(own if isinstance(own, dict) else {})}


def problems_of_flags(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with flags of finetune.understanding.layers and predict."""
    layers = values.get("layers", [])
    if not isinstance(layers, list) or any(not isinstance(n, int) for n in (*layers, values.get("layer", 0))):
        return ["layers must be a list of numbers, layer a number"]
    if refused := sorted({"data", "languages"} & set(values)):
        return [f"{', '.join(refused)} cannot be set here"]
    parser = FlagParser()
    parser.add_argument("--layers")
    parser.add_argument("--layer", type=int)
    add_data_flags(parser)
    add_retrieval_flags(parser)
    try:
        parser.parse_args(["--data", "", *flags(values)])
    except ValueError as error:
        return [str(error)]
    return []


def flags(values: Mapping[str, Any]) -> list[str]:
    """Flags of a command: a list has commas between its values, true is the flag alone, false none."""
    found = []
    for name, value in values.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        found += [f"--{name}"] * (value is not False) + [text] * (not isinstance(value, bool))
    return found


def read_comparison(path: Path) -> Comparison:
    """What the file says. Raises ValueError with all that is wrong; environment variables are replaced."""
    types: dict[str, type] = dict.fromkeys(("models", "fields", "task_fields", "languages", "retrieval"), dict)
    types |= dict.fromkeys(("tasks", "settings", "modes", "seeds"), list) | {"data": str, "processes": int}
    return parse_comparison(path, Comparison, types, "finetune.understanding.compare")


def groups_of(comparison: Comparison) -> list[Group]:
    """All groups, whether or not the data has what they need; plugged in, cross-lingual transfer has no pairs."""
    groups = []
    for name in comparison.tasks:
        if TASKS[name].is_retrieval:
            groups.append(Group(name))
            continue
        groups += [
            Group(name, setting, mode)
            for setting in comparison.settings
            for mode in comparison.modes
            if (setting, mode) != ("transfer", "plug-in")
        ]
    return groups


def recipe_values(group: Group, comparison: Comparison) -> dict[str, Any]:
    """What the recipes of a group's runs have in common, as `build_recipe` takes it."""
    translated = "" if group.setting == "transfer" else "_translate_train_all"
    shipped = read_yaml(RECIPES / f"{group.task}{translated}.yaml")
    own = {
        **comparison.fields,
        **comparison.task_fields.get(group.task, {}),
        "data": comparison.data,
        "task": group.task,
        "setting": group.setting,
        "plug_in": group.mode == "plug-in",
    }
    return laid_over(UnderstandingRecipe, {name: value for name, value in shipped.items() if name not in PLACES}, own)


def runs_of(groups: list[Group], comparison: Comparison, output: Path) -> list[Run]:
    """All runs, seed by seed, so that a comparison that is stopped has compared something.

    Raises ValueError with all problems of all recipes.
    """
    runs: dict[str, Run] = {}
    problems: dict[str, None] = {}
    for seed in comparison.seeds:
        for group in groups:
            for model in comparison.models:
                try:
                    run = run_of(group, model, seed, comparison, output)
                except ValueError as error:
                    problems[str(error)] = None
                else:
                    runs.setdefault(run.name, run)  # retrieval without a seed is done once
    if problems:
        raise ValueError("; ".join(problems))
    return list(runs.values())


def run_of(group: Group, model: str, seed: int, comparison: Comparison, output: Path) -> Run:
    """One run, with its resolved recipe if it is trained. Raises ValueError with all that is wrong with that."""
    fields = comparison.models[model]
    is_retrieval = TASKS[group.task].is_retrieval
    is_drawn = not is_retrieval or fields.get("init") == "random"
    words = (group.task, group.setting, group.mode, model, f"seed{seed}" if is_drawn else "")
    directory = output / "runs" / "-".join(word for word in words if word)
    run = Run(group, model, seed if is_drawn else None, str(fields["init_from"]), directory)
    if is_retrieval:
        return run
    values = {**recipe_values(group, comparison), **fields, "seed": seed, "output": str(directory), "resume": "auto"}
    return dataclasses.replace(run, recipe=build_recipe(UnderstandingRecipe, values, Path(f"of {group}")))


def stages_of(run: Run, comparison: Comparison, languages: Sequence[str]) -> list[Stage]:
    """The commands of a run, whose tests are in `languages`; the last one's result has the scores."""
    if run.recipe is not None:
        return [train_stage(run, run.recipe), *scored(run, run.output, run.recipe, comparison, languages)]
    model = Path(run.init_from)
    stages = []
    if run.seed is not None:
        model = run.output / "model"
        drawn = ("finetune.random_model", run.init_from, "--seed", f"{run.seed}", "--output", f"{model}")
        stages.append(Stage(f"{run.name}: draw weights", drawn, model))
    if len(languages) < LEAST_FOR_LAYERS:
        return [*stages, *scored(run, model, None, comparison, languages)]
    own = {name: value for name, value in comparison.retrieval_flags(run.group.task).items() if name != "layer"}
    command = (
        *("finetune.understanding.layers", f"{model}", "--task", run.group.task, "--output", f"{run.output}"),
        *("--data", comparison.data, "--languages", ",".join(languages), *flags(own)),
    )
    return [*stages, Stage(f"{run.name}: all layers", command, run.output / f"{run.group.task}.json")]


def train_stage(run: Run, recipe: UnderstandingRecipe) -> Stage:
    """The training; the plain engine needs no launcher."""
    is_distributed = recipe.engine == "deepspeed"
    program = "finetune/understanding/train.py" if is_distributed else "finetune.understanding.train"
    return Stage(f"{run.name}: train", (program, *flags_of(recipe)), run.output / "curves.png", is_distributed)


def scored(
    run: Run, model: Path, recipe: UnderstandingRecipe | None, comparison: Comparison, languages: Sequence[str]
) -> list[Stage]:
    """Predict and evaluate; `recipe` is None for retrieval."""
    task, predictions = TASKS[run.group.task], run.output / "predictions"
    asked = ("--languages", ",".join(languages))
    if recipe is None:
        asked_for = comparison.retrieval_flags(task.name)
        own = flags({name: value for name, value in asked_for.items() if name != "layers"})
    else:
        own = ["--max-tokens", f"{recipe.max_tokens}"]
        own += ["--translated-test", recipe.translated_test] if recipe.plug_in and recipe.translated_test else []
    return [
        Stage(
            f"{run.name}: predict",
            (
                *("finetune.understanding.predict", f"{model}", "--task", task.name, "--data", comparison.data),
                *("--output", f"{predictions}", *asked, *own),
            ),
            prediction_path(predictions, task, languages[-1]),  # each file appears whole, this one last
        ),
        Stage(
            f"{run.name}: evaluate",
            (
                *("finetune.understanding.evaluate", "--predictions", f"{predictions}", "--labels", comparison.data),
                *("--json", f"{run.output / 'scores.json'}", *asked),
            ),
            run.output / "scores.json",
        ),
    ]


def settings_of(run: Run, comparison: Comparison, languages: Sequence[str]) -> dict[str, Any]:
    """How a run is trained and tested: what must not change once it has begun."""
    tests = {"test data": comparison.data, "test languages": list(languages)}
    if run.recipe is not None:
        return {**dataclasses.asdict(run.recipe), **tests}
    return {"init_from": run.init_from, "retrieval": comparison.retrieval_flags(run.group.task), **tests}
