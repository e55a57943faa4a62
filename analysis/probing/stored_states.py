"""The states of the words of many sentences, by layer, in files that disappear with the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from analysis.scratch import unnamed_map
from analysis.states import Words, states_of_sentences
from finetune.understanding.retrieval.embeddings import Embedder


@dataclass(frozen=True)
class StoredStates:
    """States by layer, float32 (words, D), of sentences whose words are [offsets[i], offsets[i + 1]).

    A sentence that was too long for the encoder is not `complete`, and the states of its last words are zeros.
    """

    by_layer: dict[int, np.ndarray]
    offsets: np.ndarray
    complete: np.ndarray  # bool (sentences,)

    @classmethod
    def of(cls, embedder: Embedder, sentences: Sequence[Words], scratch: Path, name: str) -> StoredStates:
        """The states of all the embedder's layers, computed in one pass and mapped from unnamed files in `scratch`.

        They take 4 bytes x words x D x layers of its disk. `name` labels the progress bar.
        """
        offsets = np.cumsum([0, *map(len, sentences)])
        width = int(embedder.model.config.hidden_size)
        by_layer = {layer: unnamed_map((int(offsets[-1]), width), scratch) for layer in embedder.layers}
        complete = np.zeros(len(sentences), dtype=bool)
        with tqdm(total=len(sentences), desc=name, unit=" sentences", disable=None, leave=False) as progress:
            for numbers, units in states_of_sentences(embedder, sentences):
                counts = units.is_unit.sum(dim=1).cpu().numpy()
                complete[numbers] = counts == np.diff(offsets)[numbers]
                within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
                places = np.repeat(offsets[numbers], counts) + within
                for layer, states_BWD in zip(embedder.layers, units.states, strict=True):
                    by_layer[layer][places] = states_BWD[units.is_unit].cpu().numpy()
                progress.update(len(numbers))
        return cls(by_layer, offsets, complete)

    def batch(self, layer: int, sentences: np.ndarray) -> Tensor:
        """The states (B, W, D) of a layer, zeros behind the words of a sentence."""
        counts = self.offsets[sentences + 1] - self.offsets[sentences]
        is_word = np.arange(counts.max()) < counts[:, None]
        places = (self.offsets[sentences][:, None] + np.arange(counts.max()))[is_word]
        states = np.zeros((*is_word.shape, self.by_layer[layer].shape[1]), dtype=np.float32)
        states[is_word] = self.by_layer[layer][places]
        return torch.from_numpy(states)
