"""Translate the tests of a task into its source language, for the baseline translate-test.

    python -m finetune.understanding.translate MODEL --task TASK --data ROOT --languages de,fr --output ROOT

MODEL is one of finetune/mt/train.py, which translates from these languages; finetune.mt.generate does it, each text
once. --output gets {split}-{language}.jsonl and TASK.yaml, a task whose tests or dev sets these are:

    python -m finetune.understanding.predict FINE-TUNED --task ROOT/TASK.yaml --data ROOT --output PREDICTIONS

The labels stay in the data: predictions are scored there. Words and spans of a text are not those of its translation,
so tags, answers to questions and words in context cannot be had this way.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path, write_texts
from data_tools.files.directories import claim
from data_tools.files.outputs import check_filled_directory
from data_tools.text.lines import open_text
from finetune.model_directory import model_directory
from finetune.mt.decoding.translator import check_model, target_languages
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.readers.files import translations_name
from finetune.understanding.readers.languages import languages_tested
from finetune.understanding.readers.records import choice_field
from finetune.understanding.split_flag import add_split_flag
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import Choices, Example, LabelledText
from finetune.understanding.tasks.task import FileKind, FilePlace, Format, Head, Split, Task
from finetune.understanding.tasks.task_file import content_of, read_task
from training.commands import run_command
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind
from veco.opening import open_config
from veco.tokenizer import open_tokenizer

COMMAND = "finetune.understanding.translate"
TRANSLATED_HEADS = (Head.SEQUENCE, Head.MULTILABEL, Head.REGRESSION, Head.RANKING, Head.CHOICE)
# Written where an example has them, besides its texts: predictions and groups need them.
KEPT = ("id", "group")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog=f"python -m {COMMAND}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="run, checkpoint or model of finetune.mt")
    parser.add_argument("--task", required=True, help="such as xtreme/xnli or mine.yaml")
    parser.add_argument("--data", required=True, metavar="ROOT", help="where the files of the task are")
    parser.add_argument("--languages", default="", help="such as de,fr (default: all that there are)")
    parser.add_argument("--output", type=Path, required=True, metavar="ROOT", help="root of the translations")
    parser.add_argument("--beam", type=int, default=5, help="beam size (default %(default)s)")
    add_split_flag(parser)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    task = task_named(options.task)
    if task.head not in TRANSLATED_HEADS:
        raise ValueError(f"--task {options.task}: the spans and tags of a translation are not those of the test")
    model = model_directory(options.model, [Kind.TRANSLATION])
    flags = [*language_flags(model, task.source_language), "--beam", str(options.beam)]
    found = languages_tested(task, options.data, options.languages, options.split)
    languages = [language for language in found if language != task.source_language]
    if not languages:
        raise ValueError(f"{task.name}: its tests are in {task.source_language} alone, which needs no translation")
    check_filled_directory(options.output, options.data)
    description = options.output / f"{task.name}.yaml"
    paths = {language: options.output / translations_name(options.split, language) for language in languages}
    claim(options.output, [description.name, *(path.name for path in paths.values())], COMMAND)
    for language in languages:
        examples = list(read(task, options.split, language, options.data))
        records = translated(examples, task, model, flags)
        others = read_task(description).files if description.is_file() else {}
        write_texts(options.output, {description.name: task_file(task, options.split, records, others)})
        write_records(paths[language], records)
        print(f"{paths[language]}: {len(records):,} examples")


def language_flags(model: Path, language: str) -> list[str]:
    """The flag that makes a model translate into a language. Raises ValueError if it does not."""
    tokenizer = open_tokenizer(model)
    knows = open_config(model).to_dict().get("target_language") or target_languages(tokenizer)
    check_model(model, language if knows else None)
    return ["--target-language", language] if knows else []


def translated(examples: Sequence[Example], task: Task, model: Path, flags: Sequence[str]) -> list[dict[str, Any]]:
    """The fields of each example, with translated texts and without its label."""
    fields = [texts_of(example) for example in examples]
    split = [{name: without_phrase(text, task) for name, text in own.items()} for own in fields]
    found = translations({text: None for own in split for text, _ in own.values()}, model, flags)
    records = []
    for example, own in zip(examples, split, strict=True):
        texts = {name: f"{found[text]}{phrase}" for name, (text, phrase) in own.items()}
        kept = dataclasses.asdict(example)
        records.append({**texts, **{name: kept[name] for name in KEPT if kept.get(name)}})
    return records


def texts_of(example: Example) -> dict[str, str]:
    """The texts of an example by the names of their fields; those of choices are choice_0, choice_1, …

    White space is normalised, since a translation model reads lines.
    """
    if isinstance(example, LabelledText):
        texts = dict(zip(("text_a", "text_b"), example.texts, strict=False))
    elif isinstance(example, Choices):
        choices = {choice_field(number): choice for number, choice in enumerate(example.choices)}
        texts = {"text_a": example.text, **choices}
    else:
        raise TypeError(f"{type(example).__name__} has words or spans, which a translation lacks")
    return {name: " ".join(text.split()) for name, text in texts.items()}


def without_phrase(text: str, task: Task) -> tuple[str, str]:
    """(the text of a choice task, the phrase behind it that the task adds, which is not to be translated)."""
    for phrase in task.phrases.values():
        if text.endswith(f" {phrase}"):
            return text.removesuffix(f" {phrase}"), f" {phrase}"
    return text, ""


def translations(texts: Mapping[str, None], model: Path, flags: Sequence[str]) -> dict[str, str]:
    """Each text with its translation by finetune.mt.generate; one that is empty stands for itself.

    Raises ValueError when the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="veco-translate-") as directory:
        source, output = Path(directory) / "source.txt", Path(directory) / "translations.txt"
        source.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        command = ("finetune.mt.generate", str(model), "--input", str(source), "--output", str(output), "--quiet")
        if code := run_command([sys.executable, "-m", *command, *flags]):
            raise ValueError(f"finetune.mt.generate {model} failed with exit code {code}")
        with open_text(output) as lines:
            found = list(lines)
    return {text: translation.strip() or text for text, translation in zip(texts, found, strict=True)}


def task_file(
    task: Task, split: Split, records: Sequence[Mapping[str, Any]], others: Mapping[Split, tuple[FilePlace, ...]]
) -> str:
    """The YAML of a task whose only files are the translations of a split, and those of `others`."""
    names = dict.fromkeys(name for record in records for name in record)
    numbers = itertools.takewhile(lambda number: choice_field(number) in names, itertools.count())
    choices = tuple(choice_field(number) for number in numbers)
    columns = {name: (name,) for name in names if name not in choices}
    form = Format(kind=FileKind.JSONL, columns=columns, choices=choices)
    place = FilePlace(path=translations_name(split, "{language}"), format=form)
    files = {**others, split: (place,)}
    content = content_of(dataclasses.replace(task, files=files, hub={}, phrases={}, dev_from_train=False))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write an object a line."""
    with atomic_path(path) as temporary:
        lines = (json.dumps(record, ensure_ascii=False) for record in records)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
