"""COMPARE.yaml: the pre-trained models to compare, the tasks of XTREME, seeds and budget.

    data: ${VECO_CORPORA}/xtreme         # XTREME's files, or hub:google/xtreme
    models:                              # how the runs of each model start
      veco: {init_from: "${VECO_RUNS}/veco/model"}
      xlm: {init_from: "${VECO_RUNS}/xlm/model"}
      random: {init_from: "${VECO_RUNS}/veco/model", init: random}
    tasks: [xnli, udpos, bucc2018, tatoeba]          # default: all nine
    settings: [transfer, translate-train-all]        # default: transfer
    modes: [plug-out, plug-in]                       # default: plug-out
    seeds: [1, 2]
    fields: {epochs: 3}                  # fields that differ from the shipped recipes, for all runs
    task_fields:                         # and for the runs of a task; for a retrieval task, flags as in `retrieval`
      xnli: {translated_test: english}
      bucc2018: {similarity: margin}
    languages: {xnli: [de, en]}          # of a task's tests (default: all)
    retrieval: {similarity: cosine, layers: [1, 2], layer: 2}    # flags of finetune.understanding.layers; see below
    processes: 1                         # of each training run with DeepSpeed, on a machine without GPU

Runs use finetune/understanding/recipes/TASK.yaml or TASK_translate_train_all.yaml, except for the places of models,
text and output, which are given here. Every model gets the same data, updates and batches: a field
that would change these for one of them is refused. Whatever the data lacks is left out, and the table says so: tests
and their labels, translated text, tags for it, pairs.

Retrieval has no training. finetune.understanding.layers chooses the layer of each language on the others, among
`layers`; for a single language, finetune.understanding.predict uses `layer`.
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
from finetune.understanding.flags import add_data_flags, add_retrieval_flags
from finetune.understanding.metrics.prediction_files import prediction_path
from finetune.understanding.recipe import SETTINGS, UnderstandingRecipe
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named, task_named
from training.recipe.parsing import build_recipe, laid_over, read_yaml

MODES = ("plug-out", "plug-in")
# Models may differ in their start, regularisation and learning rate, but see the same data equally often.
MODEL_FIELDS = (
    *("init_from", "init", "learning_rate", "warmup_steps", "warmup_share"),
    *("dropout", "attention_dropout"),
)
PLACES = ("output", "init_from", "data", "translated_train")  # ignored in shipped recipes
# Decided by the comparison, or by a model.
DECIDED = ("task", "setting", "plug_in", "data", "seed", "output", "resume", "init_from", "init")
MIN_FOR_LAYERS = 2  # languages: the layer of each is chosen on the others
RECIPES = Path(__file__).resolve().parents[1] / "recipes"


@dataclass(frozen=True)
class Group:
    """The runs that are compared with each other: a task, with a setting and a mode if it has training."""

    task: str
    setting: str = ""
    mode: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in (task_named(self.task).title, self.setting, self.mode) if part)


@dataclass(frozen=True)
class Run:
    """One run of the comparison.

    `recipe` is None for retrieval, which has no training. `seed` is None where nothing is random: retrieval with the
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
    """The content of a COMPARE.yaml, described above."""

    data: str
    models: dict[str, dict[str, Any]]
    seeds: list[int]
    tasks: list[str] = field(default_factory=lambda: list(catalogue_named(XTREME).tasks))
    settings: list[str] = field(default_factory=lambda: list(SETTINGS[:1]))
    modes: list[str] = field(default_factory=lambda: list(MODES[:1]))
    fields: dict[str, Any] = field(default_factory=dict)
    task_fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    languages: dict[str, list[str]] = field(default_factory=dict)
    retrieval: dict[str, Any] = field(default_factory=dict)
    processes: int = 1

    def problems(self) -> list[str]:
        """One sentence for each problem."""
        found = problems_of_models(self.models, MODEL_FIELDS)
        found += problems_of_counts(self.seeds, self.processes)
        choices: dict[str, tuple[list[str], Iterable[str]]] = {
            "settings": (self.settings, SETTINGS),
            "modes": (self.modes, MODES),
        }
        for key, (values, known) in choices.items():
            names = [str(value) for value in values]
            if not names or len(set(names)) != len(names) or not set(names) <= set(known):
                found.append(f"{key} {', '.join(names)}: expected some of {', '.join(known)}, each once")
        found += self._problems_of_tasks()
        by_task: dict[str, Iterable[str]] = {"task_fields": self.task_fields, "languages": self.languages}
        for name, tasks in by_task.items():
            if others := [task for task in tasks if task not in self.tasks]:
                found.append(f"{name} of {', '.join(others)}, which tasks does not list")
        for name, fields in {"fields": self.fields, **self.task_fields}.items():
            if not isinstance(fields, dict):
                found.append(f"task_fields: {name} must have fields")
            elif not is_retrieval(name) and (refused := sorted(set(fields) & set(DECIDED))):
                found.append(f"{name}: {', '.join(refused)} cannot be set here; models, seeds and tasks decide them")
        found += [
            f"languages: {name} must be a list" for name, own in self.languages.items() if not isinstance(own, list)
        ]
        found += self._problems_of_starts()
        return found + self._problems_of_retrieval()

    def _problems_of_tasks(self) -> list[str]:
        """Problems with the list of tasks: unknown ones, none, or one twice."""
        found = [] if self.tasks else ["tasks is empty"]
        for name in self.tasks:
            try:
                task_named(str(name))
            except ValueError as error:
                found.append(str(error))
        if len(set(self.tasks)) < len(self.tasks):
            found.append(f"tasks {', '.join(self.tasks)}: expected each once")
        return found

    def _problems_of_starts(self) -> list[str]:
        """Problems with the start of models, which need weights or at least a shape."""
        fields_of = {name: fields for name, fields in self.models.items() if isinstance(fields, dict)}
        found = [f"model {name} has no init_from" for name, fields in fields_of.items() if not fields.get("init_from")]
        inits = {name: fields.get("init", "pretrained") for name, fields in fields_of.items()}
        return found + [
            f"model {name}: init {init!r} must be 'pretrained' or 'random'"
            for name, init in inits.items()
            if init not in ("pretrained", "random")
        ]

    def _problems_of_retrieval(self) -> list[str]:
        """Problems with flags, which would otherwise be found after the trainings."""
        found: dict[str, None] = {}
        for task in self.tasks:
            if is_retrieval(task):
                found |= dict.fromkeys(problems_of_flags(self.retrieval_flags(task)))
        return [f"retrieval: {problem}" for problem in found]

    def wanted_languages(self, task: str) -> str:
        """The languages of a task's tests in the form of a flag; empty for all."""
        return ",".join(map(str, self.languages.get(task, [])))

    def retrieval_flags(self, task: str) -> dict[str, Any]:
        """The flags of a retrieval task: `retrieval`, overridden by `task_fields`."""
        own = self.task_fields.get(task, {})
        return {**self.retrieval, **(own if isinstance(own, dict) else {})}


