"""Reading a STUDY.yaml, whose form finetune/study/configuration.py describes; each mistake is told with its place."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.files.yaml_files import all_expanded, read_marked_mapping
from finetune.study.configuration import (
    CONTROL,
    DataPart,
    FieldOfFile,
    ModelPart,
    ProbePart,
    Study,
    TaskPart,
    TokenizerPart,
)
from finetune.study.preparation import VOCABULARY
from finetune.study.references import check_references
from finetune.understanding.comparison.configuration import DECIDED, DRAWS, MIN_DRAWS, REPORTED
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import SUFFIXES, task_named
from finetune.understanding.tasks.section import Section, described
from finetune.understanding.tasks.task import Split

SECTIONS = ("tokenizers", "data", "models", "tasks", "probes")  # of named entries
SETTINGS = ("pretraining", CONTROL, "finetuning", "seeds", "table", "processes")
MAY_BE_DIRECTORIES = ("tokenizers", "data", "models")  # sections whose entries may be the path of what is there already
CORPUS_KEYS = ("mono", "parallel", "valid", "filters", "deduplicate")
PATH_KEYS = ("text", "jsonl", "parquet", "tsv", "csv", "source", "target", "tmx", "opus")  # of the files in a corpus
MODEL_KEYS = ("from", "convert", "vocabulary", "extend", "pretrain", "languages", "fields", "task_fields")
TASK_KEYS = ("task", "data", "languages", "tests", "report", "fields")
PROBE_KEYS = ("command", "flags", "results", "by_layer", "models")
RECIPE_FIELDS = tuple(field.name for field in dataclasses.fields(UnderstandingRecipe))
NAME = re.compile(r"\w[\w.-]*")


def read_study(path: Path) -> Study:
    """The study of a file, with environment variables replaced. Raises ValueError with each mistake and its place."""
    read = read_marked_mapping(path, "what python -m finetune.study --help shows")
    problems: list[str] = []
    content = all_expanded(read.content, lambda problem: problems.append(f"{path}: {problem}"))
    top = Section(content, (), read.place, problems)
    top.check_keys((*SECTIONS, *SETTINGS))
    parts = {name: entries(top, name) for name in SECTIONS}
    tokenizers = {name: _tokenizer(own) for name, own in parts["tokenizers"].items()}
    data = {name: _data(own, path.parent) for name, own in parts["data"].items()}
    models = {name: _model(own, path.parent) for name, own in parts["models"].items()}
    control = top.section(CONTROL)
    control.check_keys(("from", "fields"))
    table = top.section("table")
    table.check_keys(("models", "baseline", "draws", "averages"))
    averages = table.section("averages")
    rows = (*(table.texts("models") or models), *([CONTROL] if top.has(CONTROL) else ()))
    study = Study(
        path=path,
        place=read.place,
        tokenizers=tokenizers,
        data=data,
        models=models,
        tasks={name: _task(own, path.parent) for name, own in parts["tasks"].items()},
        probes={name: _probe(own, path.parent) for name, own in parts["probes"].items()},
        pretraining=top.section("pretraining").content,
        finetuning=_recipe_fields(top.section("finetuning"), ("data",)),
        control=control.texts("from"),
        control_fields=_recipe_fields(control.section("fields")),
        seeds=_seeds(top),
        rows=rows,
        averages={str(name): averages.texts(name) for name in averages.content},
        baseline=table.text("baseline", CONTROL if top.has(CONTROL) else ""),
        draws=_number(table, "draws", DRAWS, 0),
        processes=_number(top, "processes", 1, 1),
    )
    check_references(study, top, {name: {key: own for key, (own, _) in found.items()} for name, found in parts.items()})
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return study


def entries(top: Section, name: str) -> dict[str, tuple[Section, str]]:
    """The named entries of a section: each a mapping, or a text, which is a directory."""
    section = top.section(name)
    found = {}
    for key, value in section.content.items():
        if not NAME.fullmatch(str(key)):
            told = f"{name}: {key!r} names a directory: letters, digits, '_', and behind the first also '.' and '-'"
            section.complain(key, told)
        is_directory = isinstance(value, str) and name in MAY_BE_DIRECTORIES
        if not is_directory and not isinstance(value, Mapping):
            section.complain(key, f"{name}: {key}: expected a mapping, found {described(value)}")
        own = Section({} if not isinstance(value, Mapping) else value, (name, key), top.place, top.problems)
        found[str(key)] = own, value if is_directory else ""
    return found


def _tokenizer(entry: tuple[Section, str]) -> TokenizerPart:
    section, directory = entry
    if directory:
        return TokenizerPart(directory=directory)
    flags = {name: value for name, value in section.content.items() if name != "text"}
    return TokenizerPart(text=section.text("text"), flags=flags)


def _data(entry: tuple[Section, str], base: Path) -> DataPart:
    section, directory = entry
    if directory:
        return DataPart(directory=directory)
    section.check_keys(("tokenizer", *CORPUS_KEYS))
    corpus = {name: value for name, value in section.content.items() if name in CORPUS_KEYS}
    for name in ("mono", "parallel"):
        if name in corpus:
            corpus[name] = {key: with_absolute_paths(own, base) for key, own in section.section(name).content.items()}
    return DataPart(tokenizer=section.text("tokenizer"), corpus=corpus)


def with_absolute_paths(value: Any, base: Path) -> Any:
    """The files of a language in a CORPUS.yaml, with the paths that are relative made absolute, below `base`."""
    if isinstance(value, list):
        return [with_absolute_paths(item, base) for item in value]
    if isinstance(value, Mapping):
        return {key: with_absolute_paths(own, base) if key in PATH_KEYS else own for key, own in value.items()}
    return str(base.absolute() / value) if isinstance(value, str) and "://" not in value else value


def _model(entry: tuple[Section, str], base: Path) -> ModelPart:
    section, directory = entry
    if directory:
        return ModelPart(start=directory)
    section.check_keys(MODEL_KEYS)
    vocabulary, pretrain = section.section("vocabulary"), section.section("pretrain")
    of_tasks = section.section("task_fields")
    if section.has("vocabulary"):
        vocabulary.text("tokenizer")  # that it is there
    if section.has("pretrain"):
        pretrain.text("data")
    if not section.has("from") and not section.has("pretrain"):
        section.complain("from", f"model {section.keys[-1]} has neither from nor pretrain")
    for key in ("convert", *VOCABULARY):
        if section.has(key) and not section.has("from"):
            section.complain(key, f"{key}: needs from, the model that is changed")
    return ModelPart(
        start=section.text("from", ""),
        convert=section.text("convert", ""),
        vocabulary=_flags(vocabulary, base) if section.has("vocabulary") else None,
        extend=_flags(section.section("extend"), base) if section.has("extend") else None,
        pretrain=pretrain.content if section.has("pretrain") else None,
        languages=section.texts("languages"),
        fields=_recipe_fields(section.section("fields"), ("init",)),
        task_fields={str(name): _recipe_fields(of_tasks.section(name)) for name in of_tasks.content},
    )


def _flags(section: Section, base: Path) -> dict[str, Any]:
    """Flags, which may be spelt with `-` or `_`, with `_`."""
    return {str(name).replace("-", "_"): value for name, value in _with_own_files(section, base).items()}


def _with_own_files(section: Section, base: Path) -> dict[str, Any]:
    """Flags, with the files that lie beside the study named in full; a task's file must be there or here."""
    flags = {
        name: [_own_file(one, base) for one in value] if isinstance(value, list) else _own_file(value, base)
        for name, value in section.content.items()
    }
    task = str(flags.get("task"))
    if task.endswith(SUFFIXES) and not os.path.isfile(task):
        section.complain("task", f"task: {base.absolute() / task}: no such file")
    return flags


