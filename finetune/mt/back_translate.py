"""Make synthetic pairs from monolingual text by back-translation: a model of the other direction translates it.

    python -m finetune.mt.back_translate MODEL --input MONO --source-output FILE --target-output FILE

To train English -> German with German text, MODEL translates German -> English; MONO is German. A line of the source
output is `__bt__ ` and the translation, that of the target output the line itself. The tag tells the model which
sources are synthetic (Caswell et al., Tagged Back-Translation, 2019), so that plain beam search does as well as
sampling or noise. Train with both corpora and the tag:

    --directions en-de,en-de --train_source true.en,synthetic.en --train_target true.de,synthetic.de
    --source_tags __bt__

Empty lines, lines longer than the model's maximum, empty translations and pairs of very unequal lengths, such as those
of models that repeat themselves, are dropped and counted.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from data_tools.cli import FlagParser, progress_bar
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import check_outputs
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
from finetune.mt.recipe import problem_of_source_tag
from finetune.mt.synthetic_pairs import add_max_ratio, check_max_ratio, kept_pairs, listed_counts
from training.launch import quiet_libraries, run_on_ranks
from training.run_directory.kinds import Kind

DESCRIPTION = __doc__


def work(arguments: argparse.Namespace, num_lines: int, workers: Workers) -> None:
    """Translate back on every worker; the first one reads, writes and reports."""
    quiet_libraries()
    translator = load(arguments, search_options(arguments), workers)
    blocks = read_blocks(arguments.input, None) if workers.is_first else iter(())
    dropped: Counter[str] = Counter()
    num_pairs = 0
    bar = progress_bar()
    bar.disable = not workers.is_first
    task = bar.add_task("translating", total=num_lines, unit="sentences")
    with bar, ExitStack() as stack:
        files = []
        if workers.is_first:
            for path in (arguments.source_output, arguments.target_output):
                temporary = stack.enter_context(atomic_path(path))
                files.append(stack.enter_context(open(temporary, "w", encoding="utf-8", newline="\n")))
        progress = partial(bar.advance, task)
        for block, found in translated(translator, blocks, is_scoring=False, with_scores=False, progress=progress):
            if workers.is_first:
                for line, translation in kept_pairs(block, found, translator, arguments.max_ratio, dropped):
                    files[0].write(f"{arguments.tag} {translation}\n" if arguments.tag else f"{translation}\n")
                    files[1].write(f"{line}\n")
                    num_pairs += 1
                bar.update(task, completed=block.first + len(block.sources))
        if workers.is_first and not num_pairs:
            raise ValueError(f"{arguments.input}: no line gave a pair ({listed_counts(dropped)})")
    if workers.is_first:
        sys.stderr.write(f"{num_pairs:,} pairs from {num_lines:,} lines; dropped: {listed_counts(dropped)}\n")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m finetune.mt.back_translate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_decoding_arguments(parser)
    add = parser.add_argument
    add("--input", required=True, metavar="MONO", help="text, a sentence a line, plain or compressed")
    add("--source-output", type=Path, required=True, metavar="FILE", help="tagged translations")
    add("--target-output", type=Path, required=True, metavar="FILE", help="the original lines")
    add("--tag", default="__bt__", help="prepended to each translation; '' = none; default: %(default)s")
    add_max_ratio(parser)
    return parser.parse_args(arguments)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for mistakes that can be found before a model is loaded."""
    if arguments.tag and (problem := problem_of_source_tag(arguments.tag)):
        raise ValueError(f"--tag {problem}")
    check_max_ratio(arguments.max_ratio)
    outputs = {"--source-output": arguments.source_output, "--target-output": arguments.target_output}
    check_outputs(outputs, [arguments.input, *model_files(arguments.model)])
    search_options(arguments)
    check_decoding_arguments(arguments)


def main() -> None:
    arguments = parse_arguments()
    arguments.model = model_directory(arguments.model, [Kind.TRANSLATION])
    check_arguments(arguments)
    num_lines = count_lines_of_file(arguments.input)
    run = partial(work, arguments, num_lines)
    with joined_workers(arguments.workers, run) as workers:
        run(workers)


if __name__ == "__main__":
    run_on_ranks(main)
