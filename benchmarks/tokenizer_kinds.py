"""Compare the speed of data preparation with tokenizers of different kinds, and with the library that encodes.

    python benchmarks/tokenizer_kinds.py [--megabytes 40] [--vocab-size 32000]

Text, files and rules are those of benchmarks/data.py. Each tokenizer is trained on the same text with the same size.
`prepare` is the whole command, from start to manifest; `encode` is prepare's encoder alone, in one thread; `tokenizers`
is `encode_batch` of the library with as many threads as prepare has workers. Neither reads or writes anything. MB a
second of processor time, of all processes together, hardly depend on what else the machine does; on a quiet one MB a
second of prepare are nearly that times the workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from data import MEGABYTE, VOCAB_SIZE, chunks, make_corpus, num_bytes, run, seconds_of_prepare, seconds_of_tokenizers

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import claim
from data_tools.tokenizers.encoder import open_encoder

COMMAND = "benchmarks.tokenizer_kinds"
MODELS = ("unigram", "wordpiece", "bpe")


def make_tokenizer(path: Path, model: str, vocab_size: int) -> None:
    """A tokenizer of that kind for the text of all languages, unless it is there."""
    if not path.exists():
        text = Path(os.environ["VECO_CORPORA"]) / "mono" / "*.txt.gz"
        run(
            "data_tools.train_tokenizer",
            "--input",
            text,
            "--model",
            model,
            "--vocab-size",
            vocab_size,
            "--output",
            path,
        )


def seconds_of_encoder(corpus: Path, tokenizer: Path) -> float:
    """Time inside the encoder of `prepare`."""
    encoder = open_encoder(tokenizer)
    seconds = 0.0
    for chunk in chunks(corpus):
        start = time.perf_counter()
        encoder.encode_flat(chunk)
        seconds += time.perf_counter() - start
    return seconds


def corpus_with(corpus: Path, tokenizer: Path) -> Path:
    """The same corpus with another tokenizer."""
    path = corpus.with_name(f"{tokenizer.name}.yaml")
    lines = corpus.read_text().splitlines(keepends=True)
    path.write_text("".join(["tokenizer: ", str(tokenizer.absolute()), "\n", *lines[1:]]))
    return path


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmark-data"), help="directory for all files")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (cores)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats whose median is shown (3)")
    parser.add_argument("--megabytes", type=int, default=40, help="size of the text (40)")
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE, help=f"pieces of each ({VOCAB_SIZE})")
    options = parser.parse_args()
    names = {model: f"tokenizer-{model}-{options.vocab_size}" for model in MODELS}
    claim(options.directory, [*names.values(), "data"], COMMAND)
    corpus = make_corpus(options.directory, options.megabytes)
    size = num_bytes(corpus)
    ways: dict[str, Callable[[], float]] = {}
    for model in MODELS:
        tokenizer = options.directory / names[model]
        make_tokenizer(tokenizer, model, options.vocab_size)
        of_model = corpus_with(corpus, tokenizer)
        ways[f"prepare, {model}"] = partial(seconds_of_prepare, of_model, options.directory, options.workers)
        ways[f"encode, {model}"] = partial(seconds_of_encoder, corpus, tokenizer)
    tokenizer = options.directory / names["wordpiece"]
    ways["tokenizers, wordpiece"] = partial(seconds_of_tokenizers, corpus, tokenizer, options.workers, size)

    rates: dict[str, list[float]] = {name: [] for name in ways}
    of_processor: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.repeats):
        for name, seconds in ways.items():
            before = processor_seconds()
            rates[name].append(size / seconds() / MEGABYTE)
            of_processor[name].append(size / (processor_seconds() - before) / MEGABYTE)
            print(f"repeat {number + 1}: {name}: {rates[name][-1]:.2f} MB/s, {of_processor[name][-1]:.2f} a processor")
    print(f"{size / MEGABYTE:.0f} MB of text, {options.workers} workers")
    print(f"{'':<28} {'MB/s':>8} {'a processor':>12} {'of unigram':>11}   (lowest and highest MB/s)")
    usual = statistics.median(of_processor["prepare, unigram"])
    for name, values in rates.items():
        rate, own = statistics.median(values), statistics.median(of_processor[name])
        print(f"{name:<28} {rate:8.2f} {own:12.2f} {own / usual:11.2f}   ({min(values):.2f} to {max(values):.2f})")


def processor_seconds() -> float:
    """Seconds of processor time that this process and those that it has waited for have used."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    run_main(main)