def is_retrieval(name: str) -> bool:
    """Whether the task of that name has no training; False for a name that no task has."""
    try:
        return task_named(name).is_retrieval
    except ValueError:
        return False


def problems_of_flags(values: Mapping[str, Any]) -> list[str]:
    """Problems with flags of finetune.understanding.layers and predict."""
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
    """Flags of a command: the values of a list are joined by commas, true is the flag alone, false no flag."""
    found = []
    for name, value in values.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        found += [f"--{name}"] * (value is not False) + [text] * (not isinstance(value, bool))
    return found


def read_comparison(path: Path) -> Comparison:
    """Read a COMPARE.yaml, with environment variables replaced. Raises ValueError with all problems."""
    types: dict[str, type] = dict.fromkeys(("models", "fields", "task_fields", "languages", "retrieval"), dict)
    types |= dict.fromkeys(("tasks", "settings", "modes", "seeds"), list) | {"data": str, "processes": int}
    return parse_comparison(path, Comparison, types, "finetune.understanding.compare")


def groups_of(comparison: Comparison) -> list[Group]:
    """All groups, whatever the data lacks; without pairs, cross-lingual transfer cannot be plugged in."""
    groups = []
    for name in comparison.tasks:
        if task_named(name).is_retrieval:
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
    """The values that the recipes of a group's runs share, as `build_recipe` takes them."""
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
    """All runs, seed by seed, so that a stopped comparison has results of all models.

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
    """One run, with its resolved recipe if it is trained. Raises ValueError with all problems of the recipe."""
    fields = comparison.models[model]
    has_training = not task_named(group.task).is_retrieval
    is_drawn = has_training or fields.get("init") == "random"
    words = (group.task, group.setting, group.mode, model, f"seed{seed}" if is_drawn else "")
    directory = output / "runs" / "-".join(word for word in words if word)
    run = Run(group, model, seed if is_drawn else None, str(fields["init_from"]), directory)
    if not has_training:
        return run
    values = {**recipe_values(group, comparison), **fields, "seed": seed, "output": str(directory), "resume": "auto"}
    return dataclasses.replace(run, recipe=build_recipe(UnderstandingRecipe, values, Path(f"of {group}")))


def stages_of(run: Run, comparison: Comparison, languages: Sequence[str]) -> list[Stage]:
    """The commands of a run whose tests are in `languages`; the result of the last one has the scores."""
    if run.recipe is not None:
        return [train_stage(run, run.recipe), *scored(run, run.output, run.recipe, comparison, languages)]
    model = Path(run.init_from)
    stages = []
    if run.seed is not None:
        model = run.output / "model"
        drawn = ("finetune.random_model", run.init_from, "--seed", f"{run.seed}", "--output", f"{model}")
        stages.append(Stage(f"{run.name}: draw weights", drawn, model))
    if len(languages) < MIN_FOR_LAYERS:
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
    task, predictions = task_named(run.group.task), run.output / "predictions"
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
            prediction_path(predictions, task, languages[-1]),  # the last of the files, which are written atomically
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
    """The settings of a run's training and tests, which must not change once it has begun."""
    tests = {"test data": comparison.data, "test languages": list(languages)}
    if run.recipe is not None:
        return {**dataclasses.asdict(run.recipe), **tests}
    return {"init_from": run.init_from, "retrieval": comparison.retrieval_flags(run.group.task), **tests}
