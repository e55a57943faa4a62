"""The common part of the commands that translate: flags, the translator they ask for, translating block by block."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from finetune.mt.decoding.beam_search import SearchOptions, search_problems
from finetune.mt.decoding.input_lines import Block
from finetune.mt.decoding.translator import Hypothesis, Progress, Translator, check_model
from finetune.mt.decoding.workers import Workers
from finetune.placement import DTYPES, Placement

ENGINES = ("torch", "ct2")
MODEL_ENDINGS = (".json", ".safetensors", ".bin", ".model", ".jinja", "vocabulary.txt", "vmap.txt")


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for model, search and hardware, with fairseq's names where it has them."""
    defaults = SearchOptions()
    add = parser.add_argument
    add(
        "model",
        type=Path,
        metavar="MODEL",
        help="a model, checkpoint or run of finetune.mt (train, average or export_ct2)",
    )
    add("--target-language", metavar="LANG", help="language to translate into, for a model of several directions")
    add("--beam", type=int, default=defaults.beam, help="beam size; 1 is greedy search; default: %(default)s")
    add("--lenpen", type=float, default=defaults.lenpen, help="length penalty (exponent); default: %(default)s")
    add("--unkpen", type=float, default=defaults.unkpen, help="penalty for unknown pieces; default: %(default)s")
    add("--min-len", type=int, default=defaults.min_len, help="minimum length in pieces; default: %(default)s")
    add(
        "--max-len-a",
        type=float,
        default=defaults.max_len_a,
        help="a of the maximum length in pieces, a * x + b with x source tokens; default: %(default)s",
    )
    add("--max-len-b", type=int, default=defaults.max_len_b, help="b of the maximum length; default: %(default)s")
    add(
        *("--no-repeat-ngram-size", "--no-repeat-ngram"),
        type=int,
        default=defaults.no_repeat_ngram,
        metavar="N",
        help="no n-gram of N pieces occurs twice; 0 = off, the default",
    )
    add("--max-tokens", type=int, default=defaults.max_tokens, help="source tokens per batch; default: %(default)s")
    add("--engine", choices=ENGINES, default="torch", help="ct2: a model exported to CTranslate2; default: %(default)s")
    add("--dtype", choices=list(DTYPES), help="precision of --engine torch; default: float32")
    add("--workers", type=int, default=1, help="number of processes on this machine; default: %(default)s")


def model_files(model: Path) -> list[Path]:
    """The files of a model directory that are read to translate; none of them may be an output."""
    return [path for path in model.glob("*") if path.name.endswith(MODEL_ENDINGS)]


def search_options(arguments: argparse.Namespace, nbest: int = 1) -> SearchOptions:
    """The search options that the flags ask for. Raises ValueError for invalid values, by the names of the flags."""
    values = {
        "beam": arguments.beam,
        "lenpen": arguments.lenpen,
        "nbest": nbest,
        "unkpen": arguments.unkpen,
        "min_len": arguments.min_len,
        "max_len_a": arguments.max_len_a,
        "max_len_b": arguments.max_len_b,
        "no_repeat_ngram": arguments.no_repeat_ngram_size,
        "max_tokens": arguments.max_tokens,
    }
    if problems := search_problems(values, lambda name: f"--{name.replace('_', '-')}"):
        raise ValueError("; ".join(problems))
    return SearchOptions(**values)


def check_numbers(arguments: argparse.Namespace) -> None:
    """Raise ValueError for a number of workers that cannot be; those of the search are checked by `search_options`."""
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, found {arguments.workers}")


def check_decoding_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for mistakes that can be found before a model is loaded."""
    check_numbers(arguments)
    if arguments.engine == "ct2" and arguments.dtype is not None:
        raise ValueError(
            "--dtype is for --engine torch; a CTranslate2 model has the type it was exported with "
            "(finetune.mt.export_ct2 --quantization)"
        )
    if arguments.engine == "ct2" and arguments.unkpen:
        raise ValueError("--unkpen is for --engine torch; CTranslate2 has no penalty for unknown pieces")
    if arguments.engine == "torch":
        check_model(arguments.model, arguments.target_language)


def translated(
    translator: Translator, blocks: Iterator[Block], is_scoring: bool, with_scores: bool, progress: Progress
) -> Iterator[tuple[Block, list[list[Hypothesis]]]]:
    """Each of the first worker's blocks with its hypotheses, all of which are there on that worker only."""
    while (block := translator.workers.broadcast(next(blocks, None))) is not None:
        if is_scoring:
            assert block.references is not None, "--score-reference requires --reference"
            yield block, translator.score(block.sources, block.references, progress)
        else:
            yield block, translator.translate(block.sources, with_scores, progress)


def load(arguments: argparse.Namespace, options: SearchOptions, workers: Workers) -> Translator:
    """The translator that the flags ask for."""
    if arguments.engine == "ct2":
        from finetune.mt.decoding.ct2 import load_ct2  # CTranslate2 is an optional dependency

        return load_ct2(arguments.model, options, arguments.target_language, workers)
    placement = Placement(DTYPES[arguments.dtype or "float32"], workers.device)
    return Translator.load(arguments.model, options, placement.dtype, arguments.target_language, workers)
