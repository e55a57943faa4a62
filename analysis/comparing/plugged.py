"""Sentences of a VECO plugged in: the mean of S, for which each of two translations attends to the other's H."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tqdm import tqdm

from analysis.parallel.texts import ParallelText
from analysis.states import plugged_in_states, stacked_rows
from finetune.understanding.retrieval.embeddings import Embedder, mean_of_tokens


def plugged_vectors(embedder: Embedder, x: Sequence[str], y: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The mean states S of x and of y, each float32 (layers, sentences, D), of sentences that translate each other."""
    shape = len(embedder.layers), len(x), int(embedder.model.config.hidden_size)
    vectors = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for numbers, stacked in stacked_rows(embedder, embedder.rows(x), embedder.rows(y)):
        means = mean_of_tokens(plugged_in_states(embedder, stacked), stacked["attention_mask"])
        for side, own in zip(vectors, means.chunk(2, dim=1), strict=True):
            side[:, numbers] = own.cpu().numpy()
    return vectors


def fill_plugged_vectors(
    embedder: Embedder,
    text: ParallelText,
    chosen: Iterable[bool],
    pair: tuple[str, str],
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Fill x and y (layers, sentences, D) with `plugged_vectors` of the chosen rows of two languages of a text."""
    places = [text.languages.index(language) for language in pair]
    first = 0
    with tqdm(total=x.shape[1], desc=f"plugging in {'-'.join(pair)}", unit=" pairs", disable=None) as progress:
        for block in text.blocks(chosen):
            rows = slice(first, first + len(block))
            sides = ([row[place] for row in block] for place in places)
            x[:, rows], y[:, rows] = plugged_vectors(embedder, *sides)
            first += len(block)
            progress.update(len(block))
