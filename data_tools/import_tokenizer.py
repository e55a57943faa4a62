"""Convert a SentencePiece model into XLM-R's layout: `python -m data_tools.import_tokenizer --help`.

Ids are those of fairseq: <s> 0, <pad> 1, </s> 2, <unk> 3, then the pieces in the order of the model, or of the lines of
a dict.txt of fairseq, and <mask> last. A model that has this order already, such as XLM-R's own, keeps its bytes. With
a dictionary:

- Pieces that are not in it are dropped, so that text is cut into the remaining ones. (fairseq cuts text as before, and
  the missing pieces become <unk>; where none is missing, both agree.)
- Entries for which the model has no piece (madeupword0000, which pads a vocabulary to a multiple of 8; language tags
  such as [de_DE]) keep their ids as idle pieces, which no text becomes.
- An entry whose characters are all unknown to the model was counted by fairseq-preprocess in text with such characters.
  fairseq looks it up by its characters, so it becomes a piece, as improbable as <unk>.

An idle piece has the type UNUSED, which SentencePiece skips, and a score below that of its single characters together,
because transformers ignores types and takes the most probable pieces. The type CONTROL would also hide it from
SentencePiece, but transformers turns those into special tokens, which it finds in text (see
data_tools.tokenizers.sentence_piece). An idle piece with a character that has no piece of its own is still found by
transformers.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from data_tools.files.outputs import check_output_directory
from data_tools.tokenizers.dictionary import MASK, SPECIAL_IDS, read_dictionary
from data_tools.tokenizers.files import Piece, find_model, read_model, write_tokenizer
from data_tools.tokenizers.sentence_piece import (
    SENTENCEPIECE_BOS_ID,
    SENTENCEPIECE_EOS_ID,
    SENTENCEPIECE_UNK_ID,
    WORD_START,
)

COMMAND = "data_tools.import_tokenizer"
FIRST_PIECES = (  # in SentencePiece's order
    Piece(piece="<unk>", score=0.0, type=Piece.UNKNOWN),
    Piece(piece="<s>", score=0.0, type=Piece.CONTROL),
    Piece(piece="</s>", score=0.0, type=Piece.CONTROL),
)
UNKNOWN_PENALTY = 10.0  # SentencePiece's: the score of <unk> below that of the rarest piece
CANNOT = "transformers' XLM-R tokenizer cannot express this model"
NUM_CHECKED_LINES, WORDS_OF_CHECKED_LINE = 200, 8
NUM_SHOWN = 3


@dataclass(frozen=True)
class Imported:
    """A serialised model in XLM-R's order, and the fate of the source's pieces and the dictionary's entries.

    `kept` are pieces of the source; `idle` are entries that no text becomes; `unknown` are entries for characters that
    have no piece in the source; `num_dropped` counts pieces of the source that are not in the dictionary.
    """

    model: bytes
    kept: list[str]
    idle: list[str]
    unknown: list[str]
    num_dropped: int


def in_xlm_r_order(source: bytes, entries: Sequence[str] | None, where: Path) -> Imported:
    """Reorder a model: <unk>, <s>, </s> first, then its pieces, or those of `entries` in their order.

    Raises ValueError for a model that transformers' XLM-R tokenizer cannot express, and for entries of another model.
    """
    proto = ModelProto.FromString(source)
    check_kind(proto, where)
    trainer = proto.trainer_spec
    special = {*SPECIAL_IDS, MASK, trainer.unk_piece, trainer.bos_piece, trainer.eos_piece, trainer.pad_piece}
    others = {
        piece.piece: piece for piece in proto.pieces if piece.type != Piece.UNKNOWN and piece.piece not in special
    }
    ordinary = {name: piece for name, piece in others.items() if piece.type in (Piece.NORMAL, Piece.USER_DEFINED)}
    names = list(others) if entries is None else entries
    kept = [name for name in names if name in ordinary]
    if 2 * len(kept) <= len(names):
        what = "pieces are for text" if entries is None else "entries of the dictionary are pieces of this model"
        raise ValueError(f"{where}: only {len(kept):,} of {len(names):,} {what}; expected more than half")
    check_pieces([ordinary[name] for name in kept], where)

    lowest = min(ordinary[name].score for name in kept)
    letters = set().union(*ordinary)
    pieces = list(FIRST_PIECES)
    idle: list[str] = []
    unknown: list[str] = []
    for name in names:
        if name in ordinary:
            pieces.append(ordinary[name])
        elif name not in others and letters.isdisjoint(name):
            pieces.append(Piece(piece=name, score=lowest - UNKNOWN_PENALTY, type=Piece.NORMAL))
            unknown.append(name)
        else:
            pieces.append(Piece(piece=name, score=lowest * (len(name) + 1), type=Piece.UNUSED))
            idle.append(name)
    is_same = list(proto.pieces) == pieces
    model = source if is_same else with_pieces(proto, pieces).SerializeToString(deterministic=True)
    return Imported(model, kept, idle, unknown, num_dropped=len(ordinary) - len(kept))


def with_pieces(source: ModelProto, pieces: Sequence[ModelProto.SentencePiece]) -> ModelProto:
    """A model with other pieces, but the normalisation and training settings of `source`."""
    model = ModelProto(pieces=pieces, trainer_spec=source.trainer_spec, normalizer_spec=source.normalizer_spec)
    trainer = model.trainer_spec
    trainer.unk_id, trainer.unk_piece = SENTENCEPIECE_UNK_ID, "<unk>"
    trainer.bos_id, trainer.bos_piece = SENTENCEPIECE_BOS_ID, "<s>"
    trainer.eos_id, trainer.eos_piece = SENTENCEPIECE_EOS_ID, "</s>"
    trainer.pad_id, trainer.pad_piece = -1, "<pad>"
    trainer.vocab_size = len(pieces)
    return model


def check_kind(model: ModelProto, where: Path) -> None:
    """Raise ValueError for a kind of model that is not XLM-R's."""
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    problem = ""
    if trainer.model_type != TrainerSpec.UNIGRAM:
        problem = f"a model of type {TrainerSpec.ModelType.Name(trainer.model_type)}, expected UNIGRAM"
    elif trainer.byte_fallback:
        problem = "unknown characters become bytes, expected <unk>"
    elif trainer.treat_whitespace_as_suffix:
        problem = f"{WORD_START} follows words, expected it before them"
    elif not (normalizer.add_dummy_prefix and normalizer.remove_extra_whitespaces and normalizer.escape_whitespaces):
        problem = f"white space is kept as it is, expected one {WORD_START} before each word, including the first"
    if problem:
        raise ValueError(f"{where}: {problem}; {CANNOT}")


