"""The flags of `python -m veco.vocabulary`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from data_tools.cli import FlagParser, positive_int
from data_tools.files.locations import check_can_be_read_again
from data_tools.files.outputs import check_outputs
from veco.vocabulary.focus import FastTextSettings

METHODS = ("rank", "focus", "mean", "random")
DESCRIPTION = """\
Change the vocabulary of a VECO model and its tokenizer; for the ids it keeps, the model computes the same as before.

  cut      keep the ids that occur in text files; prepare data with the tokenizer of DST afterwards
  extend   add pieces, from a list or from another tokenizer, and special tokens; old pieces keep their ids
  change   take over another tokenizer, of any kind, for another language; its rows begin from the old ones

  python -m veco.vocabulary cut veco-large veco-en-de --text train.en.gz train.de.gz
  python -m veco.vocabulary extend veco-large veco-tagged --tokens __en__ __de__
  python -m veco.vocabulary extend veco-large veco-sw --from-tokenizer tokenizer-sw --text sw.txt --rows focus
  python -m veco.vocabulary extend veco-large veco-sw --from-tokenizer tokenizer-sw --text sw.txt --num-pieces 99
  python -m veco.vocabulary change veco-fi veco-en --tokenizer tokenizer-en --by rank --source-text fi.txt --text en.txt
  python -m veco.vocabulary change veco-fi veco-en --tokenizer tokenizer-en --by focus --text en.txt --json report.json
"""
CHANGE = """\
Give the model the vocabulary of another tokenizer: SentencePiece's, WordPiece, BPE or byte-level BPE. Special pieces
begin with the rows of those that do the same (BERT's [CLS] with XLM-R's <s>); the others by one of

  rank    the row of the old piece with the same rank by frequency, counted in --source-text and --text, each in its
          language; pieces that tie, or never occur, are taken in the order of their names, and the rarest of a
          larger vocabulary are drawn (Gogoulou et al.)
  focus   pieces that both have keep their rows, others begin as mixtures of these, by the similarity of fastText
          vectors trained on --text; pieces too rare for a vector are drawn (FOCUS, Dobler and de Melo, 2023)
  mean    drawn with the mean and the standard deviation of all old rows
  random  drawn as for a new model

Output projections and biases follow. Go on with pre-training on the new language afterwards.
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; ValueError for flags that do not go together."""
    parser = FlagParser(
        prog="python -m veco.vocabulary", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cut = commands.add_parser("cut", help="keep the ids that occur in text files")
    extend = commands.add_parser("extend", help="add pieces and special tokens")
    change = commands.add_parser(
        "change",
        help="take over another tokenizer",
        description=CHANGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for command in (cut, extend, change):
        command.add_argument("source", type=Path, metavar="SRC", help="model directory with its tokenizer")
        command.add_argument("destination", type=Path, metavar="DST", help="model directory to write")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the report to a file")
    add_cut_flags(cut)
    add_extend_flags(extend)
    add_change_flags(change)
    for command in (extend, change):
        add_common_flags(command)
    arguments = parser.parse_args()
    if problem := problem_of(arguments):
        parser.error(problem)
    check_files(arguments)
    return arguments


def check_files(arguments: argparse.Namespace) -> None:
    """Raise ValueError for text that cannot be read twice, and for a report in the place of an input or of DST."""
    given = vars(arguments)
    text = [*arguments.text, *given.get("source_text", [])]
    may_be_shards = arguments.text if arguments.command == "cut" else given.get("source_text", [])
    for path in text:
        if path not in may_be_shards or not path.is_dir():
            check_can_be_read_again(str(path))
    others = [given.get(name) for name in ("tokenizer", "from_tokenizer", "pieces")]
    check_outputs({"--json": arguments.json}, [arguments.source, *others, *text])
    if arguments.json is not None and os.path.realpath(arguments.json) == os.path.realpath(arguments.destination):
        raise ValueError(f"--json {arguments.json}: is the directory of the new model; choose another --json")


def add_cut_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `cut`."""
    parser.add_argument(
        "--text",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="lines of text, plain or compressed, or one language's shards (DATA/mono/fi)",
    )
    parser.add_argument(
        "--min-count",
        type=positive_int,
        default=1,
        metavar="N",
        help="keep pieces that occur at least N times (default %(default)s; with more, lines with rarer ones are split "
        "differently)",
    )
    parser.add_argument("--keep", nargs="+", default=[], metavar="PIECE", help="pieces to keep even if unused")
    parser.add_argument(
        "--tokens",
        nargs="*",
        metavar="TOKEN",
        help="tokens behind <mask> to keep, such as language tags (default: all)",
    )
    parser.add_argument(
        "--drop-characters",
        action="store_true",
        help="also drop unused pieces of one character; words with them become unknown",
    )