def _own_file(value: Any, base: Path) -> Any:
    """The value, or the file of that name beside the study; a word without a suffix, say a tokenizer, is no file."""
    if not isinstance(value, str) or not Path(value).suffix:
        return value
    path = base.absolute() / value
    return str(path) if os.path.isfile(path) else value  # unlike Path's, false for texts too long to be names


def _task(entry: tuple[Section, str], base: Path) -> TaskPart:
    section, _ = entry
    section.check_keys(TASK_KEYS)
    name = section.text("task")
    if name.endswith(SUFFIXES):
        name = str(base.absolute() / name)
    known: Sequence[str] = ()
    try:
        task = task_named(name) if name else None
    except ValueError as error:
        section.problems.append(str(error) if name.endswith(SUFFIXES) else f"{section.place(section.keys)}: {error}")
        task = None
    if task is not None:
        known = task.languages
        if task.is_retrieval:
            section.complain("task", f"task {name} has no training; a study compares retrieval as a probe")
        for key in ("languages", "tests"):
            if unknown := [one for one in section.texts(key) if one not in known]:
                section.complain(key, f"{key}: {name} has no {', '.join(unknown)}, only {', '.join(known)}")
    report = section.one_of("report", [str(split) for split in REPORTED], Split.TEST.value)
    return TaskPart(
        task=name,
        data=section.text("data", ""),
        languages=section.texts("languages") or tuple(known),
        tests=section.texts("tests"),
        report=report or Split.TEST,
        fields=_recipe_fields(section.section("fields")),
    )


def _recipe_fields(section: Section, also: Sequence[str] = ()) -> Mapping[str, Any]:
    """Fields of the recipe of fine-tuning, of which the study decides some itself, unless they are in `also`."""
    section.check_keys(RECIPE_FIELDS)
    for name in section.content:
        if name in DECIDED and name not in also:
            section.complain(name, f"{name} cannot be set here: the study decides it")
    return section.content


def _probe(entry: tuple[Section, str], base: Path) -> ProbePart:
    section, _ = entry
    section.check_keys(PROBE_KEYS)
    results, by_layer = (_fields_of_files(section, key) for key in ("results", "by_layer"))
    if not results and not by_layer:
        section.complain("results", "results and by_layer name no number of the command's files")
    return ProbePart(
        command=section.text("command"),
        flags=_with_own_files(section.section("flags"), base),
        results=results,
        by_layer=by_layer,
        models=section.texts("models"),
    )


def _fields_of_files(section: Section, key: str) -> dict[str, FieldOfFile]:
    found = {}
    for name, place in section.texts_by_key(key).items():
        file, _, keys = place.partition(":")
        if not file or not keys:
            section.complain(key, f"{key}: {name} {place!r}: expected FILE:FIELD, such as syntax.json:uuas")
        found[name] = FieldOfFile(file, tuple(keys.split(".")))
    return found


def _seeds(top: Section) -> list[int]:
    seeds = top.content.get("seeds")
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        top.complain("seeds", "seeds: expected a list of whole numbers, such as [1, 2, 3]")
        return []
    if len(set(seeds)) != len(seeds):
        top.complain("seeds", f"seeds {seeds} must be different numbers")
    return seeds


def _number(section: Section, key: str, default: int, least: int) -> int:
    value = section.content.get(key, default)
    if type(value) is not int or value < least:
        section.complain(key, f"{key} {value}: expected a whole number of at least {least}")
        return default
    if key == "draws" and 0 < value < MIN_DRAWS:
        section.complain(key, f"draws {value}: expected at least {MIN_DRAWS}, or 0 for no intervals")
    return value
