"""Vocabularies cut down to a corpus or extended, model and tokenizer together: `python -m veco.vocabulary --help`.

The paper cuts XLM-R's 250,002 ids down to those that a language pair uses (VECO, section 3, "resized dictionary"): the
embeddings and the logits over the vocabulary are most of a translation model's memory and time. Both commands keep what
the model computes for the ids that stay.

Tokenizers have XLM-R's layout: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, SentencePiece's pieces, `<mask>`, and behind it
tokens added later, such as language tags. New pieces go in front of `<mask>`: it and the tokens behind it move, all
other ids stay. New tokens go to the end: no id moves.
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
from veco.config import FRAMES, VecoConfig
from veco.convert.weights import listed, open_strictly
from veco.masked_lm import VecoLMHead
from veco.model import VecoEmbeddings
from veco.rust_errors import rust_errors_as_oserrors
from veco.sentence_files import recorded_layer, write_sentence_files
from veco.tokenizer import ID_OFFSET, UNK_ID, Vocabulary, count_ids, lowest_score, parts_of
from veco.vocabulary_loss import never_chosen

Model = TypeVar("Model", bound=PreTrainedModel)
# For each id of a new vocabulary the old ids whose mean its row becomes; none: it is drawn.
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
    """`model`, changed in place to the ids that stay, whose order stays too; writes their tokenizer to `output_dir`.

    The special ids stay, `used_ids`, pieces named in `keep`, and of the tokens added behind `<mask>` those in `tokens`
    (None: all). With `keep_characters` pieces of one character stay, so that other text than the corpus can still be
    written, if in more pieces; without, many of its words become unknown.

    States and logits of ids that stay are what they were. A text all of whose pieces are among `used_ids` is cut into
    the same pieces as before: the most probable way to cut it is still there, and none became more probable (see
    `lowest_ids`). Data prepared with the old tokenizer do not fit the new model.
    Raises ValueError for ids outside the vocabulary, unknown names, a decoder whose start token would go, and a model
    that does not fit the tokenizer.
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
    """`model`, changed in place, with rows for new pieces and special tokens; writes their tokenizer to `output_dir`.

    `pieces` maps each new piece (`▁` at the start of a word) to its score, a log-probability; None: the mean score of
    the pieces that it is cut into now, so that it is preferred to them. Its row becomes the mean of their rows.
    `tokens`, such as language tags, are matched as they stand; their rows are drawn, by `seed`, from a normal
    distribution with the mean and the deviation of all rows.

    Logits and states of old ids are what they were. Text without the new pieces and tokens is cut as before.
    Raises ValueError for pieces and tokens that are there already or cannot occur in normalised text, for scores below
    those of all old pieces (`<unk>` would become less probable too), and a model that does not fit the tokenizer.
    """
    vocabulary = fitting_vocabulary(model, tokenizer_dir)
    known = vocabulary.tokenizer.get_vocab()
    pieces = pieces or {}
    times = Counter([*known, *pieces, *tokens])
    if twice := {name for name in times if times[name] > 1}:
        raise ValueError(f"{tokenizer_dir}: {listed(twice)}: there already, or given twice")
    if not all(token.strip() for token in tokens):
        raise ValueError("a new token is empty")
    parts, lowest = parts_of(pieces, vocabulary.proto), lowest_score(vocabulary.proto)
    old_scores = {i: float(vocabulary.proto.pieces[i - ID_OFFSET].score) for ids in parts.values() for i in ids}
    old_scores[UNK_ID] = lowest
    scores = {
        piece: fmean(old_scores[i] for i in parts[piece]) if score is None else score for piece, score in pieces.items()
    }
    if wrong := {piece for piece, score in scores.items() if not lowest <= score <= 0}:  # not a number: neither
        raise ValueError(f"the score of {listed(wrong)} is not between {lowest:.4g}, the lowest of old pieces, and 0")
    old_ids = range(len(vocabulary))
    vocabulary.write(Path(output_dir), old_ids, scores, tokens, max_tokens=model.config.max_tokens)
    in_front, behind = old_ids[: vocabulary.mask_id], old_ids[vocabulary.mask_id :]
    known_parts = ([i for i in ids if i != UNK_ID] for ids in parts.values())
    sources = [*([i] for i in in_front), *known_parts, *([i] for i in behind), *([] for _ in tokens)]
    return reindex(model, sources, seed)


def fitting_vocabulary(model: PreTrainedModel, tokenizer_dir: str | Path) -> Vocabulary:
    """The vocabulary of the directory; raises ValueError if the model has another size."""
    vocabulary = Vocabulary(Path(tokenizer_dir))
    if len(vocabulary) != model.config.vocab_size:
        raise ValueError(
            f"{tokenizer_dir}: {len(vocabulary):,} pieces, but the model has {model.config.vocab_size:,} rows: "
            "it is another model's tokenizer"
        )
    return vocabulary