def add_extend_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `extend`."""
    parser.add_argument(
        "--pieces",
        type=Path,
        metavar="FILE",
        help="new pieces, one per line: piece, or piece TAB score; ▁ at the start of a word, for WordPiece too",
    )
    parser.add_argument(
        "--from-tokenizer",
        type=Path,
        metavar="DIR",
        help="add the pieces that this tokenizer, trained on the new language, has and SRC lacks (E-MBERT)",
    )
    parser.add_argument(
        "--num-pieces",
        type=positive_int,
        metavar="N",
        help="of these only the N that --text needs most: first where words are unknown, then where they are cut into "
        "many pieces (VA, which takes 99)",
    )
    parser.add_argument("--tokens", nargs="+", default=[], metavar="TOKEN", help="new special tokens")
    parser.add_argument(
        "--text",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="text of the new language, for the choice of pieces, FOCUS and the report; plain or compressed",
    )
    parser.add_argument(
        "--rows",
        choices=("parts", "focus", "mean"),
        default="parts",
        help="how rows of new pieces begin: as the mean of the pieces into which they are split now, by FOCUS with the "
        "vectors of --from-tokenizer, or drawn with mean and deviation of all rows (default %(default)s)",
    )


def add_change_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `change`."""
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="the tokenizer to take over")
    parser.add_argument("--by", choices=METHODS, required=True, help="how its rows begin")
    parser.add_argument(
        "--text",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="text of the new language, plain or compressed: for rank, focus and the report",
    )
    parser.add_argument(
        "--source-text",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="for rank: text of the model's language, or shards of it that the tokenizer of SRC made (DATA/mono/fi)",
    )
    parser.add_argument(
        "--keep-overlap",
        action="store_true",
        help="also with rank, mean and random, pieces that both tokenizers have keep their rows",
    )
    parser.add_argument(
        "--match",
        choices=("exact", "fuzzy"),
        default="exact",
        help="which pieces are the same: equal ones, or also those that differ in case or in starting a word (default "
        "%(default)s)",
    )


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `extend` and `change`."""
    parser.add_argument("--seed", type=int, default=0, help="seed of rows that are drawn (default %(default)s)")
    parser.add_argument(
        "--min-count",
        type=positive_int,
        metavar="N",
        help=f"focus: pieces that occur more rarely in --text have no vector (default {FastTextSettings.min_count})",
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="focus: threads that train vectors; only with 1 are they the same each time (default: all processors)",
    )


def problem_of(arguments: argparse.Namespace) -> str | None:
    """What is wrong with flags that do not go together, or None."""
    if arguments.command != "cut":
        flag, method = ("--by", arguments.by) if arguments.command == "change" else ("--rows", arguments.rows)
        given = {"--min-count": arguments.min_count, "--threads": arguments.threads}
        if method != "focus" and (useless := [name for name, value in given.items() if value is not None]):
            return f"{useless[0]} is for the vectors of {flag} focus: leave it out"
    if arguments.command == "change":
        if arguments.by == "rank" and not (arguments.source_text and arguments.text):
            return (
                "--by rank needs frequencies: text of the model's language (--source-text) and of the new one (--text)"
            )
        if arguments.by != "rank" and arguments.source_text:
            return f"--source-text gives --by rank its frequencies; --by {arguments.by} has no use for it: leave it out"
        if arguments.by == "focus" and not arguments.text:
            return "--by focus trains fastText vectors: expected text of the new language (--text)"
    if arguments.command == "extend":
        if not (arguments.pieces or arguments.tokens or arguments.from_tokenizer):
            return "extend needs --pieces, --from-tokenizer or --tokens"
        if arguments.pieces and arguments.from_tokenizer:
            return "--pieces and --from-tokenizer both name the new pieces: give one of them"
        if arguments.num_pieces is not None and not (arguments.from_tokenizer and arguments.text):
            return "--num-pieces chooses pieces of a tokenizer for a text: expected --from-tokenizer and --text"
        if arguments.rows == "focus" and not (arguments.from_tokenizer and arguments.text):
            return "--rows focus trains vectors of another tokenizer's pieces: expected --from-tokenizer and --text"
    return None
