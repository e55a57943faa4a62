"""Make the data of sequence-level distillation: a teacher translates the source of the training text with beam search.

    python -m finetune.mt.distil TEACHER --input train.en --output DISTILLED [--beam 5] [--workers N]
    deepspeed finetune/mt/train.py … --train_source DISTILLED/source.txt --train_target DISTILLED/target.txt

A small student that learns the teacher's best translations, in place of the references, comes close to the teacher, and
needs a smaller beam (Kim & Rush, Sequence-Level Knowledge Distillation, 2016): the teacher says the same things in the
same way. The text is the source side of the teacher's training data, or any other in that language. To train on the
references too, give both corpora, and the direction twice: --directions en-de,en-de --train_source
train.en,DISTILLED/source.txt --train_target train.de,DISTILLED/target.txt.

Empty lines, lines longer than the model's maximum, empty translations and pairs of very unequal lengths, such as those
of models that repeat themselves, are dropped and counted.

DISTILLED/source.txt, target.txt   the pairs, in the order of the input; written whole when all lines are translated
DISTILLED/parts/                   until then: blocks of 10,000 lines; the same command goes on behind the last one
DISTILLED/settings.json            what was translated, how and by which model: other settings need another directory
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.cli import FlagParser, progress_bar
from data_tools.files.atomic import atomic_path, sha256_of
from data_tools.files.directories import claim
from data_tools.files.outputs import check_output_directory
from finetune.model_directory import model_directory
from finetune.mt.decoding.command_line import (
    add_decoding_arguments,
    check_decoding_arguments,
    load,
    model_files,
    search_options,
    translated,
)
from finetune.mt.decoding.input_lines import count_lines_of_file, read_blocks
from finetune.mt.decoding.workers import Workers, joined_workers
from finetune.mt.synthetic_pairs import add_max_ratio, check_max_ratio, kept_pairs, listed_counts
from training.launch import launched_rank, quiet_libraries, run_on_ranks
from training.run_directory.kinds import Kind

COMMAND = "finetune.mt.distil"
SOURCE, TARGET, PARTS, SETTINGS = "source.txt", "target.txt", "parts", "settings.json"


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """All that the pairs depend on, as JSON has it; not the size of batches."""
    search = dataclasses.asdict(search_options(arguments))
    return {
        "input": sha256_of(arguments.input),
        "model": {path.name: sha256_of(path) for path in sorted(model_files(arguments.model))},
        "target_language": arguments.target_language,
        "engine": arguments.engine,
        "dtype": arguments.dtype,
        "max_ratio": arguments.max_ratio,
        **{name: value for name, value in search.items() if name != "max_tokens"},
    }


def begin(output: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a new directory. Raises ValueError for one that was begun with others, or is not ours."""
    claim(output, [SOURCE, TARGET, PARTS, SETTINGS], COMMAND)
    path = output / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if different := [name for name, value in settings.items() if before.get(name) != value]:
            raise ValueError(
                f"{output}: was begun with another {', '.join(different)}; choose another --output, or give the same"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def part_of(output: Path, first: int) -> Path:
    """The file of the block whose first line has that number."""
    return output / PARTS / f"{first:012}.json"


def work(arguments: argparse.Namespace, num_lines: int, workers: Workers) -> None:
    """Translate on every worker what is not translated yet; the first one reads and writes."""
    quiet_libraries()
    if workers.is_first:
        (arguments.output / PARTS).mkdir(exist_ok=True)
    translator = load(arguments, search_options(arguments), workers)
    left = (
        block
        for block in (read_blocks(arguments.input, None) if workers.is_first else ())
        if not part_of(arguments.output, block.first).is_file()
    )
    bar = progress_bar()
    bar.disable = not workers.is_first
    task = bar.add_task("translating", total=num_lines, unit="sentences")
    with bar:
        progress = partial(bar.advance, task)
        for block, found in translated(translator, left, is_scoring=False, with_scores=False, progress=progress):
            if not workers.is_first:
                continue
            dropped: Counter[str] = Counter()
            pairs = list(kept_pairs(block, found, translator, arguments.max_ratio, dropped))
            with atomic_path(part_of(arguments.output, block.first)) as temporary:
                content = json.dumps({"dropped": dropped, "pairs": pairs}, ensure_ascii=False)
                temporary.write_text(content + "\n", encoding="utf-8")
            bar.update(task, completed=block.first + len(block.sources))
    if workers.is_first:
        join(arguments.output, num_lines)


def join(output: Path, num_lines: int) -> None:
    """Write the pairs of all parts into two files, and remove the parts. Raises ValueError where there is no pair."""
    dropped: Counter[str] = Counter()
    num_pairs = 0
    with atomic_path(output / SOURCE) as source_path, atomic_path(output / TARGET) as target_path:
        with open(source_path, "w", encoding="utf-8") as source, open(target_path, "w", encoding="utf-8") as target:
            for pairs, of_part in read_parts(output):
                dropped += of_part
                num_pairs += len(pairs)
                source.writelines(f"{line}\n" for line, _ in pairs)
                target.writelines(f"{translation}\n" for _, translation in pairs)
        if not num_pairs:
            raise ValueError(f"no line gave a pair ({listed_counts(dropped)})")
    shutil.rmtree(output / PARTS)
    sys.stderr.write(f"{num_pairs:,} pairs from {num_lines:,} lines in {output}; dropped: {listed_counts(dropped)}\n")


def read_parts(output: Path) -> Iterator[tuple[list[tuple[str, str]], Counter[str]]]:
    """(pairs, dropped lines by reason) of each part, in the order of the input."""
    for path in sorted((output / PARTS).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        yield [(line, translation) for line, translation in content["pairs"]], Counter(content["dropped"])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog=f"python -m {COMMAND}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_decoding_arguments(parser)
    add = parser.add_argument
    add("--input", required=True, metavar="FILE", help="text in the source language, a sentence a line")
    add("--output", type=Path, required=True, metavar="DISTILLED", help="directory of the pairs")
    add_max_ratio(parser)
    return parser.parse_args(arguments)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for mistakes that can be found before a model is loaded."""
    check_max_ratio(arguments.max_ratio)
    check_output_directory(arguments.output, [arguments.input, arguments.model])
    search_options(arguments)
    check_decoding_arguments(arguments)


def main() -> None:
    arguments = parse_arguments()
    arguments.model = model_directory(arguments.model, [Kind.TRANSLATION])
    check_arguments(arguments)
    num_lines = count_lines_of_file(arguments.input)
    if launched_rank() == 0:
        begin(arguments.output, settings_of(arguments))
    if is_finished(arguments.output):
        sys.stderr.write(f"{arguments.output}: all lines are translated already\n")
        if launched_rank() == 0:
            shutil.rmtree(arguments.output / PARTS, ignore_errors=True)  # of a call that was stopped at its very end
        return
    run = partial(work, arguments, num_lines)
    with joined_workers(arguments.workers, run) as workers:
        run(workers)


def is_finished(output: Path) -> bool:
    """Whether the pairs of a directory are written, which they are once all parts are there."""
    return (output / SOURCE).is_file() and (output / TARGET).is_file()


if __name__ == "__main__":
    run_on_ranks(main)
