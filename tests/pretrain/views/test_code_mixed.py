"""Code-mixed sentences: what is replaced by what, how much of it, and that other masks do not change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from batch_options import SENTENCES as OPTIONS

from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.sentence_piece import PieceEncoder
from pretrain.batches import PretrainingBatches
from pretrain.views.code_mixed import mixture
from pretrain.views.pair import framed
from pretrain.words.lexicons import Lexicons
from pretrain.words.reading import read_lexicons

GERMAN, ENGLISH = "Der Hund und die Katze: Haus!", "The dog and the cat, the house."


@pytest.fixture(scope="module")
def lexicons(word_data: Path, lexicon: Path) -> Lexicons:
    return read_lexicons(word_data, ["de-en"], str(lexicon), None)


def mixed(
    lexicons: Lexicons, encoder: PieceEncoder, seed: int, host: int = 0, share: float = 1.0, anywhere: bool = False
) -> str:
    words = lexicons.words("de-en", *(framed(ids, encoder.special) for ids in encoder.encode_lines([GERMAN, ENGLISH])))
    return encoder.decode(mixture(words, host, share, anywhere, np.random.default_rng(seed)))


@pytest.mark.parametrize(
    ("host", "expected"),
    [(0, "Der dog and die cat: house!"), (1, "The Hund und the Katze, the Haus.")],
)
def test_every_word_that_the_other_sentence_translates_may_be_replaced(host, expected, lexicons, encoder) -> None:
    assert mixed(lexicons, encoder, 1, host) == expected


def test_translations_may_come_from_the_lexicon_alone(lexicons: Lexicons, encoder: PieceEncoder) -> None:
    found = {mixed(lexicons, encoder, seed, host=1, anywhere=True) for seed in range(30)}
    assert found == {f"The Hund und the {cat}, the Haus." for cat in ("Kater", "Katze")}


def test_words_that_the_tokenizer_cannot_write_replace_nothing(
    word_data: Path, encoder: PieceEncoder, tmp_path: Path
) -> None:
    (tmp_path / "de.txt").write_text("dog\t語\ncat\t!!\nhouse\tHaus\n")
    lexicons = read_lexicons(word_data, ["de-en"], f"en-de={tmp_path / 'de.txt'}", None)
    assert mixed(lexicons, encoder, 1, host=1, anywhere=True) == "The dog and the cat, the Haus."


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_so_many_words_are_replaced_on_average(share: float, lexicons: Lexicons, encoder: PieceEncoder) -> None:
    german = GERMAN.replace(":", "").replace("!", "").split()
    counts = []
    for seed in range(400):
        words = mixed(lexicons, encoder, seed, share=share).replace(":", "").replace("!", "").split()
        counts.append(sum(found != own for found, own in zip(words, german, strict=True)))
    assert np.mean(counts) == pytest.approx(share * len(german), abs=0.1)
    assert max(counts) - min(counts) <= 1


def test_mixture_is_no_longer_than_both_sentences(word_data: Path, encoder: PieceEncoder, tmp_path: Path) -> None:
    (tmp_path / "de.txt").write_text("dog\tHund-Hund-Hund-Hund-Hund-Hund\n")
    lexicons = read_lexicons(word_data, ["de-en"], str(tmp_path / "de.txt"), None)
    x, y = (framed(ids, encoder.special) for ids in encoder.encode_lines(["Katze", "dog dog dog dog"]))
    words = lexicons.words("de-en", x, y)
    found = mixture(words, 1, 1.0, True, np.random.default_rng(1))
    assert len(found) <= len(x) + len(y) and encoder.decode(found) == "dog dog dog dog"


def batches(data: Path, lexicons: Lexicons, objective: str, rank: int = 0, ranks: int = 1) -> PretrainingBatches:
    options = dataclasses.replace(OPTIONS, objective=objective)
    return PretrainingBatches(data, Manifest.load(data), options, rank, ranks, 1, lexicons)


def test_masks_of_other_views_stay_as_they_are(word_data: Path, lexicons: Lexicons) -> None:
    alone = batches(word_data, lexicons, "mlm")[3]
    together = batches(word_data, lexicons, "mlm + alm")[3]
    for name in ("input_ids", "labels", "pair_input_ids", "pair_labels"):
        assert torch.equal(alone[name], together[name])


def test_rows_are_masked_mixtures_the_same_on_any_number_of_ranks(word_data, lexicons, encoder) -> None:
    whole = batches(word_data, lexicons, "alm(share=1.0)")[2]
    parts = [batches(word_data, lexicons, "alm(share=1.0)", rank, 2)[2] for rank in range(2)]
    ids, labels = whole["code_mixed_input_ids"], whole["code_mixed_labels"]
    of_parts = [row[row != 1].tolist() for part in parts for row in part["code_mixed_input_ids"]]
    assert of_parts == [row[row != 1].tolist() for row in ids]
    texts = [encoder.decode(row) for row in torch.where(labels == -100, ids, labels)]
    assert set(texts) & {"Der dog sieht das house.", "The Hund sees the Haus."}
    assert ((labels != -100).sum(1) > 0).all()
