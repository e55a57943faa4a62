"""Views of words and of links between them, in batches made in other processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_options import SENTENCES

from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.sentence_piece import PieceEncoder
from pretrain.batches import PretrainingBatches
from pretrain.words.reading import read_lexicons
from training.loop import micro_batches

OPTIONS = dataclasses.replace(SENTENCES, objective="veco2")
LINKED = {
    "The dog sees the house.": [{"Hund", "dog"}, {"Haus", "house"}],
    "The house is big, the dog small!": [{"Haus", "house"}, {"groß", "big"}, {"Hund", "dog"}],
    "Dog and cat": [{"Hund", "Dog"}, {"und", "and"}, {"Katze", "cat"}],
    "The cat does not sleep.": [{"Katze", "cat"}],
}


def batches(data: Path, lexicon: Path, thesaurus: Path, objective: str = "veco2") -> PretrainingBatches:
    lexicons = read_lexicons(data, ["de-en"], str(lexicon), str(thesaurus))
    options = dataclasses.replace(OPTIONS, objective=objective)
    return PretrainingBatches(data, Manifest.load(data), options, 0, 1, 1, lexicons)


@pytest.mark.parametrize("workers", [0, 1])
def test_words_of_a_label_go_together(workers: int, word_data, lexicon, thesaurus, encoder: PieceEncoder) -> None:
    (batch,) = micro_batches(batches(word_data, lexicon, thesaurus), 1, 2, workers)
    seen = set()
    for row in range(8):
        ids, labels = (
            torch.cat([batch[f"numbered_{side}_{field}"][row] for side in "xy"]).numpy()
            for field in ("input_ids", "labels")
        )
        words = [encoder.decode(ids[labels == number]) for number in range(labels.max() + 1)]
        links, groups = (batch[f"links_{field}"][row].numpy() for field in ("input_ids", "labels"))
        num_words = int(batch["links_attention_mask"][row].sum()) - 1
        assert num_words == len(words) and groups[0] == -100
        assert links[1 : num_words + 1].tolist() == [ids[labels == number][0] for number in range(num_words)]
        found = [{words[i] for i in np.flatnonzero(groups[1:] == group)} for group in range(groups.max() + 1)]
        english = encoder.decode(batch["numbered_y_input_ids"][row].numpy())
        assert sorted(map(sorted, found)) == sorted(map(sorted, LINKED[english]))
        seen.add(english)
    assert len(seen) > 1


def test_joined_sentences_are_as_they_are(word_data, lexicon, thesaurus) -> None:
    batch = batches(word_data, lexicon, thesaurus, "hictl")[0]
    x, y, both = (batch[f"{view}_input_ids"] for view in ("clean_x", "clean_y", "clean_pair"))
    for row in range(8):
        x_row, y_row, joined = (ids[row][ids[row] != 1].tolist() for ids in (x, y, both))
        assert joined == [*x_row, 2, *y_row[1:]]
    assert batch["clean_pair_labels"].eq(-100).all()
