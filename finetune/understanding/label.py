"""Tag translated text by a teacher: POS and NER have no translated labels (VECO, ACL 2021, section 5.1).

    python -m finetune.understanding.label TEACHER --data ROOT --output ROOT

TEACHER was fine-tuned on English (udpos or panx). The task's file of translated training text has a word a line and a
blank line between sentences: ROOT/{task}/translate-train/{language}.tsv of XTREME's. The same words, each with its tag
in the task's column, are written to the same name below --output: the directory for `translated_train` of a recipe.
Sentences keep their order.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.directories import claim
from data_tools.files.outputs import check_filled_directory
from finetune.model_directory import model_directory
from finetune.placement import add_max_tokens_flag
from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.readers.files import find_file, name_of
from finetune.understanding.readers.languages import translated_languages
from finetune.understanding.readers.roots import is_hub
from finetune.understanding.tasks.task import UNTAGGED, FileKind, Head, Split, Task
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
    files = {language: tagged_file(task, language, options.data) for language in languages}
    for file in files.values():
        path = options.output / file.name
        claim(path.parent, [path.name], COMMAND)
    for language, file in files.items():
        label_file(predictor, language, options.data, options.output, file)


@dataclass(frozen=True)
class TaggedFile:
    """The name of a file of tagged text below its root, and the columns of words and tags, from 0."""

    name: str
    word: int
    tag: int

    def line(self, word: str, tag: str) -> str:
        """The line of a word; columns of other fields have UNTAGGED."""
        cells = [UNTAGGED] * (max(self.word, self.tag) + 1)
        cells[self.word], cells[self.tag] = word, tag
        return "\t".join(cells) + "\n"


def tagged_file(task: Task, language: str, data: str) -> TaggedFile:
    """Where the task looks for the tagged text of a language whose words it finds in `data`.

    Raises ValueError for a form of files in which no tags can be written.
    """
    if is_hub(data):
        raise ValueError(f"--data {data}: expected a directory of text")
    place = find_file(task, Split.TRANSLATE_TRAIN, language, Path(data)).place
    word, tag = (place.format.columns.get(field, (None,))[0] for field in ("word", "tag"))
    is_alone = place.format.kind is FileKind.CONLL and not place.further
    if is_alone and isinstance(word, int) and isinstance(tag, int) and min(word, tag) >= 0:
        return TaggedFile(name_of(place, task, language), word, tag)
    raise ValueError(
        f"{task.name}: {place.path}: tags can be written in one file of `kind: conll` whose columns `word` and `tag` "
        f"are numbers from 0; found `kind: {place.format.kind}`, word {word}, tag {tag}"
    )


def label_file(predictor: Predictor, language: str, data: str, output: Path, tagged: TaggedFile) -> None:
    """Write one language's tagged text, and report it."""
    evaluated = predictor.read(Split.TRANSLATE_TRAIN, language, data, translated="")
    tags = predictor.predictions(evaluated)
    path = output / tagged.name
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sentence, own_tags in zip(evaluated.examples, tags, strict=True):
            file.writelines(tagged.line(word, tag) for word, tag in zip(sentence.words, own_tags, strict=True))
            file.write("\n")
    print(f"{path}: {len(tags):,} sentences")


if __name__ == "__main__":
    run_main(main)
