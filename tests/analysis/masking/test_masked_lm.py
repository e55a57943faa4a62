"""The answers of masked language models against transformers' own logits, one question at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import ENCODERS
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase
from xtreme_files import GERMAN

from analysis.masking.lines import MaskedText
from analysis.masking.masked_lm import MaskedLM, mask_of
from analysis.masking.questions import Question, drawn_words, each_piece
from analysis.masking.scores import Scorer
from finetune.encoders import open_encoder
from finetune.placement import Placement
from finetune.understanding.rows.encoding import text_encoder

WITH_HEAD = sorted(ENCODERS.keys() - {"electra", "distilbert"})
LINES = (" ".join([*GERMAN][:9]), "hund houses", "vielleicht", "dog " * 20, "")


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture(params=["veco", *WITH_HEAD])
def directory(request: pytest.FixtureRequest, tiny_model: Path, encoder_directory: Callable[[str], Path]) -> Path:
    return tiny_model if request.param == "veco" else encoder_directory(request.param)


def loaded(directory: Path, max_tokens: int = 90) -> MaskedLM:
    return MaskedLM.load(open_encoder(directory, "model"), max_tokens, Placement())


def text_of(directory: Path, path: Path, share: float = 0.4) -> MaskedText:
    return MaskedText(path, [text_encoder(open_encoder(directory, "model"))], [60], share, seed=1, most_lines=None)


@cache
def opened(directory: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    return open_encoder(directory, "model").tokenizer, AutoModelForMaskedLM.from_pretrained(directory).eval()


def by_hand(directory: Path, text: str, question: Question) -> Iterator[tuple[float, bool]]:
    """(−log p, is right) of each asked piece, from the logits of all positions of the tokenizer's own row."""
    tokenizer, model = opened(directory)
    encoded = tokenizer(text)
    row = torch.tensor([encoded["input_ids"]])
    places = [place for place, source in enumerate(encoded.sequence_ids(0)) if source == 0]
    pieces = row[0, places].tolist()
    row[0, torch.tensor(places)[torch.from_numpy(question.masked)]] = tokenizer.mask_token_id
    with torch.inference_mode():
        probabilities = model(row).logits[0].softmax(dim=-1)
    for number in np.flatnonzero(question.asked):
        own = probabilities[places[number]]
        yield -float(own[pieces[number]].log()), int(own.argmax()) == pieces[number]


def test_answers_equal_those_of_one_row_at_a_time(directory: Path, text_file: Path) -> None:
    lines = list(text_of(directory, text_file))
    questions = [(line.number, drawn_words(line, 0)) for line in lines if line.is_drawn.any()]
    for line in lines[:2]:
        questions += [(line.number, question) for question in each_piece(line, 0, with_rest_of_word=True)]
    answers = loaded(directory).answers([question for _, question in questions])
    expected = [answer for number, question in questions for answer in by_hand(directory, LINES[number], question)]
    assert len(expected) > 8
    assert answers.nats == pytest.approx([nats for nats, _ in expected], abs=1e-4)
    assert answers.is_right.tolist() == [is_right for _, is_right in expected]


def test_only_the_asked_positions_are_projected_to_the_vocabulary(directory: Path, text_file: Path) -> None:
    model = loaded(directory)
    seen = []
    hook = model.model.get_output_embeddings().register_forward_hook(lambda *given: seen.append(given[2].shape))
    questions = [drawn_words(line, 0) for line in text_of(directory, text_file)]
    model.answers(questions)
    hook.remove()
    assert all(len(shape) == 2 for shape in seen)
    assert sum(shape[0] for shape in seen) == sum(question.asked.sum() for question in questions)


def test_scores_follow_from_each_question(directory: Path, text_file: Path) -> None:
    lines = list(text_of(directory, text_file))
    scorer = Scorer(loaded(directory), 0, most_pseudo=3)
    scorer.add(lines[:1])
    scorer.add(lines[1:])
    found = scorer.score()
    drawn = [list(by_hand(directory, LINES[line.number], drawn_words(line, 0))) for line in lines]
    flat = [answer for own in drawn for answer in own]
    nats = sum(own for own, _ in flat)
    assert found.loss == pytest.approx(nats / len(flat), abs=1e-4)
    assert found.accuracy == pytest.approx(np.mean([is_right for _, is_right in flat]))
    characters = sum(line.characters[line.is_drawn].sum() for line in lines)
    assert found.bits_per_character == pytest.approx(nats / np.log(2) / characters, abs=1e-4)
    words: dict[tuple[int, int], bool] = {}
    for line, answers in zip(lines, drawn, strict=True):
        for unit, (_, is_right) in zip([one for one in line.units[0] if line.is_drawn[one]], answers, strict=True):
            words[line.number, unit] = words.get((line.number, unit), True) and is_right
    assert found.word_accuracy == pytest.approx(np.mean([*words.values()]))

    in_turn: list[float] = []
    left_to_right: list[float] = []
    for line in lines[:3]:
        pieces, units = line.pieces[0], line.units[0]
        for place in range(len(pieces)):
            if not line.is_asked[units[place]]:
                continue
            alone = np.arange(len(pieces)) == place
            rest = (np.arange(len(pieces)) >= place) & (units == units[place])
            in_turn += [nats for nats, _ in by_hand(directory, LINES[line.number], Question(pieces, alone, alone))]
            left_to_right += [nats for nats, _ in by_hand(directory, LINES[line.number], Question(pieces, rest, alone))]
    assert found.pseudo_perplexity == pytest.approx(np.exp(np.mean(in_turn)), rel=1e-4)
    characters = sum(line.characters[line.is_asked].sum() for line in lines[:3])
    assert found.pseudo_bits_per_character == pytest.approx(sum(left_to_right) / np.log(2) / characters, rel=1e-4)


@pytest.mark.parametrize("name", ["electra", "distilbert"])
def test_a_model_without_its_head_is_refused(name: str, encoder_directory: Callable[[str], Path]) -> None:
    with pytest.raises(
        ValueError, match="weights of a masked language model, .*; expected a model that was pre-trained"
    ):
        loaded(encoder_directory(name))
    assert mask_of(open_encoder(encoder_directory(name), "model")) > 0
