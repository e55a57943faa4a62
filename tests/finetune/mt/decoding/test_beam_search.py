"""Beam search of a tiny random model, against transformers' generate() and against numbers worked by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_translation import sentences
from transformers import LogitsProcessor, LogitsProcessorList

from finetune.mt.decoding.beam_search import Found, SearchOptions, forbid_repeats
from finetune.mt.decoding.generators import PairBatch, SourceBatch, TorchGenerator
from finetune.mt.decoding.translator import Translator

# Beam search with a cache and one forward pass add the same float32 numbers in another order.
SCORE_TOLERANCE = 1e-4
EOS = 2


def translator(model_dir: Path, dtype: torch.dtype = torch.float32, **options: float) -> Translator:
    return Translator.load(model_dir, replace(SearchOptions(), **options), dtype)


def generator_of(translator: Translator) -> TorchGenerator:
    assert isinstance(translator.generator, TorchGenerator)
    return translator.generator


def search(generator: TorchGenerator, sources: list[list[int]], limits: list[int]) -> list[list[Found]]:
    (found,) = generator.search([SourceBatch(sources, limits)], with_scores=True)
    return found


class Rules(LogitsProcessor):
    """The rules of the search for transformers: forbidden ids, a shortest translation, and `</s>` at one limit."""

    def __init__(self, forbidden: list[int], min_len: int, limit: int) -> None:
        self.forbidden, self.min_len, self.limit = forbidden, min_len, limit

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        num_pieces, ended = input_ids.shape[1] - 1, scores[:, EOS].clone()
        scores = scores.clone()
        scores[:, self.forbidden] = -math.inf
        if num_pieces < self.min_len:
            scores[:, EOS] = -math.inf
        if num_pieces == self.limit:
            scores[:] = -math.inf
            scores[:, EOS] = ended
        return scores


@pytest.mark.parametrize(
    ("beam", "lenpen", "ngram", "min_len"), [(1, 1.0, 0, 1), (4, 1.0, 0, 1), (5, 0.6, 2, 3), (3, 1.8, 1, 1)]
)
def test_finds_what_transformers_finds(model_dir: Path, beam: int, lenpen: float, ngram: int, min_len: int) -> None:
    """The best hypothesis and its score; in float64, in which no two of them are tied.

    At the last step, transformers finalizes more hypotheses than the beam size: see test_converted.py.
    """
    options = {"beam": beam, "lenpen": lenpen, "no_repeat_ngram": ngram, "min_len": min_len}
    ours = translator(model_dir, torch.float64, max_len_a=0, max_len_b=9, **options)
    generator = generator_of(ours)
    sources = ours.source_ids(sentences(6, 2))
    found = search(generator, sources, [9] * 6)
    input_ids, mask = generator._padded(sources)
    theirs = generator.model.generate(
        input_ids,
        attention_mask=mask.long(),
        num_beams=beam,
        do_sample=False,
        max_new_tokens=10,
        no_repeat_ngram_size=ngram or None,
        eos_token_id=EOS,
        pad_token_id=1,
        logits_processor=LogitsProcessorList([Rules(generator.target.forbidden, min_len, 9)]),
        return_dict_in_generate=True,
        output_scores=True,
        **({"length_penalty": lenpen, "early_stopping": True} if beam > 1 else {}),
    )
    rows = iter(theirs.sequences[:, 1:].tolist())
    for number, one in enumerate(itertools.chain.from_iterable(found)):
        row = next(rows)
        assert one.ids == row[: row.index(EOS) + 1]
        if beam > 1:
            assert one.score(lenpen) == pytest.approx(float(theirs.sequences_scores[number]), abs=1e-6)  # float32 sums
    assert number == 5


@pytest.mark.parametrize(("beam", "lenpen"), [(1, 1.0), (2, 1.0), (5, 0.6), (9, 1.5)])
def test_beam_score_is_the_rescored_one(model_dir: Path, beam: int, lenpen: float) -> None:
    ours = translator(model_dir, beam=beam, lenpen=lenpen, nbest=min(beam, 2))
    generator = generator_of(ours)
    sources = ours.source_ids(sentences(6, 2))
    found = search(generator, sources, [12, 30, 4, 8, 1, 20])
    pairs = [(source, one) for source, hypotheses in zip(sources, found, strict=True) for one in hypotheses]
    (rescored,) = generator.score([PairBatch([source for source, _ in pairs], [one.ids for _, one in pairs])])
    for (_, one), log_probs in zip(pairs, rescored, strict=True):
        assert one.log_probs == pytest.approx(log_probs, abs=SCORE_TOLERANCE)
        assert one.score(lenpen) == pytest.approx(sum(log_probs) / len(one.ids) ** lenpen, abs=SCORE_TOLERANCE)


def test_score_by_hand() -> None:
    found = Found([7, 8, 9, EOS], [-1.0, -2.0, -3.0, -2.0])
    assert [found.score(lenpen) for lenpen in (1.0, 0.5, 0.0)] == [-2.0, -4.0, -8.0]
    assert Found([7, EOS], []).score(1.0) == 0.0


def test_best_hypothesis_depends_on_lenpen_as_worked_by_hand(model_dir: Path) -> None:
    """Sums -2.0 over two pieces and -3.2 over four: -1.0 against -0.8 with lenpen 1, -2.0 against -3.2 with 0."""
    short, long = Found([7, EOS], [-1.5, -0.5]), Found([7, 8, 9, EOS], [-1.0, -1.0, -0.7, -0.5])
    assert long.score(1.0) > short.score(1.0) and long.score(0.0) < short.score(0.0)
    # They are level where 2.0 / 2 ** p = 3.2 / 4 ** p: 2 ** p = 1.6.
    assert short.score(math.log2(1.6)) == pytest.approx(long.score(math.log2(1.6)))
    lines = sentences(20, 3)
    lengths = [
        sum(len(hypotheses[0].ids) for hypotheses in translator(model_dir, lenpen=lenpen).translate(lines, False))
        for lenpen in (0.0, 1.0, 3.0)
    ]
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]


@pytest.mark.parametrize("beam", [1, 4])
def test_batch_is_single(model_dir: Path, beam: int) -> None:
    """Sentences of other lengths and limits in the batch, which end earlier or later, change nothing."""
    # float64: a random model has beams that differ by 1e-6 only, which the noise of float32 between shapes would swap.
    ours = translator(model_dir, torch.float64, beam=beam, nbest=beam)
    generator = generator_of(ours)
    sources = ours.source_ids(sentences(15, 4))
    limits = [3 + (7 * i) % 16 for i in range(15)]
    together = search(generator, sources, limits)
    for source, limit, hypotheses in zip(sources, limits, together, strict=True):
        (alone,) = search(generator, [source], [limit])
        assert [one.ids for one in hypotheses] == [one.ids for one in alone]
        for one, other in zip(hypotheses, alone, strict=True):
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-9)
    assert len({tuple(hypotheses[0].ids) for hypotheses in together}) > 5  # the model does tell sentences apart


def test_beam_one_is_greedy(model_dir: Path) -> None:
    ours = translator(model_dir, beam=1)
    generator = generator_of(ours)
    for source in ours.source_ids(sentences(5, 5)):
        ((found,),) = search(generator, [source], [8])
        ids = [generator.target.start]
        while ids[-1] != EOS:
            with torch.no_grad():
                inputs = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([ids])}
                logits = generator.model(**inputs).logits[0, -1]
            logits[generator.target.forbidden] = -math.inf
            if len(ids) == 1:
                logits[EOS] = -math.inf
            ids.append(EOS if len(ids) - 1 == 8 else int(logits.argmax()))
        assert found.ids == ids[1:]


def test_limits(model_dir: Path) -> None:
    options = {"max_len_a": 0.5, "max_len_b": 2, "nbest": 3, "lenpen": 3.0, "no_repeat_ngram": 2, "min_len": 2}
    ours = translator(model_dir, **options)
    lines = sentences(10, 6)
    special = set(ours.tokenizer.all_special_ids) - {EOS, ours.tokenizer.unk_token_id}
    at_limit = 0
    for source, hypotheses in zip(ours.source_ids(lines), ours.translate(lines), strict=True):
        assert len({tuple(hypothesis.ids) for hypothesis in hypotheses}) == 3
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for hypothesis in hypotheses:
            pieces = hypothesis.ids[:-1]
            limit = int(0.5 * len(source) + 2)  # <s> and </s> count, too
            at_limit += len(pieces) == limit
            assert 2 <= len(pieces) <= limit
            assert not special & set(pieces) and hypothesis.ids[-1] == EOS
            bigrams = list(itertools.pairwise(pieces))
            assert len(bigrams) == len(set(bigrams))
    assert at_limit  # the limit was put to the test


def test_penalty_of_unknown_pieces(model_dir: Path) -> None:
    """It is part of the score, as in fairseq; a bonus yields more of them, a penalty fewer."""
    lines = sentences(10, 6)
    counts, scores = [], []
    for penalty in (-30.0, -9.0, -8.0, -7.0, 0.0, 30.0):
        ours = translator(model_dir, unkpen=penalty, max_len_a=0, max_len_b=5)
        unknown = ours.tokenizer.unk_token_id
        found = [hypotheses[0] for hypotheses in ours.translate(lines)]
        counts.append(sum(hypothesis.ids.count(unknown) for hypothesis in found))
        scores.append(found[0].positional_scores[0])
    assert counts == sorted(counts, reverse=True) and counts[0] == 50 and counts[-1] == 0, counts
    assert len(set(counts)) > 2
    # Whole translations of nothing else, whose first piece is better by 30 nats than the model thinks.
    plain = translator(model_dir).score(lines[:1], ["<unk>"])[0][0]
    assert scores[0] == pytest.approx(plain.positional_scores[0] + 30 / math.log(2), abs=SCORE_TOLERANCE)


def test_forbidden_repeats_by_hand() -> None:
    ids = torch.tensor([[[9, 1, 2, 3, 1, 2], [9, 5, 5, 5, 6, 5]], [[9, 1, 2, 1, 3, 4], [9, 4, 4, 4, 4, 4]]])

    def forbidden(n: int) -> list[list[set[int]]]:
        scores = torch.zeros(2, 2, 10)
        forbid_repeats(scores, ids, n)
        return [[set(beam.isinf().nonzero().flatten().tolist()) for beam in sentence] for sentence in scores]

    assert forbidden(1) == [[{9, 1, 2, 3}, {9, 5, 6}], [{9, 1, 2, 3, 4}, {9, 4}]]
    assert forbidden(2) == [[{3}, {5, 6}], [set(), {4}]]
    assert forbidden(3) == [[{3}, set()], [set(), {4}]]
    assert forbidden(7) == [[set(), set()], [set(), set()]]


def test_options_report_all_mistakes() -> None:
    with pytest.raises(ValueError, match=r"beam must be at least 1, found 0; nbest must be .* max_len_b must be"):
        SearchOptions(beam=0, max_len_b=0)
    with pytest.raises(ValueError, match="unkpen must be finite, found inf"):
        SearchOptions(unkpen=math.inf)
    for lenpen in (math.nan, math.inf, 11.0, -1e9):
        with pytest.raises(ValueError, match=f"lenpen must be between -10 and 10, found {lenpen}"):
            SearchOptions(lenpen=lenpen)
    with pytest.raises(ValueError, match="max_len_b must be at least min_len, found 3 with min_len 4"):
        SearchOptions(min_len=4, max_len_b=3)
