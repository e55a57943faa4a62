"""Reduce the vocabulary of a model and its tokenizer to a corpus, or extend it: `python -m veco.vocabulary --help`.

The paper reduces XLM-R's 250,002 ids to those that a language pair uses (VECO, section 3, "resized dictionary"): the
embeddings and the logits over the vocabulary take most of a translation model's memory and time. For the ids that it
keeps, the model computes the same as before.

Tokenizers have XLM-R's layout: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, SentencePiece's pieces, `<mask>`, and then
tokens added later, such as language tags. New pieces are inserted before `<mask>`, which shifts it and the tokens
behind it; all other ids stay. New tokens are appended: no id changes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import veco
from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.text.lines import read_text
from veco.config import VecoConfig
from veco.convert.weights import listed, open_strictly
from veco.masked_lm import VecoLMHead
from veco.model import VecoEmbeddings
from veco.rust_errors import rust_errors_as_oserrors
from veco.sentence_transformers_files import recorded_layer, write_sentence_files
from veco.tokenizer import ID_OFFSET, UNK_ID, Vocabulary, count_ids, lowest_score, parts_of
from veco.vocabulary_loss import never_chosen

Model = TypeVar("Model", bound=PreTrainedModel)
# For each id of a new vocabulary, the old ids whose mean becomes its row; if there are none, it is drawn.
Sources = Sequence[Sequence[int]]


def cut_vocabulary(
    model: Model,
    tokenizer_dir: str | Path,
    used_ids: Iterable[int],
    output_dir: str | Path,
    keep: Collection[str] = (),
    tokens: Collection[str] | None = None,
    keep_characters: bool = True,
) -> Model:
    """Reduce `model`, in place, to the ids that are kept, in their order; write their tokenizer to `output_dir`.

    Kept are the special ids, `used_ids`, the pieces named in `keep`, and of the tokens added behind `<mask>` those in
    `tokens` (None: all). With `keep_characters` pieces of one character are kept too, so that any text can still be
    tokenised, if into more pieces; without them, many words outside the corpus become unknown.

    States and logits of kept ids do not change. A text all of whose pieces are among `used_ids` is split into the same
    pieces as before: its most probable segmentation still exists, and no other became more probable (see `lowest_ids`).
    Data prepared with the old tokenizer do not fit the new model.
    Raises ValueError for ids outside the vocabulary, unknown names, a decoder whose start token would be dropped, and a
    model that does not fit the tokenizer.
    """
    vocabulary = fitting_vocabulary(model, tokenizer_dir)
    kept_ids = vocabulary.ids_to_keep({*used_ids, *framing_ids(model)}, keep, tokens, keep_characters)
    if gone := framing_ids(model) - set(kept_ids):
        raise ValueError(
            f"sentences start or end with {vocabulary.added[min(gone)]}, which is not among the tokens to keep"
        )
    vocabulary.write(Path(output_dir), kept_ids, {}, [], max_tokens=model.config.max_tokens)
    return reindex(model, [[i] for i in kept_ids])


def extend_vocabulary(
    model: Model,
    tokenizer_dir: str | Path,
    output_dir: str | Path,
    pieces: Mapping[str, float | None] | None = None,
    tokens: Sequence[str] = (),
    seed: int = 0,
) -> Model:
    """Add rows for new pieces and special tokens to `model`, in place; write their tokenizer to `output_dir`.

    `pieces` maps each new piece (`▁` at the start of a word) to its score, a log-probability; None is the mean score of
    the pieces into which it is split now, so that it is preferred to them. Its row is the mean of their rows. `tokens`,
    such as language tags, are matched literally; their rows are drawn, with `seed`, from a normal distribution with the
    mean and the standard deviation of all rows.

    Logits and states of old ids do not change. Text without the new pieces and tokens is split as before.
    Raises ValueError for pieces and tokens that exist already or cannot occur in normalised text, for scores below
    those of all old pieces (`<unk>` would become less probable too), and for a model that does not fit the tokenizer.
    """
    vocabulary = fitting_vocabulary(model, tokenizer_dir)
    known = vocabulary.tokenizer.get_vocab()
    pieces = pieces or {}
    times = Counter([*known, *pieces, *tokens])
    if twice := {name for name in times if times[name] > 1}:
        raise ValueError(f"{tokenizer_dir}: {listed(twice)}: exists already, or is given twice")
    if not all(token.strip() for token in tokens):
        raise ValueError("a new token is empty")
    parts, lowest = parts_of(pieces, vocabulary.proto), lowest_score(vocabulary.proto)
    old_scores = {i: float(vocabulary.proto.pieces[i - ID_OFFSET].score) for ids in parts.values() for i in ids}
    old_scores[UNK_ID] = lowest
    scores = {
        piece: fmean(old_scores[i] for i in parts[piece]) if score is None else score for piece, score in pieces.items()
    }
    if wrong := {piece for piece, score in scores.items() if not lowest <= score <= 0}:  # NaN too
        raise ValueError(f"the score of {listed(wrong)} is not between {lowest:.4g}, the lowest of old pieces, and 0")
    old_ids = range(len(vocabulary))
    vocabulary.write(Path(output_dir), old_ids, scores, tokens, max_tokens=model.config.max_tokens)
    in_front, behind = old_ids[: vocabulary.mask_id], old_ids[vocabulary.mask_id :]
    known_parts = ([i for i in ids if i != UNK_ID] for ids in parts.values())
    sources = [*([i] for i in in_front), *known_parts, *([i] for i in behind), *([] for _ in tokens)]
    return reindex(model, sources, seed)


def fitting_vocabulary(model: PreTrainedModel, tokenizer_dir: str | Path) -> Vocabulary:
    """The vocabulary in a directory; ValueError if the model's has another size."""
    vocabulary = Vocabulary(Path(tokenizer_dir))
    if len(vocabulary) != model.config.vocab_size:
        raise ValueError(
            f"{tokenizer_dir}: {len(vocabulary):,} pieces, but the model has {model.config.vocab_size:,} rows: "
            "it is another model's tokenizer"
        )
    return vocabulary


