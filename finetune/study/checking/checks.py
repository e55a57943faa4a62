"""Checks, before anything is made, of what would otherwise be found after hours: corpora, recipes, flags, sizes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig

from data_tools.cli import one_line
from data_tools.corpus.configuration import Corpus
from finetune.command_stages import Stage
from finetune.encoders import errors_of_transformers
from finetune.steps import Step
from finetune.study.checking.flag_check import checked
from finetune.study.checking.values import place_of, values_of_stages
from finetune.study.configuration import Study
from finetune.study.places import Places
from training.run_directory.kinds import is_model

AT_ONCE = 4  # commands that check themselves
TRAINING = ("pretrain.train", "pretrain/train.py")


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
        problems += [problem for data in study.data if (problem := problem_of_corpus(data, places, stand_ins))]
        training = [stage for stage in stages if stage.command[0] in TRAINING]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(partial(resolved, stand_ins=stand_ins), training)
            recipes = dict(zip((stage.title for stage in training), found, strict=True))
            refused = problems_of_flags([stage for stage in stages if stage not in training], pool)
    refused |= {title: recipe for title, recipe in recipes.items() if isinstance(recipe, str)}
    values = values_of_stages(study)
    problems += [f"{place_of(told, values[title], study)}: {title}: {told}" for title, told in refused.items()]
    if not problems:
        good = {title: recipe for title, recipe in recipes.items() if isinstance(recipe, Mapping)}
        problems += problems_of_sizes(study, places, good)
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


def resolved(stage: Stage, stand_ins: Mapping[str, Path]) -> dict[str, Any] | str:
    """The recipe that a command of pre-training has, or what is wrong with it, by its own check."""
    words = [str(stand_ins.get(word, word)) for word in stage.command[1:]]
    command = [sys.executable, "-m", "pretrain.train", *words, "--validate_only"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        told = result.stderr.strip().rpartition("\n")[2].removeprefix("error: ")
        return told.removeprefix(f"recipe {words[words.index('--config') + 1]}: ")
    return dict(yaml.safe_load(result.stdout))


def problems_of_flags(stages: Sequence[Stage], pool: ThreadPoolExecutor) -> dict[str, str]:
    """Title of a stage -> what the parser of its command refuses; each command is imported once."""
    lines: dict[str, dict[str, tuple[str, ...]]] = {}
    for stage in stages:
        module, *words = stage.command
        lines.setdefault(module, {})[stage.title] = tuple(words)
    found = pool.map(checked, lines, [list(of_module.values()) for of_module in lines.values()])
    return {
        title: problem
        for of_module, problems in zip(lines.values(), found, strict=True)
        for title, problem in zip(of_module, problems, strict=True)
        if problem is not None
    }


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
        with errors_of_transformers(f"{directory}: its config.json"):
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        return config.num_hidden_layers, config.hidden_size
    if name not in study.models:
        raise ValueError(f"{directory}: is not a model")
    if start := study.models[name].start:
        num_layers, width = size_of(start, study, places, recipes)
        return len(recipes.get(f"model {name}: pretrain", {}).get("keep_layers", ())) or num_layers, width
    recipe = recipes[f"model {name}: pretrain"]
    return int(recipe["num_hidden_layers"]), int(recipe["hidden_size"])
