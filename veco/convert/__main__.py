"""Convert checkpoints into model directories: `python -m veco.convert --help`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.tokenizers.dictionary import read_dictionary
from veco.config import VecoConfig
from veco.convert.fairseq import FIRST_PIECE_ID, NO_CROSS_ATTENTION, convert
from veco.convert.xlm_roberta import from_xlm_roberta, plug_in_names, to_xlm_roberta, veco_config
from veco.rust_errors import rust_errors_as_oserrors
from veco.sentence_transformers_files import recorded_layer, write_sentence_files
from veco.tokenizer import has_tokenizer, open_tokenizer, save_tokenizer

DESCRIPTION = """\
Convert checkpoints into model directories (config.json, model.safetensors, tokenizer):

  xlm-roberta     XLM-R of transformers -> VECO, equal to it plugged out; cross-attention initialised at random
  fairseq         model.pt of fairseq, VECO's or XLM-R's -> VECO (masked LM; fine-tuned for translation: seq2seq)
  to-xlm-roberta  VECO -> XLM-R of transformers, equal to it plugged out; cross-attention dropped

DST is written completely or not at all. It gets the tokenizer in SRC, or the one given with --tokenizer.
fairseq releases come with a SentencePiece model only: convert that to a tokenizer first.

  python -m data_tools.import_tokenizer release/sentencepiece.bpe.model --dictionary release/dict.txt --output tokenizer
  python -m veco.convert fairseq release/model.pt veco-large --dictionary release/dict.txt --tokenizer tokenizer
"""


def parse_setting(text: str) -> tuple[str, Any]:
    """Name and value of `name=value`; the value is JSON (8, true) or else text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected name=value")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m veco.convert", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("xlm-roberta", "fairseq", "to-xlm-roberta"))
    parser.add_argument("source", type=Path, metavar="SRC", help="model directory, or fairseq's model.pt")
    parser.add_argument("destination", type=Path, metavar="DST", help="model directory to write")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="tokenizer directory to copy beside the model")
    parser.add_argument(
        "--dictionary",
        type=Path,
        metavar="dict.txt",
        help="fairseq's; checks the rows, finds <mask> and language tags",
    )
    parser.add_argument(
        "--set",
        type=parse_setting,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="fairseq settings that are missing in the file, such as encoder_attention_heads=16",
    )
    arguments = parser.parse_args()
    if arguments.kind != "fairseq" and (arguments.dictionary or arguments.set):
        parser.error("--dictionary and --set are for fairseq")
    return arguments


def converted(arguments: argparse.Namespace) -> tuple[PreTrainedModel, list[str]]:
    """The converted model, and notes about it."""
    if arguments.kind == "fairseq":
        conversion = convert(arguments.source, arguments.dictionary, dict(arguments.set))
        return conversion.model, conversion.notes
    if arguments.kind == "xlm-roberta":
        return from_xlm_roberta(arguments.source), [NO_CROSS_ATTENTION]
    model = to_xlm_roberta(arguments.source)
    num_layers = model.config.num_hidden_layers
    dropped = sorted({name.split(".", 3)[3] for name in plug_in_names(num_layers)})
    return model, [f"dropped from each of {num_layers} layers: {', '.join(dropped)}"]


def check_tokenizer(tokenizer: Any, directory: Path, num_rows: int, arguments: argparse.Namespace) -> None:
    """Raise ValueError for another model's tokenizer, by its size and by its pieces if SRC or dict.txt has them."""
    if len(tokenizer) != num_rows:
        raise ValueError(
            f"{directory}: {len(tokenizer):,} pieces, but the model has {num_rows:,} rows: it is another model's "
            "tokenizer"
        )
    known = tokenizer.get_vocab()
    expected: dict[str, int] = {}
    if arguments.dictionary:
        expected = {piece: id_ for id_, piece in enumerate(read_dictionary(arguments.dictionary), FIRST_PIECE_ID)}
    elif has_tokenizer(arguments.source):
        expected = open_tokenizer(arguments.source).get_vocab()
    if different := sorted(piece for piece, id_ in expected.items() if known.get(piece) != id_):
        raise ValueError(
            f"{directory}: {len(different):,} of the model's {len(expected):,} pieces have other ids there, such as "
            f"{different[:3]}: it is another model's tokenizer"
        )


def main() -> None:
    """Run the command line."""
    arguments = parse_arguments()
    if not arguments.source.exists():
        raise ValueError(f"{arguments.source}: no such file or directory")
    with atomic_directory(arguments.destination) as directory:
        model, notes = converted(arguments)
        tokenizer_dir = arguments.tokenizer or arguments.source
        if arguments.tokenizer or has_tokenizer(tokenizer_dir):
            tokenizer = open_tokenizer(tokenizer_dir)
            check_tokenizer(tokenizer, tokenizer_dir, model.config.vocab_size, arguments)
            config = model.config if isinstance(model.config, VecoConfig) else veco_config(model.config)
            save_tokenizer(tokenizer, tokenizer_dir, directory, max_tokens=config.max_tokens)
            if arguments.kind == "to-xlm-roberta":
                layer = write_sentence_files(directory, config, recorded_layer(arguments.source))
                notes.append(f"SentenceTransformer uses layer {layer}")
        else:
            notes.append(f"no tokenizer in {tokenizer_dir}: pass one with --tokenizer")
        with rust_errors_as_oserrors(directory):
            model.save_pretrained(directory)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.destination}: {type(model).__name__}, {num_parameters / 1e6:,.2f}M parameters")


if __name__ == "__main__":
    run_main(main)
