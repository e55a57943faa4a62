"""Lexical shortlists: which pieces a translation may consist of, given the pieces of its source.

The product with the embeddings of a whole vocabulary, and the softmax over it, are much of the work of a small decoder.
It is enough to look at the likely translations of the source's pieces and at the most frequent pieces (Jean et al.
2015, "On Using Very Large Target Vocabulary for Neural Machine Translation", section 3.2; Marian's `--shortlist`). What
is likely, IBM model 1 says (Brown et al. 1993, "The Mathematics of Statistical Machine Translation"), here with each
piece counted once in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from finetune.encoded_text import Sentences

ITERATIONS = 4  # of expectation maximisation; later ones hardly change which translations are the likeliest
CHUNK_SENTENCES = 1000  # whose expectations are in memory at once


@dataclass(frozen=True)
class Shortlist:
    """Ids of the target that are always looked at, and those for each id of the source, likeliest first."""

    frequent: Sequence[int]
    translations: Mapping[int, Sequence[int]]

    def of(self, source: Sequence[int]) -> set[int]:
        """The ids that a translation of these ids may consist of."""
        return set(self.frequent).union(*(self.translations.get(int(i), ()) for i in source))


def make_shortlist(
    source: Sentences, target: Sentences, vocab_size: int, num_frequent: int, num_translations: int
) -> Shortlist:
    """The shortlist of translated sentences: `num_frequent` ids, and for each id of the source `num_translations`.

    Sentence i of `target` translates sentence i of `source`; a real corpus may be sampled, 50,000 pairs will do.
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
    """float32 (sentences, vocabulary): 1 where a piece is in a sentence."""
    ones = np.ones(len(sentences.tokens), dtype=np.float32)
    shape = (len(sentences), vocab_size)
    found = csr_array((ones, sentences.tokens, sentences.offsets), shape=shape, copy=True)
    found.sum_duplicates()  # it sorts, and without the copy would sort the sentences
    found.data[:] = 1
    return found


def lexical_table(source_NV: csr_array, target_NV: csr_array, iterations: int = ITERATIONS) -> csr_array:
    """float32 (vocabulary, vocabulary): t(target piece | source piece) of IBM model 1; rows without counts are empty.

    Every piece t of a sentence's target is shared out among the pieces of its source: s has t(t | s) / sum over s' of
    t(t | s'), and the new t(t | s) is proportional to the sum of these shares over all sentences.
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
    """The counts, in place, divided by the sums of their rows."""
    counts_VV = csr_array(counts_VV)
    counts_VV.data /= np.repeat(counts_VV.sum(axis=1), np.diff(counts_VV.indptr))
    return counts_VV
