"""Translates text with beam search and prints the lines that scripts around fairseq-generate look for.

    python -m finetune.mt.generate MODEL --input FILE [--beam 5] [--lenpen 1.0] [--reference FILE] [--output FILE]
    python -m finetune.mt.generate MODEL --quiet < FILE > TRANSLATIONS        a line as soon as it comes
    torchrun --nproc-per-node 4 -m finetune.mt.generate …, or --workers 4     several processes, the same output

For sentence i, in the order of the input (fairseq prints them in the order of its batches):

    S-i <tab> pieces of the source         T-i <tab> pieces of the reference, with --reference
    H-i <tab> score <tab> pieces           D-i <tab> score <tab> detokenized text
    P-i <tab> score of each piece and of </s>

Scores are in base 2, as fairseq prints them: a piece's is log2 of its probability, a hypothesis' is the sum of them
divided by length ** lenpen, where the length counts `</s>`. `--quiet` leaves these lines out; without --output it
prints the plain translations. `--score-reference` scores the given translations in place of searching for some.
The rules of the search are in finetune/mt/search.py; docs/decoding.md says more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from data_tools.cli import progress_bar
from finetune.mt.blocks import STANDARD_INPUT, Block, count_lines, read_blocks
from finetune.mt.output import OutputOptions, Writer
from finetune.mt.ranks import Ranks, joined_ranks
from finetune.mt.score import sacrebleu_score
from finetune.mt.search import SearchOptions
from finetune.mt.translator import Hypothesis, Progress, Translator, check_model
from pretrain.launch import quiet_libraries, run_on_ranks

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ENGINES = ("torch", "ct2")


@dataclass
class Totals:
    """What has been done, and what is needed for BLEU at the end if there is a reference."""

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
        if block.references is not None:
            self.best += [hypothesis.text for hypothesis in best]
            self.references += block.references

    def tell(self, translator: Translator, what: str, seconds: float) -> None:
        """Nothing; a line on the amount of work and its speed, and one for what was left out; words of translations."""
        speed = f"{self.num_sentences / seconds:.1f} sentences/s, {self.num_words / seconds:.0f} words/s"
        amount = f"{self.num_sentences:,} sentences ({self.num_words:,} words, {self.num_pieces:,} pieces)"
        sys.stderr.write(f"{what} {amount} in {seconds:.1f} s: {speed}\n")
        if translator.num_empty_lines:
            sys.stderr.write(f"{translator.num_empty_lines:,} empty lines have an empty translation\n")
        if translator.num_cut_lines:
            sys.stderr.write(f"{translator.num_cut_lines:,} lines were longer than the model allows and were cut\n")


def translated(
    translator: Translator, blocks: Iterator[Block], is_scoring: bool, with_scores: bool, progress: Progress
) -> Iterator[tuple[Block, list[list[Hypothesis]]]]:
    """Each of the first rank's blocks with its hypotheses, which are complete on that rank."""
    while (block := translator.ranks.broadcast(next(blocks, None))) is not None:
        if is_scoring:
            assert block.references is not None, "checked with the arguments"
            yield block, translator.score(block.sources, block.references, progress)
        else:
            yield block, translator.translate(block.sources, with_scores, progress)


def load(arguments: argparse.Namespace, options: SearchOptions, ranks: Ranks) -> Translator:
    """The translator of the engine asked for."""
    if arguments.engine == "ct2":
        from finetune.mt.ct2 import load_ct2  # only who decodes with it needs CTranslate2

        return load_ct2(arguments.model, options, arguments.target_language, ranks)
    dtype = DTYPES[arguments.dtype or "float32"]
    return Translator.load(arguments.model, options, dtype, arguments.target_language, ranks)


