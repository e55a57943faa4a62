"""Convert checkpoints into model directories: `python -m veco.convert --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.tokenizers.dictionary import read_dictionary
from veco.config import VecoConfig
from veco.convert.encoders import config_in_directory, convert_encoder, plug_in_names, to_encoder, veco_config
from veco.convert.fairseq import FIRST_PIECE_ID, convert
from veco.convert.fairseq_settings import read_setting
from veco.convert.families import FAMILIES
from veco.convert.weights import Conversion
from veco.rust_errors import rust_errors_as_oserrors
from veco.sentence_transformers_files import copy_sentence_files, write_sentence_files
from veco.tokenizer import has_tokenizer, open_tokenizer, save_tokenizer, without_token_types

BACK = {f"to-{model_type}": model_type for model_type in FAMILIES}
KINDS = (*FAMILIES, "fairseq", *BACK)

DESCRIPTION = """\
Convert checkpoints into model directories (config.json, model.safetensors, tokenizer):

  xlm-roberta, bert, roberta, camembert, distilbert
      encoder of transformers -> VECO, equal to it plugged out; cross-attention initialised at random
  fairseq
      model.pt of fairseq, VECO's or XLM-R's -> VECO (masked LM; fine-tuned for translation: seq2seq)
  to-xlm-roberta, to-bert, to-roberta, to-camembert, to-distilbert
      VECO -> encoder of transformers, equal to it plugged out; cross-attention dropped

Models with the weights of one of these under its name are converted, too, whatever their language: multilingual BERT
and BETO are bert, PhoBERT is roberta. An encoder without a masked-LM head gets one, initialised at random. Poolers,
next-sentence heads and token types other than 0 are dropped. Others, such as ELECTRA or ModernBERT, are refused: their
layers compute something else.

DST is written completely or not at all. It gets the tokenizer in SRC, or the one given with --tokenizer.

  python -m veco.convert bert bert-base-multilingual-cased veco-from-bert

fairseq releases come with a SentencePiece model only: convert that to a tokenizer first.

  python -m data_tools.import_tokenizer release/sentencepiece.bpe.model --dictionary release/dict.txt --output tokenizer
  python -m veco.convert fairseq release/model.pt veco-large --dictionary release/dict.txt --tokenizer tokenizer
"""


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m veco.convert", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help="as above")
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
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="fairseq settings that are missing in the file, such as encoder_attention_heads=16",
    )
    parser.add_argument("--seed", type=int, help="of weights that are initialised at random (1)")
    arguments = parser.parse_args()
    if arguments.kind != "fairseq" and (arguments.dictionary or arguments.set):
        parser.error("--dictionary and --set are for fairseq")
    if arguments.kind in BACK and arguments.seed is not None:
        parser.error(f"--seed is for weights initialised at random, {arguments.kind} has none")
    return arguments


def converted(arguments: argparse.Namespace, tokenizer: Any | None) -> Conversion[Any]:
    """The converted model, and notes about it; `tokenizer` is the one that goes with it, if there is one."""
    kind, source = arguments.kind, arguments.source
    if kind in BACK:
        model = to_encoder(source, BACK[kind])
        num_layers = model.config.num_hidden_layers
        dropped = sorted({name.split(".", 3)[3] for name in plug_in_names(num_layers)})
        return Conversion(model, [f"dropped from each of {num_layers} layers: {', '.join(dropped)}"])
    seed = 1 if arguments.seed is None else arguments.seed
    torch.manual_seed(seed)
    if kind == "fairseq":
        return convert(source, arguments.dictionary, dict(map(read_setting, arguments.set)))
    conversion = convert_encoder(source, kind, tokenizer, draw_head=True)
    return Conversion(conversion.model, [*conversion.notes, f"initialised at random with --seed {seed}"])


def tokenizer_to_copy(directory: Path) -> Any:
    """The tokenizer in a directory; ValueError for one that only Python has, which is too slow for a corpus."""
    tokenizer = open_tokenizer(directory)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{directory}: {type(tokenizer).__name__} has no fast version (tokenizer.json), which preparing data "
            "needs; pass a directory that has one of the same pieces with --tokenizer"
        )
    return tokenizer


def check_tokenizer(tokenizer: Any, directory: Path, num_rows: int, arguments: argparse.Namespace) -> None:
    """Raise ValueError for another model's tokenizer, by its size and by its pieces if SRC or dict.txt has them."""
    num_pieces, is_own = len(tokenizer), directory == arguments.source
    if num_pieces > num_rows or (num_pieces < num_rows and not is_own):
        raise ValueError(
            f"{directory}: {num_pieces:,} pieces, but the model has {num_rows:,} rows: it is another model's tokenizer"
        )
    known = tokenizer.get_vocab()
    expected: dict[str, int] = {}
    if arguments.dictionary:
        expected = {piece: id_ for id_, piece in enumerate(read_dictionary(arguments.dictionary), FIRST_PIECE_ID)}
    elif not is_own and has_tokenizer(arguments.source):
        expected = open_tokenizer(arguments.source).get_vocab()
    if different := sorted(piece for piece, id_ in expected.items() if known.get(piece) != id_):
        raise ValueError(
            f"{directory}: {len(different):,} of the model's {len(expected):,} pieces have other ids there, such as "
            f"{different[:3]}: it is another model's tokenizer"
        )


def write_tokenizer(tokenizer: Any, source: Path, directory: Path, config: VecoConfig) -> list[str]:
    """Write the tokenizer of the model whose VECO has this configuration beside it, and return notes about it."""
    save_tokenizer(tokenizer, source, directory, max_tokens=config.max_tokens)
    without_token_types(directory)
    num_spare = config.vocab_size - len(tokenizer)
    return [f"{num_spare:,} rows of the model have no piece in its tokenizer"] if num_spare else []


def main() -> None:
    """Run the command line."""
    arguments = parse_arguments()
    if not arguments.source.exists():
        raise ValueError(f"{arguments.source}: no such file or directory")
    if arguments.kind != "fairseq":
        config_in_directory(arguments.source)  # before the tokenizer, which says less about what is wrong
    with atomic_directory(arguments.destination) as directory:
        tokenizer_dir = arguments.tokenizer or arguments.source
        has_one = arguments.tokenizer is not None or has_tokenizer(tokenizer_dir)
        tokenizer = tokenizer_to_copy(tokenizer_dir) if has_one else None
        conversion = converted(arguments, tokenizer)
        model, notes = conversion.model, conversion.notes
        config = model.config if isinstance(model.config, VecoConfig) else veco_config(model.config)
        if tokenizer is None:
            notes.append(f"no tokenizer in {tokenizer_dir}: pass one with --tokenizer")
        else:
            check_tokenizer(tokenizer, tokenizer_dir, config.vocab_size, arguments)
            notes += write_tokenizer(tokenizer, tokenizer_dir, directory, config)
            layer = copy_sentence_files(arguments.source, directory, config, notes.append)
            if layer is None and arguments.kind in BACK:
                layer = write_sentence_files(directory, config)
            if layer is not None:
                notes.append(f"SentenceTransformer uses layer {layer}")
        with rust_errors_as_oserrors(directory):
            model.save_pretrained(directory)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.destination}: {type(model).__name__}, {num_parameters / 1e6:,.2f}M parameters")


if __name__ == "__main__":
    run_main(main)
