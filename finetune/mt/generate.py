"""Translate text with beam search, and print the lines that scripts written for fairseq-generate parse.

    python -m finetune.mt.generate MODEL --input FILE [--beam 5] [--lenpen 1.0] [--reference FILE] [--output FILE]
    python -m finetune.mt.generate MODEL --quiet < FILE > TRANSLATIONS        interactive: each line at once
    torchrun --nproc-per-node 4 -m finetune.mt.generate …, or --workers 4     several processes, the same output

MODEL is an output of finetune/mt/train.py or finetune.mt.average: a model, a checkpoint, or a run, whose best
checkpoint is used and reported.

For sentence i, in the order of the input (fairseq prints them in the order of its batches):

    S-i <tab> pieces of the source         T-i <tab> pieces of the reference (unknown: <<unk>>), with --reference
    H-i <tab> score <tab> pieces           D-i <tab> score <tab> detokenized text
    P-i <tab> score of each piece and of </s>

Scores are in base 2, as in fairseq: a piece's score is log2 of its probability; a hypothesis' score is the sum of its
pieces' scores divided by length ** lenpen, where the length includes `</s>`. `--quiet` suppresses these lines; without
--output it prints the plain translations. `--score-reference` scores the given translations instead of searching.
The rules of the search are in finetune/mt/decoding/beam_search.py; docs/decoding.md says more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data_tools.cli import FlagParser, progress_bar, write_utf8
from data_tools.files.outputs import check_outputs
from finetune.model_directory import model_directory
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.command_line import (
    add_decoding_arguments,
    check_decoding_arguments,
    load,
    model_files,
    search_options,
    translated,
)
from finetune.mt.decoding.input_lines import STANDARD_INPUT, Block, count_lines, held_references, name_of, read_blocks
from finetune.mt.decoding.output import OutputOptions, Writer
from finetune.mt.decoding.translator import Hypothesis, Translator
from finetune.mt.decoding.workers import Workers, joined_workers
from finetune.mt.score import sacrebleu_score
from finetune.mt.scoring.tokenizers import sacrebleu_tokenizer
from training.launch import quiet_libraries, run_on_ranks
from training.run_directory.kinds import Kind


@dataclass
class Totals:
    """Counts of the work done, and the texts for BLEU at the end if it is wanted."""

    keeps_texts: bool
    num_sentences: int = 0
    num_words: int = 0
    num_pieces: int = 0
    best: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)

    def add(self, block: Block, found: Sequence[Sequence[Hypothesis]]) -> None:
        best = [hypotheses[0] for hypotheses in found]
        self.num_sentences += len(best)
        self.num_words += sum(len(hypothesis.text.split()) for hypothesis in best)
        self.num_pieces += sum(len(hypothesis.ids) for hypothesis in best)
        if self.keeps_texts and block.references is not None:
            self.best += [hypothesis.text for hypothesis in best]
            self.references += block.references

    def report(self, translator: Translator, done: str, seconds: float) -> None:
        """Print the amount of work, the speed (in words of the translations), and lines that were not fully done."""
        speed = f"{self.num_sentences / seconds:.1f} sentences/s, {self.num_words / seconds:.0f} words/s"
        amount = f"{self.num_sentences:,} sentences ({self.num_words:,} words, {self.num_pieces:,} pieces)"
        sys.stderr.write(f"{done} {amount} in {seconds:.1f} s: {speed}\n")
        if translator.num_empty_lines:
            sys.stderr.write(f"{translator.num_empty_lines:,} empty lines have an empty translation\n")
        if translator.num_cut_lines:
            sys.stderr.write(f"{translator.num_cut_lines:,} lines exceeded the model's maximum and were truncated\n")
        if translator.num_ended_lines:
            sys.stderr.write(
                f"{translator.num_ended_lines:,} translations ended at the limit of --max-len-a and --max-len-b\n"
            )


def work(arguments: argparse.Namespace, num_lines: int | None, workers: Workers) -> None:
    """Translate on every worker; the first one reads, writes and reports."""
    quiet_libraries()
    texts = (arguments.input, arguments.reference)
    held = held_references(*texts, num_lines) if workers.is_first else None
    translator = load(arguments, search_options(arguments, arguments.nbest), workers)
    blocks = read_blocks(*texts, held) if workers.is_first else iter(())
    output = OutputOptions(
        arguments.output, arguments.quiet, as_text=arguments.remove_bpe is not None, as_scores=arguments.score_reference
    )
    totals = Totals(keeps_texts=arguments.reference is not None and not arguments.score_reference)
    started = time.perf_counter()
    bar = progress_bar()
    prints = arguments.output is None or not arguments.quiet
    # No bar for lines that are typed, and none between lines printed to a terminal.
    bar.disable = not workers.is_first or num_lines is None or (prints and sys.stdout.isatty())
    task = bar.add_task("translating", total=num_lines, unit="sentences")
    with bar, Writer(output, translator) if workers.is_first else nullcontext() as writer:
        translations = translated(
            translator,
            blocks,
            is_scoring=arguments.score_reference,
            with_scores=not arguments.quiet,
            progress=partial(bar.advance, task),
        )
        for block, found in translations:
            if writer is not None:
                writer.write(block, found)
                totals.add(block, found)
                bar.update(task, completed=totals.num_sentences)  # exact; until here the others' share is a guess
        if workers.is_first and not totals.num_sentences:  # before an earlier output is replaced by an empty one
            raise ValueError(f"{name_of(arguments.input)} has no line: nothing to translate")
    if not workers.is_first:
        return
    done = "scored" if arguments.score_reference else "translated"
    totals.report(translator, done, time.perf_counter() - started)
    if totals.references:
        tokenize = sacrebleu_tokenizer(translator.target_language)
        score = sacrebleu_score(totals.best, totals.references, lowercase=False, tokenize=tokenize)
        sys.stderr.write(f"sacreBLEU {score.value:.2f} {score.signature}\n")


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for mistakes that can be found before a model is loaded."""
    search_options(arguments, arguments.nbest)
    if arguments.score_reference and arguments.reference is None:
        raise ValueError("--score-reference needs the translations to score: --reference FILE")
    check_outputs({"--output": arguments.output}, [arguments.input, arguments.reference, *model_files(arguments.model)])
    check_decoding_arguments(arguments)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m finetune.mt.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_decoding_arguments(parser)
    add = parser.add_argument
    add("--input", default=STANDARD_INPUT, metavar="FILE", help="text, a sentence a line; default: standard input")
    add("--reference", metavar="FILE", help="adds T-lines and sacreBLEU; may be a pipe, or - for standard input")
    add("--output", type=Path, metavar="FILE", help="plain translations, a line for each line of input")
    add("--nbest", type=int, default=SearchOptions.nbest, help="hypotheses to print; default: %(default)s")
    add("--score-reference", action="store_true", help="score --reference instead of searching; plain lines are scores")
    add(
        "--remove-bpe",
        nargs="?",
        const="sentencepiece",
        choices=("sentencepiece",),
        help="print text instead of pieces in S-, T- and H-lines",
    )
    add("--quiet", action="store_true", help="print no S-, T-, H-, D-, P-lines, and compute no scores")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    arguments.model = model_directory(arguments.model, [Kind.TRANSLATION])
    check_arguments(arguments)
    write_utf8()
    num_lines = count_lines(arguments.input, arguments.reference)
    run = partial(work, arguments, num_lines)
    with joined_workers(arguments.workers, run) as workers:
        run(workers)


if __name__ == "__main__":
    run_on_ranks(main)
