"""Change the vocabulary of a model directory: `python -m veco.vocabulary --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from veco.rust_errors import rust_errors_as_oserrors
from veco.sentence_transformers_files import recorded_layer, write_sentence_files
from veco.vocabulary.cutting import cut_vocabulary
from veco.vocabulary.extending import extend_vocabulary, read_pieces
from veco.vocabulary.model_directory import open_model
from veco.vocabulary.xlm_r_layout import count_ids

DESCRIPTION = """\
Change the vocabulary of a VECO model and its tokenizer; for the ids it keeps, the model computes the same as before.

  cut      keep the ids that occur in text files; prepare data with the tokenizer of DST afterwards
  extend   add SentencePiece pieces and special tokens, such as language tags; old pieces keep their ids

  python -m veco.vocabulary cut veco-large veco-en-de --text train.en.gz train.de.gz
  python -m veco.vocabulary extend veco-large veco-tagged --tokens __en__ __de__
"""


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m veco.vocabulary", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cut = commands.add_parser("cut", help="keep the ids that occur in text files")
    extend = commands.add_parser("extend", help="add pieces and special tokens")
    for command in (cut, extend):
        command.add_argument("source", type=Path, metavar="SRC", help="model directory with its tokenizer")
        command.add_argument("destination", type=Path, metavar="DST", help="model directory to write")
    cut.add_argument("--text", type=Path, nargs="+", required=True, metavar="FILE", help="lines of text, plain or .gz")
    cut.add_argument(
        "--min-count",
        type=int,
        default=1,
        metavar="N",
        help="keep pieces that occur at least N times (default %(default)s; with more, lines with rarer ones are split "
        "differently)",
    )
    cut.add_argument("--keep", nargs="+", default=[], metavar="PIECE", help="pieces to keep even if unused")
    cut.add_argument(
        "--tokens",
        nargs="*",
        metavar="TOKEN",
        help="tokens behind <mask> to keep, such as language tags (default: all)",
    )
    cut.add_argument(
        "--drop-characters",
        action="store_true",
        help="also drop unused pieces of one character; words with them become unknown",
    )
    extend.add_argument(
        "--pieces", type=Path, metavar="FILE", help="new pieces, one per line: piece, or piece TAB score"
    )
    extend.add_argument("--tokens", nargs="+", default=[], metavar="TOKEN", help="new special tokens")
    extend.add_argument("--seed", type=int, default=0, help="seed for drawing their rows (default %(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "extend" and not (arguments.pieces or arguments.tokens):
        parser.error("extend needs --pieces or --tokens")
    return arguments


def main() -> None:
    """Run the command line."""
    arguments = parse_arguments()
    source = arguments.source
    with atomic_directory(arguments.destination) as directory:
        model = open_model(source)
        before = model.config.vocab_size
        if arguments.command == "cut":
            counts = count_ids(source, arguments.text)
            used = (counts >= arguments.min_count).nonzero()[0].tolist()
            keep_characters = not arguments.drop_characters
            cut_vocabulary(model, source, used, directory, arguments.keep, arguments.tokens, keep_characters)
        else:
            pieces = read_pieces(arguments.pieces) if arguments.pieces else {}
            extend_vocabulary(model, source, directory, pieces, arguments.tokens, arguments.seed)
        with rust_errors_as_oserrors(directory):
            model.save_pretrained(directory)
        if (layer := recorded_layer(source)) is not None:
            write_sentence_files(directory, model.config, layer)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{arguments.destination}: {before:,} ids -> {model.config.vocab_size:,}, {millions:,.2f}M parameters")


if __name__ == "__main__":
    run_main(main)
