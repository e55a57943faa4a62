"""Tokenizers in XLM-R's layout: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, SentencePiece's pieces, `<mask>`, added ones.

New pieces are inserted before `<mask>`, which shifts it and the tokens behind it; all other ids stay. Tokens added
later, such as language tags, are appended: no id changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from data_tools.tokenizers.sentence_piece import FIRST_PIECE_ID, ID_OFFSET, SENTENCEPIECE_UNK_ID, UNK_ID, WORD_START
from veco.convert.weights import listed
from veco.tokenizer import (
    MODEL_FILE,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    add_special_tokens,
    open_tokenizer,
    read_json,
    save_tokenizer,
    write_json,
)
from veco.vocabulary.pieces import problem_of_spelling


class XlmRVocabulary:
    """The ids of a tokenizer directory: pieces of `proto`, a SentencePiece model, `<mask>`, and added tokens by id.

    See `veco.vocabulary.extending.Vocabulary` for how it is extended. Raises ValueError for a directory without a
    SentencePiece model, a layout other than XLM-R's, and a tokenizer.json that does not fit the model.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / MODEL_FILE
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected a tokenizer directory with a SentencePiece model")
        try:
            self.processor = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            reason = str(error).removeprefix("INTERNAL: ")
            raise ValueError(f"{path}: not a SentencePiece model ({reason}); fetch it again") from None
        self.proto = ModelProto.FromString(path.read_bytes())
        self.tokenizer = open_tokenizer(directory)
        self.mask_id = len(self.proto.pieces) + ID_OFFSET
        tokens = self.tokenizer.get_vocab()
        expected = ["<s>", "<pad>", "</s>", "<unk>", *self.pieces, "<mask>"]
        if [tokens.get(token) for token in expected] != list(range(self.mask_id + 1)):
            raise ValueError(
                f"{directory}: expected XLM-R's layout (<s>, <pad>, </s>, <unk>, the {len(self.pieces):,} pieces of "
                f"{MODEL_FILE}, <mask> {self.mask_id}), found another; convert it with data_tools.import_tokenizer"
            )
        self.added = {id_: token for token, id_ in tokens.items() if id_ > self.mask_id}
        self.unk_id, self.first_new = UNK_ID, self.mask_id
        inside = ModelProto.FromString(self.proto.SerializeToString())
        inside.normalizer_spec.add_dummy_prefix = False
        inside.normalizer_spec.remove_extra_whitespaces = False
        self._inside_words = SentencePieceProcessor(model_proto=inside.SerializeToString())

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def pieces(self) -> list[str]:
        """The ordinary pieces; the first has id FIRST_PIECE_ID."""
        return [piece.piece for piece in self.proto.pieces[FIRST_PIECE_ID - ID_OFFSET :]]

    def ids_to_keep(
        self, used_ids: Iterable[int], keep: Collection[str], tokens: Collection[str] | None, keep_characters: bool
    ) -> list[int]:
        """Ids of a reduced vocabulary, ascending; the arguments are those of `cut_vocabulary`."""
        ids = {int(i) for i in used_ids}
        if wrong := [i for i in ids if not 0 <= i < len(self)]:
            raise ValueError(f"{self.directory}: used ids contain {wrong[0]}, expected 0 to {len(self) - 1}")
        id_of = {piece: i for i, piece in enumerate(self.pieces, start=FIRST_PIECE_ID)}
        if unknown := set(keep) - id_of.keys():
            raise ValueError(f"{self.directory}: has no pieces {listed(unknown)} to keep")
        if tokens is not None and (unknown := set(tokens) - set(self.added.values())):
            raise ValueError(f"{self.directory}: has no added tokens {listed(unknown)} to keep")
        ids |= {*range(FIRST_PIECE_ID), *(id_of[piece] for piece in keep), self.mask_id}
        ids |= {i for piece, i in id_of.items() if keep_characters and len(piece) == 1}
        ids |= self.lowest_ids()
        kept_tokens = {i for i, token in self.added.items() if tokens is None or token in tokens}
        return sorted(ids - self.added.keys() | kept_tokens)

    def lowest_ids(self) -> set[int]:
        """Ids of the least probable piece, and of the least probable one that occurs in tokenised text.

        `<unk>` is less probable by a constant than the first in transformers, than the second in SentencePiece. Without
        these pieces `<unk>` would become more probable, and lines with unknown characters could be split differently.
        """
        scores = np.array([piece.score for piece in self.proto.pieces[FIRST_PIECE_ID - ID_OFFSET :]])
        is_normal = np.array([piece.type for piece in self.proto.pieces[FIRST_PIECE_ID - ID_OFFSET :]])
        normal = np.where(is_normal == ModelProto.SentencePiece.NORMAL, scores, np.inf)
        return {FIRST_PIECE_ID + int(scores.argmin()), FIRST_PIECE_ID + int(normal.argmin())}

    def write(
        self,
        directory: Path,
        kept_ids: Sequence[int],
        pieces: Mapping[str, float],
        tokens: Sequence[str],
        *,
        max_tokens: int,
    ) -> None:
        """Write a tokenizer of kept ids (ascending), new pieces with their scores, and new special tokens.

        `max_tokens` is the length of its model's longest sequence.
        """
        front, back = [i for i in kept_ids if i < self.mask_id], [i for i in kept_ids if i >= self.mask_id]
        new_ids = {old: new for new, old in enumerate(front)}
        new_ids |= {old: new for new, old in enumerate(back, start=len(front) + len(pieces))}
        save_tokenizer(self.tokenizer, self.directory, directory, max_tokens=max_tokens)

        settings = read_json(directory / TOKENIZER_JSON)
        table = settings["model"]["vocab"]
        added = [[piece, score] for piece, score in pieces.items()]
        settings["model"]["vocab"] = [*(table[i] for i in front), *added, table[self.mask_id]]
        settings["added_tokens"] = [
            {**token, "id": new_ids[token["id"]]} for token in settings["added_tokens"] if token["id"] in new_ids
        ]
        write_json(directory / TOKENIZER_JSON, settings)
        config = read_json(directory / TOKENIZER_CONFIG)
        dropped = {token for i, token in self.added.items() if i not in new_ids}
        if extra := config.pop("extra_special_tokens", None):
            config["extra_special_tokens"] = [token for token in extra if token not in dropped]
        write_json(directory / TOKENIZER_CONFIG, config)

        if pieces or len(front) < self.mask_id:  # else the file stays as it is, byte by byte
            proto = ModelProto.FromString(self.proto.SerializeToString())
            del proto.pieces[FIRST_PIECE_ID - ID_OFFSET :]
            proto.pieces.extend(self.proto.pieces[i - ID_OFFSET] for i in front[FIRST_PIECE_ID:])
            for piece, score in pieces.items():
                proto.pieces.add(piece=piece, score=score, type=ModelProto.SentencePiece.NORMAL)
            proto.trainer_spec.vocab_size = len(proto.pieces)
            (directory / MODEL_FILE).write_bytes(proto.SerializeToString(deterministic=True))

        add_special_tokens(directory, tokens, max_tokens=max_tokens)

    def name_of(self, piece: str) -> str:
        """A piece as this tokenizer spells it: as SentencePiece does."""
        return piece

    def problem_of(self, piece: str) -> str | None:
        """Why a piece cannot occur in normalised text, or None if it can."""
        if problem := problem_of_spelling(piece):
            return problem
        if (normalised := self._inside_words.normalize(piece.replace(WORD_START, " "))) != piece:
            return f"{piece!r} never occurs in text: normalised it is {normalised!r}"
        return None

    def parts_of(self, pieces: Iterable[str]) -> dict[str, list[int]]:
        """Ids into which each new piece is split now; ValueError for one that cannot occur in normalised text."""
        parts = {}
        for piece in pieces:
            if problem := self.problem_of(piece):
                raise ValueError(problem)
            ids = self._inside_words.encode(piece.replace(WORD_START, " "))
            parts[piece] = [UNK_ID if i == SENTENCEPIECE_UNK_ID else i + ID_OFFSET for i in ids]
        return parts

    def write_extended(
        self, directory: Path, pieces: Mapping[str, float | None], tokens: Sequence[str], *, max_tokens: int
    ) -> None:
        """Write the tokenizer with new pieces and special tokens.

        A piece without a score gets the mean of its parts', so that it is preferred to them. Raises ValueError for
        scores below those of all old pieces: `<unk>` would become less probable too.
        """
        parts, lowest = self.parts_of(pieces), lowest_score(self.proto)
        old_scores = {i: float(self.proto.pieces[i - ID_OFFSET].score) for ids in parts.values() for i in ids}
        old_scores[UNK_ID] = lowest
        scores = {
            piece: fmean(old_scores[i] for i in parts[piece]) if score is None else score
            for piece, score in pieces.items()
        }
        if wrong := {piece for piece, score in scores.items() if not lowest <= score <= 0}:  # NaN too
            raise ValueError(
                f"the score of {listed(wrong)} is not between {lowest:.4g}, the lowest of old pieces, and 0"
            )
        self.write(directory, range(len(self)), scores, tokens, max_tokens=max_tokens)


def lowest_score(proto: ModelProto) -> float:
    """Score of the least probable ordinary piece."""
    return min(float(piece.score) for piece in proto.pieces if piece.type == ModelProto.SentencePiece.NORMAL)
