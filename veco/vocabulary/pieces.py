"""The pieces of any fast tokenizer, and the spelling by which those of two tokenizers are compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_tools.tokenizers.agreement import check_as_in_transformers
from data_tools.tokenizers.encoder import Encoder, open_encoder
from data_tools.tokenizers.sentence_piece import WORD_START
from veco.tokenizer import has_tokenizer, open_tokenizer


@dataclass(frozen=True)
class Pieces:
    """The pieces of a tokenizer directory: `names` by id, `""` for ids without one.

    `encoder` is the tokenizer as data are prepared with it, `tokenizer` transformers' own, which also knows tokens
    added later, such as language tags.
    """

    encoder: Encoder
    tokenizer: Any
    names: list[str]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The pieces of the tokenizer in a directory.

        Raises ValueError or OSError if there is none, it is not a fast one, or it lacks a special piece that masked
        language models need.
        """
        if not has_tokenizer(directory):  # transformers would look for one on the hub
            raise ValueError(f"{directory}: expected a directory with a tokenizer")
        encoder, tokenizer = open_encoder(directory), open_tokenizer(directory)
        check_as_in_transformers(encoder, tokenizer)
        vocabulary = tokenizer.get_vocab()
        names = [""] * max(encoder.vocab_size, *(id_ + 1 for id_ in vocabulary.values()))
        for name, id_ in vocabulary.items():
            names[id_] = name
        return cls(encoder, tokenizer, names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def directory(self) -> Path:
        return self.encoder.tokenizer_dir

    @cached_property
    def roles(self) -> dict[str, int]:
        """The ids of special pieces by what they do; no "unk" in a tokenizer that has pieces for any text."""
        special = self.encoder.special
        ids = {"bos": special.bos, "pad": special.pad, "eos": special.eos, "mask": special.mask}
        return ids if special.unk is None else {**ids, "unk": special.unk}

    @cached_property
    def named_roles(self) -> dict[str, int]:
        """`roles`, with the piece that is called the unknown one also where there are pieces for any text."""
        unknown = self.tokenizer.unk_token_id
        return self.roles if unknown is None else {"unk": int(unknown), **self.roles}

    @cached_property
    def ordinary(self) -> np.ndarray:
        """The ids that text becomes, except the unknown one; int64 (n,), ascending."""
        ids = np.arange(self.encoder.vocab_size)
        return ids[self.encoder.special.are_ordinary(ids)]

    @cached_property
    def specials(self) -> np.ndarray:
        """All other ids, int64 (n,), ascending."""
        return np.setdiff1d(np.arange(len(self)), self.ordinary)

    @cached_property
    def spellings(self) -> list[str]:
        """By id, an ordinary piece as SentencePiece spells it: `▁der` at the start of a word, `der` inside.

        The piece is `der` and `##der` in WordPiece, `Ġder` and `der` in byte-level BPE.
        """
        starts_word = self.encoder.table.starts_word
        marks = np.where(starts_word, WORD_START, "")
        spelt = [mark + spelling for mark, spelling in zip(marks, self.encoder.spellings, strict=True)]
        return spelt + [""] * (len(self) - len(spelt))


def fuzzy(spelling: str) -> str:
    """The spelling without its word-start mark, in lower case."""
    return spelling.replace(WORD_START, "").lower()


def problem_of_spelling(spelling: str) -> str | None:
    """Why a word is not a piece as SentencePiece spells them, or None if it is."""
    if not spelling.removeprefix(WORD_START) or WORD_START in spelling[1:] or any(map(str.isspace, spelling)):
        return f"{spelling!r} is not a piece: expected letters, after {WORD_START} if they start a word"
    return None


def special_matches(old: Pieces, new: Pieces) -> dict[int, int]:
    """The old id for each special piece of the new tokenizer that has its role, or else its name; roles are last."""
    named = {old.names[i]: i for i in old.specials.tolist() if old.names[i]}
    roles = {i: old.named_roles[role] for role, i in new.named_roles.items() if role in old.named_roles}
    matches = {i: named[new.names[i]] for i in new.specials.tolist() if new.names[i] in named and i not in roles}
    return matches | roles


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
