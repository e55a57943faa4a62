"""Checks, before anything is made, of what would otherwise be found after hours: corpora, recipes, flags, sizes."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data_tools.cli import one_line
from data_tools.corpus.configuration import Corpus
from finetune.command_stages import Stage
from finetune.steps import Step
from finetune.study.checking.flag_check import Parsed, checked
from finetune.study.checking.inputs import problems_of_inputs
from finetune.study.checking.values import place_of, values_of_stages
from finetune.study.configuration import Study
from finetune.study.places import Places
from training.run_directory.kinds import is_model
from veco.opening import open_config

AT_ONCE = 4  # commands that check themselves
SIZE = ("num_hidden_layers", "hidden_size")


def check_steps(study: Study, places: Places, steps: Sequence[Step], files: Mapping[Path, str]) -> None:
    """Raise ValueError with all that commands of unfinished steps would refuse, and for models of two sizes.

    `files` are those that the study is going to write: they are checked at another place, and nothing is left behind.
    """
    stages = [stage for step in steps for stage in step.stages if not stage.result.exists()]
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="veco-study-") as name:
        stand_ins = {}
        for number, (path, text) in enumerate(files.items()):
            stand_ins[str(path)] = Path(name) / f"{number}-{path.name}"
            stand_ins[str(path)].write_text(text, encoding="utf-8")
        problems += problems_of_inputs(study, places, {stage.title for stage in stages})
        problems += [problem for data in study.data if (problem := problem_of_corpus(data, places, stand_ins))]
        parsed = parsed_stages(stages, stand_ins)
    values = values_of_stages(study)
    for title, (told, _) in parsed.items():
        if told:
            problems.append(f"{place_of(told, values[title], study)}: {title}: {told}")
    if not problems:
        problems += problems_of_sizes(study, places, {title: one.values for title, one in parsed.items()})
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))


def problem_of_corpus(name: str, places: Places, stand_ins: Mapping[str, Path]) -> str:
    """What is wrong with the corpus of an entry of `data`; empty if nothing is, or it has none."""
    path = stand_ins.get(str(places.corpus(name)))
    if path is None:
        return ""
    try:
        Corpus.load(path, needs_tokenizer=False)
    except ValueError as error:
        return f"data {name}: {one_line(error).replace(f'{path}: ', '')}"
    return ""


def parsed_stages(stages: Sequence[Stage], stand_ins: Mapping[str, Path]) -> dict[str, Parsed]:
    """Title of a stage -> what the parser of its command makes of its line; each command is imported once."""
    lines: dict[str, dict[str, list[str]]] = {}
    for stage in stages:
        module = stage.command[0]
        if stage.is_distributed:  # the launcher has the file of a training
            module = module.removesuffix(".py").replace("/", ".")
        lines.setdefault(module, {})[stage.title] = [str(stand_ins.get(word, word)) for word in stage.command[1:]]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(checked, lines, [list(of_module.values()) for of_module in lines.values()]))
    parsed = {}
    for of_module, answers in zip(lines.values(), found, strict=True):
        for (title, words), answer in zip(of_module.items(), answers, strict=True):
            recipe = next((word for flag, word in itertools.pairwise(words) if flag == "--config"), "")
            parsed[title] = answer._replace(problem=answer.problem.removeprefix(f"recipe {recipe}: "))
    return parsed


def problems_of_sizes(study: Study, places: Places, recipes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """That models of the table have another number of layers, or another width, than the first; but for teachers."""
    sizes: dict[str, tuple[int, ...]] = {}
    for name in study.rows:
        if name in study.models and name not in study.teachers:
            try:
                sizes[name] = size_of(name, study, places, recipes)
            except ValueError as error:
                return [f"model {name}: {error}"]
    if not sizes:
        return []
    first, *others = sizes
    return [
        f"models {first} and {other} are compared, but differ in size ({' x '.join(map(str, sizes[first]))} and "
        f"{' x '.join(map(str, sizes[other]))}, layers x width); name the models to compare in table"
        for other in others
        if sizes[other] != sizes[first]
    ]


def size_of(name: str, study: Study, places: Places, recipes: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
    """(layers, width) of a model, made or not: of its configuration, its recipe, or the model it begins from.

    Raises ValueError for a directory that is no model.
    """
    directory = places.model(name)
    if is_model(directory):
        config = open_config(directory)
        if not all(hasattr(config, field) for field in SIZE):
            raise ValueError(
                f"{directory}: a {config.model_type} has no {' and '.join(SIZE)}; expected an encoder of text"
            )
        return config.num_hidden_layers, config.hidden_size
    if name not in study.models:
        raise ValueError(f"{directory}: is not a model")
    if start := study.models[name].start:
        num_layers, width = size_of(start, study, places, recipes)
        return len(recipes.get(f"model {name}: pretrain", {}).get("keep_layers", ())) or num_layers, width
    recipe = recipes[f"model {name}: pretrain"]
    return tuple(int(recipe[name]) for name in SIZE)