def check_pieces(pieces: Sequence[ModelProto.SentencePiece], where: Path) -> None:
    """Raise ValueError for a piece that XLM-R's tokenizer would not find in text as SentencePiece does."""
    for piece in pieces:
        if piece.type == Piece.USER_DEFINED:
            raise ValueError(f"{where}: the piece {piece.piece!r} is a user-defined symbol; {CANNOT}")
        if WORD_START in piece.piece.lstrip(WORD_START):
            raise ValueError(f"{where}: the piece {piece.piece!r} spans several words; {CANNOT}")


def spelled_lines(pieces: Sequence[str]) -> list[str]:
    """Lines of random pieces to check a tokenizer with, the same in every run."""
    random = Random(1)
    words = [piece.lstrip(WORD_START) for piece in pieces]
    return [" ".join(random.choices(words, k=WORDS_OF_CHECKED_LINE)) for _ in range(NUM_CHECKED_LINES)]


def described(names: Sequence[str], what: str) -> str:
    """A part of a message, such as `, 25 entries that no text becomes (a, b, c …)`; empty without names."""
    more = " …" * (len(names) > NUM_SHOWN)
    return f", {len(names):,} {what} ({', '.join(names[:NUM_SHOWN])}{more})" if names else ""


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m data_tools.import_tokenizer",
        description="Make a tokenizer directory from a SentencePiece model, with XLM-R's ids: <s> 0, <pad> 1, </s> 2, "
        "<unk> 3, the pieces in their order, <mask> last.",
    )
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a SentencePiece unigram model such as sentencepiece.bpe.model, a tokenizer.json made from one, or a "
        "directory with one of them",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="TOKENIZER", help="the directory to make")
    parser.add_argument(
        "--dictionary",
        type=Path,
        metavar="dict.txt",
        help="the dictionary of a fairseq model trained with these pieces: keep only its pieces, in its order",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output directory if this command made everything in it"
    )
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    options = parse_arguments()
    entries = None
    if options.dictionary:  # <mask> needs no entry: it is always last
        entries = [piece for piece in read_dictionary(options.dictionary) if piece != MASK]
    path = find_model(options.model)
    check_output_directory(options.output, [path, *([options.dictionary] if options.dictionary else [])])
    with atomic_directory(options.output, made_by=COMMAND, overwrite=options.overwrite) as directory:
        imported = in_xlm_r_order(read_model(path), entries, path)
        encoder = write_tokenizer(imported.model, directory, spelled_lines(imported.kept))
    dropped = f", {imported.num_dropped:,} dropped" if imported.num_dropped else ""
    print(
        f"{options.output}: {encoder.vocab_size:,} ids, {len(imported.kept):,} pieces of {path} in the order of "
        f"{options.dictionary or 'the model'}{dropped}{described(imported.idle, 'entries that no text becomes')}"
        f"{described(imported.unknown, 'entries for characters unknown to the model')}"
    )


if __name__ == "__main__":
    run_main(main)