def work(arguments: argparse.Namespace, num_lines: int | None, ranks: Ranks) -> None:
    """Nothing; what each rank does. The first one reads, writes and tells."""
    quiet_libraries()
    translator = load(arguments, search_options(arguments), ranks)
    blocks = read_blocks(arguments.input, arguments.reference) if ranks.is_first else iter(())
    output = OutputOptions(
        arguments.output, arguments.quiet, as_text=arguments.remove_bpe, as_scores=arguments.score_reference
    )
    totals = Totals()
    started = time.perf_counter()
    bar = progress_bar()
    bar.disable = not ranks.is_first or num_lines is None  # who types needs no bar
    task = bar.add_task("translating", total=num_lines, unit="sentences")
    with bar, Writer(output, translator) if ranks.is_first else nullcontext() as writer:
        advance = partial(bar.advance, task)
        for block, found in translated(translator, blocks, arguments.score_reference, not arguments.quiet, advance):
            if writer is not None:
                writer.write(block, found)
                totals.add(block, found)
                bar.update(task, completed=totals.num_sentences)  # the others' share was only guessed until here
    if not ranks.is_first:
        return
    if not totals.num_sentences:
        raise ValueError("standard input has no line: nothing to translate")
    what = "scored" if arguments.score_reference else "translated"
    totals.tell(translator, what, time.perf_counter() - started)
    if totals.references and not arguments.score_reference:
        score = sacrebleu_score(totals.best, totals.references, lowercase=False, tokenize="13a")
        sys.stderr.write(f"sacreBLEU {score.value:.2f} {score.signature}\n")


def search_options(arguments: argparse.Namespace) -> SearchOptions:
    return SearchOptions(
        beam=arguments.beam,
        lenpen=arguments.lenpen,
        nbest=arguments.nbest,
        min_len=arguments.min_len,
        max_len_a=arguments.max_len_a,
        max_len_b=arguments.max_len_b,
        no_repeat_ngram=arguments.no_repeat_ngram,
        max_tokens=arguments.max_tokens,
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for what can be told to be wrong before any model is loaded."""
    search_options(arguments)
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, found {arguments.workers}")
    if arguments.score_reference and arguments.reference is None:
        raise ValueError("--score-reference needs the translations to score: --reference FILE")
    if arguments.output is not None and not arguments.output.parent.is_dir():
        raise ValueError(f"{arguments.output}: the directory to write to does not exist")
    if arguments.engine == "ct2" and arguments.dtype is not None:
        raise ValueError(
            "--dtype is for --engine torch; a CTranslate2 model has the type it was exported with "
            "(finetune.mt.export_ct2 --quantization)"
        )
    if arguments.engine == "torch":
        check_model(arguments.model, arguments.target_language)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    defaults = SearchOptions()
    parser = argparse.ArgumentParser(
        prog="python -m finetune.mt.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="directory written by finetune.mt (train, average or export_ct2)")
    add("--input", default=STANDARD_INPUT, metavar="FILE", help="text, a sentence a line; default: standard input")
    add("--reference", type=Path, metavar="FILE", help="adds T-lines and sacreBLEU")
    add("--output", type=Path, metavar="FILE", help="plain translations, a line for each line of input")
    add("--target-language", metavar="LANG", help="for a model of several directions")
    add("--beam", type=int, default=defaults.beam, help="hypotheses kept; 1 is greedy; default: %(default)s")
    add("--lenpen", type=float, default=defaults.lenpen, help="length exponent, default: %(default)s")
    add("--nbest", type=int, default=defaults.nbest, help="hypotheses printed, default: %(default)s")
    add("--min-len", type=int, default=defaults.min_len, help="fewest pieces, default: %(default)s")
    add("--max-len-a", type=float, default=defaults.max_len_a, help="most pieces a * x + b: a (%(default)s)")
    add("--max-len-b", type=int, default=defaults.max_len_b, help="most pieces a * x + b: b (%(default)s)")
    add("--no-repeat-ngram", type=int, default=defaults.no_repeat_ngram, help="0 = off, the default")
    add("--max-tokens", type=int, default=defaults.max_tokens, help="source tokens of a batch, default: %(default)s")
    add("--engine", choices=ENGINES, default="torch", help="ct2: a model exported to CTranslate2; default: %(default)s")
    add("--dtype", choices=list(DTYPES), help="of --engine torch, default: float32")
    add("--workers", type=int, default=1, help="processes on this machine, default: %(default)s")
    add("--score-reference", action="store_true", help="score --reference; plain lines are then scores")
    add("--remove-bpe", action="store_true", help="S-, T- and H-lines hold text in place of pieces")
    add("--quiet", action="store_true", help="no S-, T-, H-, D-, P-lines and no scores")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    check_arguments(arguments)
    num_lines = count_lines(arguments.input, arguments.reference)
    run = partial(work, arguments, num_lines)
    with joined_ranks(arguments.workers, run) as ranks:
        run(ranks)


if __name__ == "__main__":
    run_on_ranks(main)
