"""The names by which the parts of a STUDY.yaml refer to one another."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from pathlib import Path

from finetune.study.configuration import CONTROL, Study
from finetune.study.preparation import VOCABULARY
from finetune.study.probes import probed_models
from finetune.understanding.tasks.section import Section, meant


def check_references(study: Study, top: Section, parts: Mapping[str, Mapping[str, Section]]) -> None:
    """Complain of names that no section has, and of models that need one another.

    `parts` are the entries of each section, by their names.
    """
    for name, tokenizer in study.tokenizers.items():
        if tokenizer.text:
            section = parts["tokenizers"][name]
            check_name(section, "text", tokenizer.text, "data", study.data)
            if tokenizer.text in study.data and not study.data[tokenizer.text].corpus:
                section.complain("text", f"text {tokenizer.text}: is prepared data, not text")
    for name, data in study.data.items():
        if data.tokenizer:
            check_tokenizer(parts["data"][name], "tokenizer", data.tokenizer, study)
    check_models(study, parts["models"])
    if "teacher" in study.pretraining:
        problem = "teacher of all pre-training: expected in the pretrain of each model that learns from one"
        top.section("pretraining").complain("teacher", problem)
    check_teachers(study, top, parts)
    compared, control = (*study.models, *([CONTROL] if study.control else ())), top.section(CONTROL)
    for name in study.control:
        check_name(control, "from", name, "models", study.models)
    if top.has(CONTROL) and not study.control:
        control.complain("from", "control: from is missing, the model whose shape and tokenizer it has")
    for name in dict.fromkeys(study.rows):
        check_name(top.section("table"), "models", name, "models", compared)
    if study.rows.count(CONTROL) > 1:
        top.section("table").complain("models", f"table: leave out {CONTROL}, which has a row in any case")
    for name, tasks in study.averages.items():
        averages = top.section("table").section("averages")
        if not tasks:
            averages.complain(name, f"averages: {name} is over no task")
        for task in tasks:
            check_name(averages, name, task, "tasks", study.tasks)
    if study.baseline:
        check_name(top.section("table"), "baseline", study.baseline, "the table", study.rows)
    for name, probe in study.probes.items():
        for model in probe.models:
            check_name(parts["probes"][name], "models", model, "models", study.models)
    check_numbers_of_probes(study, parts["probes"])
    if not study.tasks and not study.probes:
        top.complain("tasks", "neither tasks nor probes: there is nothing to compare models on")


def check_numbers_of_probes(study: Study, sections: Mapping[str, Section]) -> None:
    """Complain of a number that two probes of one model find, of which the table would show one."""
    for one, other in itertools.combinations(study.probes, 2):
        if not {*probed_models(study.probes[one], study)} & {*probed_models(study.probes[other], study)}:
            continue
        first, second = study.probes[one], study.probes[other]
        for key, repeated in (
            ("results", first.results.keys() & second.results.keys()),
            ("by_layer", first.by_layer.keys() & second.by_layer.keys()),
        ):
            for name in sorted(repeated):
                sections[other].complain(
                    key, f"probe {other}: {key} has {name}, as probe {one} has; rename one of them"
                )


def check_models(study: Study, sections: Mapping[str, Section]) -> None:
    """Complain of models that begin from what is not there, or have no name of their own."""
    for name, model in study.models.items():
        section = sections[name]
        if model.start:
            check_path_or_name(section, "from", model.start, "models", study.models)
        for part, (_, key) in VOCABULARY.items():
            if own := str(model.vocabulary_flags(part).get(key, "")):
                check_tokenizer(section.section(part), key, own, study)
        if model.pretrain is not None and (own := str(model.pretrain.get("data", ""))):
            check_path_or_name(section.section("pretrain"), "data", own, "data", study.data)
        if model.teacher:
            check_path_or_name(section.section("pretrain"), "teacher", model.teacher, "models", study.models)
        for task in model.task_fields:
            check_name(section, "task_fields", task, "tasks", study.tasks)
        if name == CONTROL:
            section.complain("from", f"model {name}: that is the name of the control; choose another")
    check_circles(study, sections)


def check_tokenizer(section: Section, key: str, value: str, study: Study) -> None:
    """Complain of what is neither a tokenizer, nor a model, nor a directory."""
    check_path_or_name(section, key, value, "tokenizers and models", [*study.tokenizers, *study.models])


def check_path_or_name(section: Section, key: str, value: str, where: str, known: Collection[str]) -> None:
    """Complain of what is neither one of `known`, the names of the section `where`, nor a directory."""
    if value in known or is_directory(value):
        return
    if "/" in value:
        section.complain(key, f"{key} {value}: no such directory")
    else:
        check_name(section, key, value, where, known)


def check_name(section: Section, key: str, name: str, where: str, known: Collection[str]) -> None:
    """Complain of a name that is none of `known`, those of `where`."""
    if name not in known:
        section.complain(key, f"{key} {name!r}: no such name in {where}; {meant(name, known)}")


def check_teachers(study: Study, top: Section, parts: Mapping[str, Mapping[str, Section]]) -> None:
    """Complain of teachers of fine-tuning that are neither models of the table, whose runs teach, nor directories."""
    given = [
        (top.section("finetuning"), study.finetuning),
        (top.section(CONTROL).section("fields"), study.control_fields),
    ]
    given += [(parts["tasks"][name].section("fields"), part.fields) for name, part in study.tasks.items()]
    for name, model in study.models.items():
        section = parts["models"][name]
        given.append((section.section("fields"), model.fields))
        given += [(section.section("task_fields").section(task), own) for task, own in model.task_fields.items()]
    for section, fields in given:
        if teacher := str(fields.get("teacher") or ""):
            check_path_or_name(section, "teacher", teacher, "the table", study.rows)


def check_circles(study: Study, sections: Mapping[str, Section]) -> None:
    """Complain once of each circle of models that need one another."""
    before = {name: needed_models(name, study) for name in study.models}
    told: set[str] = set()
    for name in study.models:
        if name not in told and (way := way_back(name, before)):
            told |= {*way}
            sections[name].complain("from", f"models need one another: {' needs '.join(way)}")


def way_back(name: str, before: Mapping[str, Collection[str]]) -> list[str]:
    """The names on a way from one back to itself, where `before` has what each needs; empty if there is none."""
    ways, seen = [[name]], set[str]()
    while ways:
        way = ways.pop()
        for one in before.get(way[-1], ()):
            if one == name:
                return [*way, one]
            if one not in seen:
                seen.add(one)
                ways.append([*way, one])
    return []


def needed_models(name: str, study: Study) -> list[str]:
    """The models that must be there before one: its start, its teacher, and those of whose tokenizers it has need."""
    part = study.models[name]
    data = study.data.get(str((part.pretrain or {}).get("data")))
    tokenizers = [str(part.vocabulary_flags(kind).get(key, "")) for kind, (_, key) in VOCABULARY.items()]
    tokenizers += [data.tokenizer] if data else []
    carried = [tokenizer for tokenizer in tokenizers if tokenizer not in study.tokenizers]
    return [need for need in (part.start, part.teacher, *carried) if need in study.models]


def is_directory(path: str) -> bool:
    """Whether a directory is there."""
    return Path(path).is_dir()