def reindex(model: Model, sources: Sources, seed: int = 0) -> Model:
    """`model`, changed in place: the row of id i is the mean of the old rows of `sources[i]`, or drawn if it has none.

    Rows are those of token embeddings, output projections and their biases; what was tied stays tied. What stands
    around sentences moves along.
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
    for name in FRAMES:
        if (ids := model.config.__dict__[name]) is not None:
            model.config.__dict__[name] = [new_ids[i] for i in ids]
    if model.config.target_suffix_ids is not None:
        model.generation_config.eos_token_id = model.config.target_suffix_ids[-1]
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.vocab_size = len(sources)
    return model


def vocabulary_parameters(model: nn.Module) -> Iterator[tuple[nn.Embedding | nn.Linear, str]]:
    """The layers, and the names of their parameters, that have a row for each id."""
    for module in model.modules():
        if isinstance(module, VecoEmbeddings):
            yield module.word_embeddings, "weight"
        elif isinstance(module, VecoLMHead):
            yield module.decoder, "weight"
            yield module.decoder, "bias"


def rows_of(table: Tensor, sources: Sources, generator: torch.Generator) -> Tensor:
    """The rows (len(sources), ...) that `reindex` describes, from those of a table (V, ...)."""
    rows = table[torch.tensor([ids[0] if ids else 0 for ids in sources])]
    for new, ids in enumerate(sources):
        if len(ids) > 1:
            rows[new] = table[list(ids)].float().mean(dim=0)
    if drawn := [new for new, ids in enumerate(sources) if not ids]:
        known = table.float() if table.dim() > 1 else table.float()[~never_chosen(table)]  # of biases the real ones
        mean, deviation = known.mean(dim=0), known.std(dim=0)
        noise = torch.randn((len(drawn), *table.shape[1:]), generator=generator)
        rows[drawn] = (mean + deviation * noise).to(table.dtype)
    return rows


def configs_of(model: PreTrainedModel) -> list[Any]:
    """The configurations that name the start token of a decoder."""
    return [model.config, *([model.generation_config] if model.can_generate() else [])]


def framing_ids(model: PreTrainedModel) -> set[int]:
    """The start token of the model's decoder, if it has one, and what its configuration puts around sentences."""
    starts = {config.decoder_start_token_id for config in configs_of(model)} - {None}
    return starts.union(*(model.config.__dict__[name] or () for name in FRAMES))


def open_model(directory: Path) -> PreTrainedModel:
    """The VECO model in a directory, of the class that its config.json names; ValueError for anything else."""
    if not (directory / "config.json").is_file():
        raise ValueError(f"{directory}: expected a model directory with a config.json")
    names = VecoConfig.from_pretrained(directory).architectures or []
    if len(names) != 1 or names[0] not in veco.__all__:
        raise ValueError(f"{directory}: config.json names architectures {names}, expected one of VECO's classes")
    return open_strictly(getattr(veco, names[0]), directory)


def read_pieces(path: Path) -> dict[str, float | None]:
    """New pieces and their scores, None where a line has only the piece, from a file of `piece` or `piece TAB score`.

    Raises ValueError for empty lines, pieces that come twice, and scores that are no numbers.
    """
    pieces: dict[str, float | None] = {}
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        piece, tab, score = line.partition("\t")
        try:
            value = float(score) if tab else None
        except ValueError:
            raise ValueError(f"{path}: line {number}: the score {score!r} is not a number") from None
        if not piece or piece in pieces:
            raise ValueError(f"{path}: line {number}: expected another new piece, found {piece!r}")
        pieces[piece] = value
    return pieces


DESCRIPTION = """\
Changes the vocabulary of a VECO model directory, tokenizer included; ids that stay compute what they did.

  cut      keeps the ids that text files use. Prepare data with the tokenizer of DST afterwards.
  extend   adds pieces of SentencePiece and special tokens, such as language tags. Ids of old pieces stay.

  python -m veco.vocabulary cut veco-large veco-en-de --text train.en.gz train.de.gz
  python -m veco.vocabulary extend veco-large veco-tagged --tokens __en__ __de__
"""


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m veco.vocabulary", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cut = commands.add_parser("cut", help="keep the ids that text files use")
    extend = commands.add_parser("extend", help="add pieces and special tokens")
    for command in (cut, extend):
        command.add_argument("source", type=Path, metavar="SRC", help="model directory with its tokenizer")
        command.add_argument("destination", type=Path, metavar="DST", help="model directory to make")
    cut.add_argument("--text", type=Path, nargs="+", required=True, metavar="FILE", help="lines of text, plain or .gz")
    cut.add_argument(
        "--min-count",
        type=int,
        default=1,
        metavar="N",
        help="keep pieces that occur so often (default %(default)s; above it, lines with rarer ones are cut otherwise)",
    )
    cut.add_argument("--keep", nargs="+", default=[], metavar="PIECE", help="pieces to keep whether used or not")
    cut.add_argument(
        "--tokens",
        nargs="*",
        metavar="TOKEN",
        help="tokens behind <mask> to keep, such as language tags (default: all)",
    )
    cut.add_argument(
        "--drop-characters",
        action="store_true",
        help="drop pieces of one character too where unused; words with them become unknown",
    )
    extend.add_argument(
        "--pieces", type=Path, metavar="FILE", help="new pieces, a line each: piece, or piece TAB score"
    )
    extend.add_argument("--tokens", nargs="+", default=[], metavar="TOKEN", help="new special tokens")
    extend.add_argument("--seed", type=int, default=0, help="of the rows drawn for them (default %(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "extend" and not (arguments.pieces or arguments.tokens):
        parser.error("extend needs --pieces or --tokens")
    return arguments


def main() -> None:
    """Nothing; the command line."""
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
