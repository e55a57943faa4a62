"""Tag translated text by a teacher: POS and NER have no translated labels (VECO, ACL 2021, section 5.1).

    python -m finetune.understanding.label TEACHER --data ROOT --output ROOT

TEACHER was fine-tuned on English (udpos or panx). ROOT/{task}/translate-train/{language}.tsv has a word a line and a
blank line between sentences. The same words, each with its tag, are written to the same name below --output: the
directory for `translated_train` of a recipe. Sentences keep their order.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.directories import claim
from data_tools.files.outputs import check_filled_directory
from finetune.model_directory import model_directory
from finetune.placement import add_max_tokens_flag
from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.readers.languages import translated_languages
from finetune.understanding.tasks.task import Head, Split, Task
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind

COMMAND = "finetune.understanding.label"


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, metavar="TEACHER", help="run, checkpoint or model of udpos or panx")
    parser.add_argument(
        "--data", required=True, metavar="ROOT", help="root of the translated text, as the task file has it"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="ROOT", help="root of the tagged text")
    parser.add_argument("--languages", default="", help="such as de,fr (default: all that have a file)")
    add_max_tokens_flag(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    predictor = Predictor.load(model_directory(options.teacher, [Kind.TASK]), None, options.max_tokens)
    task = predictor.task
    if task.head is not Head.TOKEN:
        raise ValueError(f"{options.teacher}: was trained for {task.name}; expected a teacher of udpos or panx")
    if predictor.is_plugged_in:
        raise ValueError(f"{options.teacher}: is plugged in; a teacher reads text that has no pair yet")
    languages = translated_languages(task, options.data, options.languages)
    check_filled_directory(options.output, options.data)
    for language in languages:
        path = tagged_path(options.output, task, language)
        claim(path.parent, [path.name], COMMAND)
    for language in languages:
        label_file(predictor, language, options.data, options.output)


def tagged_path(output: Path, task: Task, language: str) -> Path:
    """The file of the tagged text of a language."""
    return output / task.name / "translate-train" / f"{language}.tsv"


def label_file(predictor: Predictor, language: str, data: str, output: Path) -> None:
    """Write one language's tagged text, and report it."""
    evaluated = predictor.read(Split.TRANSLATE_TRAIN, language, data, translated="")
    tags = predictor.predictions(evaluated)
    path = tagged_path(output, predictor.task, language)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sentence, own_tags in zip(evaluated.examples, tags, strict=True):
            file.writelines(f"{word}\t{tag}\n" for word, tag in zip(sentence.words, own_tags, strict=True))
            file.write("\n")
    print(f"{path}: {len(tags):,} sentences")


if __name__ == "__main__":
    run_main(main)