def reindex(model: Model, sources: Sources, seed: int = 0) -> Model:
    """Renumber the ids of `model`, in place: row i becomes the mean of the old rows `sources[i]`, or drawn if none.

    These are the rows of token embeddings, output projections and their biases; tied weights stay tied. The ids around
    sentences in the configuration change too.
    """
    generator = torch.Generator().manual_seed(seed)
    renewed: dict[nn.Parameter, nn.Parameter] = {}
    for layer, name in vocabulary_parameters(model):
        old = layer.get_parameter(name)
        if old not in renewed:
            renewed[old] = nn.Parameter(rows_of(old.detach(), sources, generator), old.requires_grad)
        layer.register_parameter(name, renewed[old])
        if isinstance(layer, nn.Embedding):
            layer.num_embeddings = len(sources)
        else:
            layer.out_features = len(sources)
    new_ids = {ids[0]: new for new, ids in reversed(list(enumerate(sources))) if len(ids) == 1}
    for config in configs_of(model):
        if config.decoder_start_token_id is not None:
            config.decoder_start_token_id = new_ids[config.decoder_start_token_id]
    for name, ids in model.config.frames.items():
        setattr(model.config, name, [new_ids[i] for i in ids])
    if model.config.target_suffix_ids is not None:
        model.generation_config.eos_token_id = model.config.target_suffix_ids[-1]
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.vocab_size = len(sources)
    return model


def vocabulary_parameters(model: nn.Module) -> Iterator[tuple[nn.Embedding | nn.Linear, str]]:
    """Layers with a parameter that has a row for each id, and its name."""
    for module in model.modules():
        if isinstance(module, VecoEmbeddings):
            yield module.word_embeddings, "weight"
        elif isinstance(module, VecoLMHead):
            yield module.decoder, "weight"
            yield module.decoder, "bias"


def rows_of(table: Tensor, sources: Sources, generator: torch.Generator) -> Tensor:
    """Rows (len(sources), ...) for `reindex`, from a table (V, ...)."""
    rows = table[torch.tensor([ids[0] if ids else 0 for ids in sources])]
    for new, ids in enumerate(sources):
        if len(ids) > 1:
            rows[new] = table[list(ids)].float().mean(dim=0)
    if drawn := [new for new, ids in enumerate(sources) if not ids]:
        known = table.float() if table.dim() > 1 else table.float()[~never_chosen(table)]  # without NEVER
        mean, deviation = known.mean(dim=0), known.std(dim=0)
        noise = torch.randn((len(drawn), *table.shape[1:]), generator=generator)
        rows[drawn] = (mean + deviation * noise).to(table.dtype)
    return rows


def configs_of(model: PreTrainedModel) -> list[Any]:
    """Configurations that have a decoder's start token."""
    return [model.config, *([model.generation_config] if model.can_generate() else [])]


def framing_ids(model: PreTrainedModel) -> set[int]:
    """The decoder's start token, if the model has one, and the ids that its configuration puts around sentences."""
    starts = {config.decoder_start_token_id for config in configs_of(model)} - {None}
    return starts.union(*model.config.frames.values())


def open_model(directory: Path) -> PreTrainedModel:
    """The VECO model in a directory, of the class in its config.json; ValueError for other directories."""
    if not (directory / "config.json").is_file():
        raise ValueError(f"{directory}: expected a model directory with a config.json")
    names = VecoConfig.from_pretrained(directory).architectures or []
    if len(names) != 1 or names[0] not in veco.__all__:
        raise ValueError(f"{directory}: config.json names architectures {names}, expected one of VECO's classes")
    return open_strictly(getattr(veco, names[0]), directory)


def read_pieces(path: Path) -> dict[str, float | None]:
    """New pieces and their scores from lines `piece`, with score None, or `piece TAB score`.

    Raises ValueError for empty lines, repeated pieces, and scores that are not numbers.
    """
    pieces: dict[str, float | None] = {}
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        piece, tab, score = line.partition("\t")
        try:
            value = float(score) if tab else None
        except ValueError:
            raise ValueError(f"{path}: line {number}: the score {score!r} is not a number") from None
        if not piece or piece in pieces:
            raise ValueError(f"{path}: line {number}: expected one more new piece, found {piece!r}")
        pieces[piece] = value
    return pieces


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
