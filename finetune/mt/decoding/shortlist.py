"""Lexical shortlists: the pieces that a translation may consist of, given the pieces of its source.

The projection to the whole vocabulary and the softmax over it are a large part of the work of a small decoder. It is
enough to consider the likely translations of the source's pieces and the most frequent pieces (Jean et al. 2015, "On
Using Very Large Target Vocabulary for Neural Machine Translation", section 3.2; Marian's `--shortlist`). Likely
translations come from IBM model 1 (Brown et al. 1993, "The Mathematics of Statistical Machine Translation"), with each
piece counted once per sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from finetune.encoded_text import Sentences

ITERATIONS = 4  # of expectation maximisation; more hardly change the most likely translations
CHUNK_SENTENCES = 1000  # sentences whose expectations are in memory at once


@dataclass(frozen=True)
class Shortlist:
    """Target ids that are always considered, and those for each source id, most likely first."""

    frequent: Sequence[int]
    translations: Mapping[int, Sequence[int]]

    def of(self, source: Sequence[int]) -> set[int]:
        """The ids that a translation of a source may consist of."""
        return set(self.frequent).union(*(self.translations.get(int(i), ()) for i in source))


def make_shortlist(
    source: Sentences, target: Sentences, vocab_size: int, num_frequent: int, num_translations: int
) -> Shortlist:
    """A shortlist from a parallel text: `num_frequent` ids, and `num_translations` for each source id.

    Sentence i of `target` translates sentence i of `source`; a sample of a real corpus is enough, say 50,000 pairs.
    """
    source_NV, target_NV = pieces_of(source, vocab_size), pieces_of(target, vocab_size)
    counts_V = target_NV.sum(axis=0)
    frequent = np.argsort(-counts_V, kind="stable")[:num_frequent]
    table_VV = lexical_table(source_NV, target_NV)
    translations = {
        piece: table_VV.indices[start:end][np.argsort(-table_VV.data[start:end], kind="stable")[:num_translations]]
        for piece, (start, end) in enumerate(zip(table_VV.indptr, table_VV.indptr[1:], strict=False))
        if start < end
    }
    return Shortlist(
        frequent[counts_V[frequent] > 0].tolist(), {piece: ids.tolist() for piece, ids in translations.items()}
    )


def pieces_of(sentences: Sentences, vocab_size: int) -> csr_array:
    """float32 (sentences, vocabulary): 1 if a piece occurs in a sentence."""
    ones = np.ones(len(sentences.tokens), dtype=np.float32)
    shape = (len(sentences), vocab_size)
    found = csr_array((ones, sentences.tokens, sentences.offsets), shape=shape, copy=True)
    found.sum_duplicates()  # sorts in place: without the copy above it would reorder the sentences' pieces
    found.data[:] = 1
    return found


def lexical_table(source_NV: csr_array, target_NV: csr_array, iterations: int = ITERATIONS) -> csr_array:
    """float32 (vocabulary, vocabulary): p(target piece | source piece) of IBM model 1; rows without counts are empty.

    Every target piece t is distributed over the source pieces of its sentence: s gets p(t | s) / sum over s' of
    p(t | s'), and the new p(t | s) is proportional to the sum of these shares over all sentences.
    """
    table_VV = with_sums_of_one(source_NV.T @ target_NV)
    for _ in range(iterations):
        shares_VV = csr_array(table_VV.shape, dtype=np.float32)
        for start in range(0, source_NV.shape[0], CHUNK_SENTENCES):
            source_CV, target_CV = (side[start : start + CHUNK_SENTENCES] for side in (source_NV, target_NV))
            sums_CV = csr_array((source_CV @ table_VV).multiply(target_CV))
            sums_CV.data = 1 / sums_CV.data
            shares_VV = shares_VV + source_CV.T @ sums_CV
        table_VV = with_sums_of_one(csr_array(table_VV.multiply(shares_VV)))
    return table_VV


def with_sums_of_one(counts_VV: csr_array) -> csr_array:
    """The counts, divided in place by the sums of their rows."""
    counts_VV = csr_array(counts_VV)
    counts_VV.data /= np.repeat(counts_VV.sum(axis=1), np.diff(counts_VV.indptr))
    return counts_VV
