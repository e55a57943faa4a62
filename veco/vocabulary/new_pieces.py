"""Pieces that another tokenizer has and a model's lacks, to extend it by.

E-MBERT (Wang et al., 2020) takes all of them, VA (Chau et al., 2020) the few that are most useful for a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from veco.vocabulary.extending import Vocabulary
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.text import batches_of_lines


def lacking_pieces(old: Pieces, other: Pieces, vocabulary: Vocabulary) -> dict[str, int]:
    """The pieces of `other` that `old` lacks, as SentencePiece spells them, and their ids in `other`.

    Those that cannot occur in text as `old` normalises it, which `vocabulary` knows, are left out.
    """
    known, names = {old.spellings[i] for i in old.ordinary.tolist()}, set(old.names)
    found: dict[str, int] = {}
    for i in other.ordinary.tolist():
        spelling = other.spellings[i]
        is_new = spelling not in known and vocabulary.name_of(spelling) not in names
        if spelling and is_new and vocabulary.problem_of(spelling) is None:
            found.setdefault(spelling, i)
    return found


def most_useful(
    candidates: Mapping[str, int],
    num_pieces: int,
    old: Pieces,
    other: Pieces,
    vocabulary: Vocabulary,
    text: Sequence[Path],
) -> dict[str, int]:
    """The `num_pieces` of the candidates (from `lacking_pieces`) that text files need most, the best first.

    Most useful is a piece that occurs in the most words with an unknown piece, counted where `other` cuts them; of
    equally useful ones the piece that saves the most others: its occurrences times the pieces, less one, into which it
    is split now. Pieces that never occur are not chosen.
    """
    in_unknown, occurrences = piece_counts(old, other, text)
    parts = vocabulary.parts_of(candidates)
    saved = {piece: int(occurrences[i]) * (len(parts[piece]) - 1) for piece, i in candidates.items()}
    occurring = [piece for piece, i in candidates.items() if occurrences[i]]
    best = sorted(occurring, key=lambda piece: (-int(in_unknown[candidates[piece]]), -saved[piece], piece))
    return {piece: candidates[piece] for piece in best[:num_pieces]}


def piece_counts(old: Pieces, other: Pieces, text: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Occurrences of the ids of `other` in words that `old` does not know whole, and in all words; int64 (V,) each."""
    in_unknown, occurrences = np.zeros((2, len(other)), np.int64)
    for lines in batches_of_lines(text, "choosing pieces"):
        times = Counter(word for line in lines for word in line.split())
        words, num_times = list(times), np.fromiter(times.values(), np.int64, len(times))
        (old_ids, old_lengths), (ids, lengths) = (each.encoder.encode_words(words) for each in (old, other))
        is_unknown = np.zeros(len(words), bool)
        is_unknown[np.repeat(np.arange(len(words)), old_lengths)[old.encoder.special.are_unknown(old_ids)]] = True
        word_of = np.repeat(np.arange(len(words)), lengths)
        np.add.at(occurrences, ids, num_times[word_of])
        np.add.at(in_unknown, ids, (num_times * is_unknown)[word_of])
    return in_unknown, occurrences
