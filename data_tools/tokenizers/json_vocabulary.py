"""The vocabulary of a tokenizer.json: which piece each id is, which ids are special, and where pieces begin words."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_tools.tokenizers.piece_table import are_marks

METASPACE = "▁"
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
# Files of transformers that name special tokens; the later one prevails.
NAMING_FILES = ("special_tokens_map.json", "tokenizer_config.json")
# Names that transformers' classes have by default, so that these files may leave them out.
USUAL_NAMES = {"mask": ("<mask>", "[MASK]"), "pad": ("<pad>", "[PAD]")}


@dataclass(frozen=True)
class JsonVocabulary:
    """The pieces by id of a tokenizer.json, those of its model and added ones, and its other settings.

    `named` are the special tokens that the directory's other files name, by role: mask, pad, bos, cls, eos, sep, unk.
    `unk` is what the model makes of text without pieces, None if it has none for that. `special` are all these and the
    added tokens that are special.
    """

    settings: Mapping[str, Any]
    pieces: Mapping[int, str]
    special: frozenset[int]
    named: Mapping[str, int]
    unk: int | None

    @classmethod
    def of(cls, settings: Mapping[str, Any], directory: Path) -> Self:
        """That of the content of a tokenizer.json and the files beside it. Raises KeyError, TypeError, ValueError."""
        model, added = settings["model"], settings["added_tokens"] or []
        pieces = model_pieces(model) | {token["id"]: token["content"] for token in added}
        ids = {piece: id_ for id_, piece in pieces.items()}
        named = {role: ids[token] for role, token in named_tokens(directory).items() if token in ids}
        for role, names in USUAL_NAMES.items():
            found = [ids[name] for name in names if name in ids]
            if role not in named and found:
                named[role] = found[0]
        unk = model.get("unk_id") if type_of(model) == "Unigram" else ids.get(model.get("unk_token"))
        special = {token["id"] for token in added if token["special"]} | {*named.values()}
        return cls(settings, pieces, frozenset(special if unk is None else {*special, unk}), named, unk)

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.pieces) + 1

    @property
    def without_piece(self) -> list[int]:
        """The ids below `size` that have no piece."""
        return [id_ for id_ in range(self.size) if id_ not in self.pieces]

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether pieces are made of the bytes of text, each written as a character (GPT-2, RoBERTa)."""
        return "ByteLevel" in {*types_in(self.settings["pre_tokenizer"]), *types_in(self.settings["normalizer"])}

    @cached_property
    def spellings(self) -> list[str]:
        """The characters of each id, without what marks the beginning or end of a word; none for special ids.

        A byte that is no character by itself is half of a surrogate pair, as Python's `surrogateescape` has it.
        """
        return [self._spelling(id_) for id_ in range(self.size)]

    def _spelling(self, id_: int) -> str:
        if id_ in self.special or id_ not in self.pieces:
            return ""
        piece, model = self.pieces[id_], self.settings["model"]
        if self.is_byte_level:
            return text_of_bytes(bytes(BYTES[c] for c in piece if c in BYTES)).replace(" ", "")
        if byte := BYTE_PIECE.fullmatch(piece):
            return text_of_bytes(bytes.fromhex(byte[1]))
        piece = piece.removeprefix(model.get("continuing_subword_prefix") or "")
        return piece.removesuffix(model.get("end_of_word_suffix") or "").replace(METASPACE, "")

    def starts_word(self) -> np.ndarray:
        """bool (size,): the ids that begin a word; none if pieces do not show it.

        In WordPiece, all pieces that do not go on with a word do, but for punctuation, which is always by itself; so
        does the unknown piece, which stands for a word.
        """
        pieces = ["" if id_ in self.special else self.pieces.get(id_, "") for id_ in range(self.size)]
        prefix = self.settings["model"].get("continuing_subword_prefix")
        if not prefix and type_of(self.settings["model"]) != "WordLevel":
            return np.array([piece.startswith(SPACE if self.is_byte_level else METASPACE) for piece in pieces])
        starts = ~are_marks(self.spellings)
        if prefix:
            starts &= np.array([not piece.startswith(prefix) for piece in pieces])
        if self.unk is not None:
            starts[self.unk] = True
        return starts


def type_of(model: Mapping[str, Any]) -> str:
    """The type of a model; files of tokenizers before 0.9 do not name it, but show it by their fields."""
    if "type" in model:
        return str(model["type"])
    if isinstance(model["vocab"], list):
        return "Unigram"
    if "merges" in model:
        return "BPE"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def model_pieces(model: Mapping[str, Any]) -> dict[int, str]:
    """The pieces of a model by id: Unigram has a list of pieces and scores, all others a mapping of pieces to ids."""
    vocab = model["vocab"]
    if type_of(model) == "Unigram":
        return {id_: piece for id_, (piece, _) in enumerate(vocab)}
    return {id_: piece for piece, id_ in vocab.items()}


def named_tokens(directory: Path) -> dict[str, str]:
    """The special tokens that the files beside a tokenizer.json name, by role: "mask", "pad", "cls", …"""
    found: dict[str, str] = {}
    for name in NAMING_FILES:
        path = directory / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for key, token in content.items():
            token = token.get("content") if isinstance(token, dict) else token
            if key.endswith("_token") and isinstance(token, str):
                found[key.removesuffix("_token")] = token
    return found


def types_in(value: Any) -> Iterator[str]:
    """The types of a step of a tokenizer.json and of all steps in it."""
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for inner in value.values():
            yield from types_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from types_in(inner)


def characters_of_bytes() -> dict[str, int]:
    """The byte that each character of a byte-level piece stands for.

    GPT-2's (Radford et al., 2019): printable characters of Latin-1 stand for themselves, and the other bytes, in order,
    are the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = characters_of_bytes()
SPACE = next(character for character, byte in BYTES.items() if byte == ord(" "))  # Ġ


def text_of_bytes(content: bytes) -> str:
    """The text of bytes, of which some may be only parts of characters."""
    return content.decode(errors="surrogateescape")


def num_characters(spelling: str) -> int:
    """The number of characters but spaces; one that is cut into bytes counts with its first."""
    return sum(not c.isspace() and not "\udc80" <= c <= "\udcbf" for c in spelling)
