"""BLEU in parts, against sacreBLEU on the whole."""

from __future__ import annotations

from random import Random

import pytest
import torch
from sacrebleu.metrics import BLEU

from finetune.mt.validation import bleu_counts, bleu_of

WORDS = ["the", "a", "cat", "dog", "runs", "sleeps", ",", ".", "in", "on", "house"]


def corpus(seed: int) -> tuple[list[str], list[str]]:
    random = Random(seed)
    references = [" ".join(random.choices(WORDS, k=random.randint(1, 12))) for _ in range(30)]
    systems = [
        " ".join(word if random.random() < 0.8 else random.choice(WORDS) for word in line.split())
        for line in references
    ]
    return systems, references


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 40])
def test_the_parts_of_ranks_add_up(num_ranks: int) -> None:
    systems, references = corpus(1)
    shares = [slice(rank, None, num_ranks) for rank in range(num_ranks)]
    total = torch.stack([bleu_counts(systems[share], references[share], "en") for share in shares]).sum(dim=0)
    assert bleu_of(total) == pytest.approx(BLEU().corpus_score(systems, [references]).score, abs=1e-9)


def test_languages_without_spaces_are_cut_into_characters() -> None:
    assert bleu_of(bleu_counts(["我喜欢猫和狗"], ["我喜欢猫和鸟"], "zh")) > 50
    assert bleu_of(bleu_counts(["我喜欢猫和狗"], ["我喜欢猫和鸟"], "en")) == 0.0
    assert bleu_of(bleu_counts(["猫が好きです。"], ["猫が好きだ。"], "ja")) > 40
    for code in ("zho_Hans", "cmn", "ZH"):
        assert torch.equal(*(bleu_counts(["我喜欢猫和狗"], ["我喜欢猫和鸟"], language) for language in (code, "zh"))), (
            code
        )
