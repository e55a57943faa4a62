"""Write the embedded corpus: `python -m data_tools.toy_corpus --output DIR`."""

import argparse
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.toy_corpus.clauses import MIN_WORDS
from data_tools.toy_corpus.generate import write_corpus
from data_tools.toy_corpus.lexicon import LANGUAGES

_DESCRIPTION = """Write the embedded corpus: sentences of our own grammar in English, German, French and Russian.
The same arguments always give the same files."""
_LAYOUT = """layout of DIR:
  mono/LANG.txt                 documents in one language, one sentence per line, with an empty line between documents
  parallel/A-B.A, A-B.B         aligned sentences, different ones for each pair of languages
  mt/{train,valid,test}.LANG    held-out sentences, aligned across all languages; in no other file
  corpus.yaml                   the input of data_tools.prepare; expects a tokenizer in DIR/tokenizer"""


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    splits = {"train": arguments.train, "valid": arguments.valid, "test": arguments.test}
    for name, size in {"documents": arguments.documents, "pairs": arguments.pairs, **splits}.items():
        if size < 1:
            raise ValueError(f"--{name} must be at least 1, found {size}")
    if arguments.words is not None and arguments.words < MIN_WORDS:
        raise ValueError(f"--words must be at least {MIN_WORDS}, found {arguments.words}")
    lines = write_corpus(
        arguments.output,
        documents=arguments.documents,
        pairs=arguments.pairs,
        splits=splits,
        seed=arguments.seed,
        languages=arguments.languages,
        num_words=arguments.words,
    )
    for name, count in lines.items():
        print(f"{arguments.output / name}: {count:,} sentences")


def _parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = FlagParser(
        prog="python -m data_tools.toy_corpus",
        description=_DESCRIPTION,
        epilog=_LAYOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write, made if missing")
    parser.add_argument(
        "--languages", nargs="+", default=list(LANGUAGES), metavar="LANG", help="languages to write (default all four)"
    )
    parser.add_argument("--documents", type=int, default=3000, help="documents per language (default 3000)")
    parser.add_argument("--pairs", type=int, default=4000, help="sentence pairs per language pair (default 4000)")
    parser.add_argument("--train", type=int, default=2000, help="held-out training sentences (default 2000)")
    parser.add_argument("--valid", type=int, default=200, help="held-out validation sentences (default 200)")
    parser.add_argument("--test", type=int, default=400, help="held-out test sentences (default 400)")
    parser.add_argument(
        "--words",
        type=int,
        metavar="N",
        help="a small lexicon with the whole grammar: in each place only the N most common of all possible words "
        "(default all)",
    )
    parser.add_argument("--seed", type=int, default=1, help="same seed, same files (default 1)")
    return parser


if __name__ == "__main__":
    run_main(main)
