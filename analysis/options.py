"""The flags that all commands share, and what they describe: a model, its layers, a directory for results."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from analysis.forced_decoding import ForcedDecoder, State
from data_tools.cli import FlagParser
from data_tools.files.directories import claim, remove_claimed
from data_tools.files.formats import COMPRESSED_SUFFIXES
from data_tools.files.outputs import check_output_directory
from finetune.model_directory import model_directory
from finetune.mt.decoding.translator import check_model
from finetune.placement import Placement, add_dtype_flag, add_max_tokens_flag
from finetune.understanding.flags import encoder_directory, numbers
from finetune.understanding.retrieval.embeddings import Embedder, described, layers_with_states
from training.run_directory.kinds import Kind

ENCODER = "a VECO, another encoder of transformers"


def model_parser(program: str, description: str | None, model: str, max_tokens: int | None = None) -> FlagParser:
    """A parser with the flags of every command: of a model, its batches, and a directory for results.

    `model` says what MODEL can be, `max_tokens` the largest batch of a command that has one of its own.
    """
    parser = FlagParser(
        prog=f"python -m {program}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help=f"run, checkpoint or model: {model}",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the results")
    add_max_tokens_flag(parser, max_tokens)
    add_dtype_flag(parser)
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn at random (default %(default)s)")
    return parser


def command_parser(
    program: str,
    description: str | None,
    default_layers: str = "all",
    max_tokens: int | None = None,
    model: str = f"{ENCODER}, or an exported encoder",
) -> FlagParser:
    """`model_parser` of a command that reads states; `default_layers` says what is read without --layers."""
    parser = model_parser(program, description, model, max_tokens)
    parser.add_argument("--layers", default="", help=f"such as 4,8,12; 0 = the embeddings (default: {default_layers})")
    parser.add_argument("--max-length", type=int, help="longest sentence in tokens (default: the model's)")
    return parser


def model_of(options: argparse.Namespace) -> Path:
    """The model directory, or exported encoder, that MODEL names. Raises ValueError where none reads text."""
    return encoder_directory(options.model)


def layers_of(
    options: argparse.Namespace, model: Path, default: Sequence[int] | None = None, flag: str = "layers"
) -> list[int]:
    """The layers of --layers, or of another `flag`, in ascending order; without it `default`, or else all.

    An exported encoder has states of one layer, which is also the default then. Raises ValueError for layers that the
    model does not have.
    """
    known = layers_with_states(model)
    named = vars(options)[flag.replace("-", "_")]
    if not named:
        return [layer for layer in default or known if layer in known] or known
    layers = sorted(numbers(flag, named, int))
    if wrong := [layer for layer in layers if layer not in known]:
        raise ValueError(f"--{flag} {named}: {model} has {described(known)}, but no {wrong[0]}")
    return layers


def attending_layers_of(
    options: argparse.Namespace, model: Path, most: int, default: Sequence[int] | None = None
) -> list[int]:
    """`layers_of` for the weights of attention, which layers 1 to `most` have, but not the embeddings."""
    if not options.layers:
        return list(range(1, most + 1) if default is None else default)
    layers = sorted(numbers("layers", options.layers, int))
    if layers[0] == 0:
        raise ValueError(f"--layers {options.layers}: 0, the embeddings, have no attention; expected 1 to {most}")
    if wrong := [layer for layer in layers if not 1 <= layer <= most]:
        raise ValueError(f"--layers {options.layers}: {model} has attention in layers 1 to {most}, but no {wrong[0]}")
    return layers


def add_decoder_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags by which `load_decoder` reads a translation model."""
    parser.add_argument(
        "--decoder-state",
        type=State,
        choices=list(State),
        default=State.READS,
        help="whose weights a target token has: the state that reads it, or the one before, which predicts it "
        "(default %(default)s)",
    )
    parser.add_argument("--target-language", metavar="LANG", help="of a translation model of several directions")


def translation_model_of(options: argparse.Namespace) -> Path:
    """The directory of the translation model that MODEL names. Raises ValueError where there is none."""
    directory = model_directory(options.model, [Kind.TRANSLATION])
    check_model(directory, options.target_language)
    return directory


def load_decoder(options: argparse.Namespace, model: Path, layers: Sequence[int]) -> ForcedDecoder:
    """The translation model that the flags describe. Raises ValueError as `ForcedDecoder.load` does."""
    return ForcedDecoder.load(
        model,
        layers,
        options.decoder_state,
        options.max_length,
        options.max_tokens,
        Placement.of(options.dtype),
        options.target_language,
    )


def load_embedder(options: argparse.Namespace, model: Path, layers: Sequence[int], plug_in: bool = False) -> Embedder:
    """The encoder that the flags describe. Raises ValueError as `Embedder.load` does."""
    return Embedder.load(model, layers, options.max_length, options.max_tokens, Placement.of(options.dtype), plug_in)


def claim_results(
    options: argparse.Namespace, names: Collection[str], command: str, inputs: Iterable[Path | str]
) -> None:
    """Make --output, and record that `command` may write files of these `names` there, now and in later calls.

    What an earlier call of it has written there is removed: beside new results it would pass for a part of them. Raises
    ValueError if an input is in that directory, or a file of such a name that the command has not written.
    """
    check_output_directory(options.output, inputs)
    claim(options.output, names, command)
    remove_claimed(options.output, command)


def choices(flag: str, text: str, known: Sequence[str]) -> list[str]:
    """The comma-separated names of a flag. Raises ValueError for one that is not known, and for one given twice."""
    names = text.split(",")
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"--{flag} {text}: expected {', '.join(known)}, found {wrong[0]!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"--{flag} {text}: expected each once")
    return names


def name_and_file(value: str) -> tuple[str, str]:
    """NAME and FILE of NAME=FILE, at its first =; no name where that is part of the path, as in runs/lr=1e-5."""
    name, equals, file = value.partition("=")
    return (name, file) if equals and "/" not in name else ("", value)


def named_files(flag: str, values: Sequence[str], suffix: str = "") -> dict[str, Path]:
    """The file of each NAME=FILE, or of FILE by its own name without `suffix` and that of compression.

    Raises ValueError for one name of two files.
    """
    found: dict[str, Path] = {}
    for value in values:
        name, file = name_and_file(value)
        path = Path(file).expanduser()
        if not name:
            name = path.name
            for compression in COMPRESSED_SUFFIXES:
                name = name.removesuffix(compression)
            name = name.removesuffix(suffix)
        if name in found:
            raise ValueError(f"--{flag}: {found[name]} and {path} are both called {name}; give NAME=FILE")
        found[name] = path
    return found
