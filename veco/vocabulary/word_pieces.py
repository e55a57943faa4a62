"""WordPiece vocabularies, as BERT's: new pieces are appended, so that no id changes.

A word is cut from its beginning into the longest pieces that there are; those inside a word begin with `##`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_tools.tokenizers.sentence_piece import WORD_START
from veco.tokenizer import TOKENIZER_JSON, add_special_tokens, open_tokenizer, read_json, save_tokenizer, write_json
from veco.vocabulary.pieces import problem_of_spelling

MODEL_TYPE = "WordPiece"


class WordPieces:
    """A tokenizer directory whose tokenizer.json has a WordPiece model; see `veco.vocabulary.extending.Vocabulary`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokenizer = open_tokenizer(directory)
        self._backend: Tokenizer = self.tokenizer.backend_tokenizer
        self._model: dict[str, Any] = read_json(directory / TOKENIZER_JSON)["model"]
        self._ids: dict[str, int] = self._model["vocab"]
        if self._model["unk_token"] not in self._ids:
            raise ValueError(
                f"{directory}: its {TOKENIZER_JSON} has no piece {self._model['unk_token']} for unknown text"
            )
        self.unk_id = self._ids[self._model["unk_token"]]
        self.first_new = len(self)

    def __len__(self) -> int:
        return max(self.tokenizer.get_vocab().values()) + 1

    def name_of(self, piece: str) -> str:
        """A piece as WordPiece spells it: `der` for `▁der`, `##der` for `der`."""
        is_start = piece.startswith(WORD_START)
        return piece.removeprefix(WORD_START) if is_start else self._model["continuing_subword_prefix"] + piece

    def problem_of(self, piece: str) -> str | None:
        """Why a piece cannot occur in text that is normalised and cut into words, or None if it can."""
        if problem := problem_of_spelling(piece):
            return problem
        letters, most = piece.removeprefix(WORD_START), self._model["max_input_chars_per_word"]
        if len(letters) > most:
            return f"{piece!r} never occurs in text: it is longer than {most} letters"
        word = letters if piece.startswith(WORD_START) else 2 * piece  # one of them is inside a word
        normalizer, cutter = self._backend.normalizer, self._backend.pre_tokenizer
        text = word if normalizer is None else normalizer.normalize_str(word)
        words = [text] if cutter is None else [part for part, _ in cutter.pre_tokenize_str(text)]
        if words != [word]:
            return f"{piece!r} never occurs in text: {word!r} is normalised and cut into the words {words}"
        return None

    def parts_of(self, pieces: Iterable[str]) -> dict[str, list[int]]:
        """Ids into which each new piece is split now; ValueError for one that cannot occur in text."""
        if problem := next(filter(None, map(self.problem_of, pieces)), None):
            raise ValueError(problem)
        return {piece: self._split(piece) for piece in pieces}

    def _split(self, piece: str) -> list[int]:
        ids, rest = [], piece
        while rest not in ("", WORD_START):
            known = (end for end in range(len(rest), 0, -1) if self.name_of(rest[:end]) in self._ids)
            end = next(known, 0)
            if rest[:end] in ("", WORD_START):
                return [self.unk_id]  # of the whole word
            ids.append(self._ids[self.name_of(rest[:end])])
            rest = rest[end:]
        return ids

    def write_extended(
        self, directory: Path, pieces: Mapping[str, float | None], tokens: Sequence[str], *, max_tokens: int
    ) -> None:
        """Write the tokenizer with new pieces, which have no scores here, and special tokens."""
        if scored := [piece for piece, score in pieces.items() if score is not None]:
            raise ValueError(f"{self.directory}: pieces of WordPiece have no scores, found one of {scored[0]!r}")
        save_tokenizer(self.tokenizer, self.directory, directory, max_tokens=max_tokens)
        settings = read_json(directory / TOKENIZER_JSON)
        new = {self.name_of(piece): id_ for id_, piece in enumerate(pieces, start=self.first_new)}
        # Added tokens that are not among the pieces would get the ids behind these.
        added = {token["content"]: token["id"] for token in settings["added_tokens"]}
        settings["model"]["vocab"] |= added | new
        write_json(directory / TOKENIZER_JSON, settings)
        add_special_tokens(directory, tokens, max_tokens=max_tokens)
