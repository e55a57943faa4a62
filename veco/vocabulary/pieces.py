"""The pieces of any fast tokenizer, and the spelling by which those of two tokenizers are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers.decoders import ByteLevel

from veco.tokenizer import has_tokenizer, open_tokenizer

WORD_START = "▁"
NOT_UTF8 = "\ufffd"  # what part of a character's bytes is decoded to
# Roles of special pieces, and the names under which transformers may have them: BERT's [CLS] does what <s> does.
ROLES = {
    "bos": ("cls_token_id", "bos_token_id"),
    "pad": ("pad_token_id",),
    "eos": ("sep_token_id", "eos_token_id"),
    "unk": ("unk_token_id",),
    "mask": ("mask_token_id",),
}
OPTIONAL_ROLES = {"unk"}  # a tokenizer of bytes has a piece for any text


@dataclass(frozen=True)
class Pieces:
    """The pieces of a tokenizer directory: `names` by id, `""` for ids without one; `roles` of special pieces.

    `specials` are the ids that no text becomes, except the unknown one: those with a role, and further ones such as
    language tags. `tokenizer` is transformers' own.
    """

    directory: Path
    tokenizer: Any
    names: list[str]
    roles: dict[str, int]
    specials: frozenset[int]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The pieces of the tokenizer in a directory.

        Raises ValueError or OSError if there is none, it is not a fast one, or it lacks a special piece that a masked
        language model needs.
        """
        if not has_tokenizer(directory):  # transformers would look for one on the hub
            raise ValueError(f"{directory}: expected a directory with a tokenizer")
        tokenizer = open_tokenizer(directory)
        if not tokenizer.is_fast:
            raise ValueError(f"{directory}: expected a fast tokenizer (tokenizer.json), found {type(tokenizer)}")
        vocabulary = tokenizer.get_vocab()
        names = [""] * (max(vocabulary.values()) + 1)
        for name, id_ in vocabulary.items():
            names[id_] = name
        found = {role: [getattr(tokenizer, name) for name in aliases] for role, aliases in ROLES.items()}
        roles = {role: next((id_ for id_ in ids if id_ is not None), None) for role, ids in found.items()}
        if missing := [role for role, id_ in roles.items() if id_ is None and role not in OPTIONAL_ROLES]:
            raise ValueError(
                f"{directory}: the tokenizer has no {' and no '.join(missing)} token, which a masked language model "
                "needs; add it to the tokenizer first"
            )
        known_roles = {role: id_ for role, id_ in roles.items() if id_ is not None}
        added = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        return cls(directory, tokenizer, names, known_roles, frozenset({*added, *known_roles.values()}))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids of all pieces but the special ones, int64 (n,), ascending."""
        return np.array([i for i, name in enumerate(self.names) if name and i not in self.specials], np.int64)

    @cached_property
    def spellings(self) -> list[str]:
        """By id, a piece as SentencePiece spells it: `▁der` at the start of a word, `der` inside."""
        spell = speller(json.loads(self.tokenizer.backend_tokenizer.to_str()))
        return [spell(name) for name in self.names]


def speller(settings: dict[str, Any]) -> Callable[[str], str]:
    """The function from a tokenizer's pieces to SentencePiece's spelling, given the content of its tokenizer.json.

    WordPiece marks what is inside a word (`##der`), byte-level BPE what starts one (`Ġder`) and writes bytes as
    letters; parts of characters stay as they are. Pieces of other tokenizers are taken as they are.
    """
    if settings["model"]["type"] == "WordPiece":
        inside = settings["model"]["continuing_subword_prefix"]
        return lambda piece: piece.removeprefix(inside) if piece.startswith(inside) else WORD_START + piece
    if "ByteLevel" in {step["type"] for key in ("pre_tokenizer", "decoder") for step in steps(settings[key])}:
        decoder = ByteLevel()

        def spell(piece: str) -> str:
            text = decoder.decode([piece])
            if NOT_UTF8 in text:
                return piece
            return WORD_START + text.lstrip(" ") if text.startswith(" ") else text

        return spell
    return lambda piece: piece


def steps(setting: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a part of tokenizer.json, which may be null, one step, or a sequence."""
    if setting is None:
        return []
    inner = [value for key in ("pretokenizers", "decoders") for value in setting.get(key, [])]
    return [setting, *(step for value in inner for step in steps(value))]


def fuzzy(spelling: str) -> str:
    """The spelling without its word-start mark, in lower case."""
    return spelling.replace(WORD_START, "").lower()


def special_matches(old: Pieces, new: Pieces) -> dict[int, int]:
    """The old id for each special piece of the new tokenizer that has its role, or else its name."""
    named = {old.names[i]: i for i in old.specials}
    matches = {i: named[new.names[i]] for i in sorted(new.specials) if new.names[i] in named}
    return matches | {i: old.roles[role] for role, i in new.roles.items() if role in old.roles}


def ordinary_matches(old: Pieces, new: Pieces, is_fuzzy: bool = False) -> dict[int, int]:
    """The old id for each ordinary piece of the new tokenizer that the old one has too, by their `spellings`.

    Fuzzily, a piece without an equal one matches one that differs in case or in the mark of a word's start: one in
    lower case inside a word if there is one, otherwise that of the lowest id.
    """
    by_spelling: dict[str, int] = {}
    for i in old.ordinary.tolist():
        by_spelling.setdefault(old.spellings[i], i)
    if is_fuzzy:
        for i in old.ordinary.tolist():
            by_spelling.setdefault(fuzzy(old.spellings[i]), i)
    matches = {}
    for i in new.ordinary.tolist():
        spelling = new.spellings[i]
        match = by_spelling.get(spelling, by_spelling.get(fuzzy(spelling)) if is_fuzzy else None)
        if match is not None:
            matches[i] = match
    return matches
