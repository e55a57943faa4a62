"""COMPARE.yaml: the pre-trained models to compare, tasks, settings, seeds and budget.

    data: ${VECO_CORPORA}/xtreme         # XTREME's files, or hub:google/xtreme
    models:                              # how the runs of each model start
      veco: {init_from: "${VECO_RUNS}/veco/model"}
      xlm: {init_from: "${VECO_RUNS}/xlm/model"}
      random: {init_from: "${VECO_RUNS}/veco/model", init: random}
    tasks: [xnli, glue/rte, mine.yaml]   # default: XTREME's nine; files of tasks are relative to this file
    settings: [transfer, translate-train-all]        # default: transfer; see below
    modes: [plug-out, plug-in]                       # default: plug-out
    seeds: [1, 2]
    fields: {epochs: 3}                  # fields that differ from the shipped recipes, for all runs
    task_fields:                         # and for the runs of a task; for a retrieval task, flags as in `retrieval`
      xnli: {translated_test: english}
      mine.yaml: {data: mine}            # where its files are, if not in `data`
    languages: {xnli: [de, en]}          # of a task's tests (default: all)
    report: test                         # or dev, where the labels of the tests are hidden
    translation_model: "${VECO_RUNS}/mt/{language}-en"          # of translate-test; one model, or one a language
    significance: {baseline: xlm, draws: 1000}       # default: each pair of models, with 1000 draws
    retrieval: {similarity: cosine, layers: [1, 2], layer: 2}    # flags of finetune.understanding.layers; see below
    processes: 1                         # of each training run with DeepSpeed, on a machine without GPU

A model is trained on the source language, the first of a task's `train_languages` (transfer), on its translations alone
(translate-train), on both (translate-train-all), on the train files of all languages that have one (joint), or on one
of these (individual: a model for each language, tested in it). translate-test tests the model of transfer on tests that
are translated into the source language: those in the directory `translated_test`, or by `translation_model`. Only
translate-train-all can be plugged in.

Runs use finetune/understanding/recipes/TASK.yaml or TASK_translate_train_all.yaml, and for tasks without a recipe of
their own recipes/general*.yaml, except for the places of models, text and output, which are given here. Every model
gets the same data, updates and batches: a field that would change these for one of them is refused. With other
tokenizers, rows are others: the table says so. Whatever the data lacks is left out, and the table says so: tests and
their labels, translated text, tags for it, pairs.

Retrieval has no training. finetune.understanding.layers chooses the layer of each language on the others, among
`layers`; for a single language, finetune.understanding.predict uses `layer`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from data_tools.cli import FlagParser
from finetune.comparison import parse_comparison, problems_of_counts, problems_of_models
from finetune.understanding.flags import add_data_flags, add_retrieval_flags
from finetune.understanding.recipe import SETTINGS
from finetune.understanding.settings import WITH_PAIRS
from finetune.understanding.tasks.catalogues import SUFFIXES, XTREME, catalogue_named, task_named
from finetune.understanding.tasks.task import Split, Task

TRANSLATE_TEST = "translate-test"  # no setting of a training: the model is that of transfer
COMPARED_SETTINGS = (*SETTINGS, TRANSLATE_TEST)
PLUG_IN = "plug-in"
MODES = ("plug-out", PLUG_IN)
REPORTED = (Split.TEST, Split.DEV)
SIGNIFICANCE_KEYS = ("baseline", "draws")
DRAWS = MIN_DRAWS = 1_000  # of the bootstrap over examples
# Models may differ in their start, regularisation, learning rate and in what of them learns, but see the same data
# equally often.
MODEL_FIELDS = (
    *("init_from", "init", "learning_rate", "warmup_steps", "warmup_share"),
    *("dropout", "attention_dropout"),
    *("freeze", "freeze_layers", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets"),
    *("adapter", "adapter_reduction", "adapter_skips_last", "language_adapter"),
)
# Decided by the comparison, or by a model.
DECIDED = ("task", "setting", "plug_in", "data", "seed", "output", "resume", "init_from", "init")
MIN_FOR_LAYERS = 2  # languages: the layer of each is chosen on the others


@dataclass(frozen=True)
class Group:
    """The runs that are compared with each other: a task, with a setting and a mode if it has training."""

    task: str  # as `task_named` takes it
    setting: str = ""
    mode: str = ""

    def __str__(self) -> str:
        return ", ".join(part for part in (self.definition.title, self.setting, self.mode) if part)

    @cached_property
    def definition(self) -> Task:
        """The task itself."""
        return task_named(self.task)

    @property
    def words(self) -> tuple[str, ...]:
        """The parts of names of directories and files."""
        return tuple(word for word in (self.definition.name, self.setting, self.mode) if word)


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
    report: str = Split.TEST
    translation_model: str = ""
    significance: dict[str, Any] = field(default_factory=dict)
    retrieval: dict[str, Any] = field(default_factory=dict)
    processes: int = 1

    def problems(self) -> list[str]:
        """One sentence for each problem."""
        found = problems_of_models(self.models, MODEL_FIELDS)
        found += problems_of_counts(self.seeds, self.processes)
        choices: dict[str, tuple[list[str], Iterable[str]]] = {
            "settings": (self.settings, COMPARED_SETTINGS),
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
        found += self._problems_of_fields()
        found += [
            f"languages: {name} must be a list" for name, own in self.languages.items() if not isinstance(own, list)
        ]
        found += self._problems_of_starts()
        found += self._problems_of_reports()
        return found + self._problems_of_retrieval()

    def _problems_of_fields(self) -> list[str]:
        """Problems with the fields of recipes: some are decided elsewhere."""
        found = []
        for name, fields in {"fields": self.fields, **self.task_fields}.items():
            allowed = ("data",) if name in self.task_fields else ()
            if not isinstance(fields, dict):
                found.append(f"task_fields: {name} must have fields")
            elif not is_retrieval(name) and (refused := sorted(set(fields) & set(DECIDED) - set(allowed))):
                found.append(f"{name}: {', '.join(refused)} cannot be set here; models, seeds and tasks decide them")
        return found

    def _problems_of_reports(self) -> list[str]:
        """Problems with what is reported, and with the models whose differences are tested."""
        found = []
        if self.report not in REPORTED:
            found.append(f"report {self.report!r} must be one of {', '.join(REPORTED)}")
        elif self.report == Split.DEV and (retrieval := [name for name in self.tasks if is_retrieval(name)]):
            found.append(f"report dev: {', '.join(retrieval)} has no training and is compared on its tests")
        if unknown := sorted(set(self.significance) - set(SIGNIFICANCE_KEYS)):
            found.append(f"significance: unknown {', '.join(unknown)}; it has {', '.join(SIGNIFICANCE_KEYS)}")
        baseline, draws = self.significance.get("baseline"), self.draws
        if baseline is not None and baseline not in self.models:
            found.append(f"significance: baseline {baseline} is none of the models {', '.join(self.models)}")
        if not isinstance(draws, int) or isinstance(draws, bool) or 0 < draws < MIN_DRAWS or draws < 0:
            found.append(f"significance: draws {draws} must be a number of at least {MIN_DRAWS}, or 0 for no test")
        return found

    def _problems_of_tasks(self) -> list[str]:
        """Problems with the list of tasks: unknown ones, none, or two of the same name."""
        found = [] if self.tasks else ["tasks is empty"]
        names: list[str] = []
        for name in self.tasks:
            try:
                names.append(task_named(str(name)).name)
            except ValueError as error:
                found.append(str(error))
        twice = [name for name, count in Counter(names).items() if count > 1]
        return found + [f"tasks: two are named {name}; expected each name once" for name in twice]

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

    @property
    def draws(self) -> Any:
        """The number of draws of the bootstrap over examples, 0 for none."""
        return self.significance.get("draws", DRAWS)

    def pairs(self) -> list[tuple[str, str]]:
        """(model, baseline) whose difference is tested: with the baseline that is given, or else each pair once."""
        models = list(self.models)
        if (baseline := self.significance.get("baseline")) is not None:
            return [(model, baseline) for model in models if model != baseline]
        return [(model, other) for number, model in enumerate(models) for other in models[number + 1 :]]

    def data_of(self, task: str) -> str:
        """The root of a task's files."""
        return str(self.task_fields.get(task, {}).get("data", self.data))

    def translation_model_of(self, language: str) -> str:
        """The model that translates tests in a language."""
        return self.translation_model.replace("{language}", language)

    def wanted_languages(self, task: str) -> str:
        """The languages of a task's tests in the form of a flag; empty for all."""
        return ",".join(map(str, self.languages.get(task, [])))

    def retrieval_flags(self, task: str) -> dict[str, Any]:
        """The flags of a retrieval task: `retrieval`, overridden by `task_fields`."""
        own = self.task_fields.get(task, {})
        own = {name: value for name, value in own.items() if name != "data"} if isinstance(own, dict) else {}
        return {**self.retrieval, **own}


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
    types: dict[str, type] = dict.fromkeys(
        ("models", "fields", "task_fields", "languages", "retrieval", "significance"), dict
    )
    types |= dict.fromkeys(("tasks", "settings", "modes", "seeds"), list)
    types |= {"data": str, "report": str, "translation_model": str, "processes": int}
    make = partial(_with_task_files, path.parent)
    return parse_comparison(path, Comparison, types, "finetune.understanding.compare", make)


def _with_task_files(directory: Path, **values: Any) -> Comparison:
    """The comparison of these keys, with the paths of task files, which are relative to `directory`, made absolute."""

    def resolved(name: Any) -> Any:
        is_file = isinstance(name, str) and Path(name).suffix in SUFFIXES
        return str((directory / Path(name).expanduser()).absolute()) if is_file else name

    if "tasks" in values:
        values["tasks"] = [resolved(name) for name in values["tasks"]]
    for key in ("task_fields", "languages"):
        values[key] = {resolved(name): own for name, own in values.get(key, {}).items()}
    return Comparison(**values)


def groups_of(comparison: Comparison) -> list[Group]:
    """All groups, whatever the data lacks; without pairs, a setting cannot be plugged in."""
    groups = []
    for name in comparison.tasks:
        if task_named(name).is_retrieval:
            groups.append(Group(name))
            continue
        groups += [
            Group(name, setting, mode)
            for setting in comparison.settings
            for mode in comparison.modes
            if mode != PLUG_IN or setting in WITH_PAIRS
        ]
    return groups
