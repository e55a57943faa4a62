"""Metrics by hand in several scripts, and against second implementations on random predictions for all nine tasks."""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pytest

from finetune.understanding.metrics.answers import token_f1
from finetune.understanding.metrics.normalisation import mlqa_tokens, squad_tokens
from finetune.understanding.metrics.scoring import AVERAGE, average, gold_of, score, task_score
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.examples import Answer, Question
from finetune.understanding.tasks.task import Task

TASKS = catalogue_named(XTREME).tasks

# Words with articles, punctuation, marks and scripts that the rules treat in some way.
WORDS = [
    *("the", "a", "an", "The", "Theme", "un", "una", "el", "los", "der", "die", "das", "einem", "của", "những", "là"),
    *("ال", "البيت", "بيت،", "«بيت»", "北京", "北京。", "是的", "2008年", "U.S.A.", "it's", "50%", "¿qué?", "Straße"),
    *("İstanbul", "กรุงเทพ", "ๆ", "दिल्ली,", "है।", "—", "…", "$5", "a_b", "ein-Haus"),
]


def random_answer(draw: random.Random) -> str:
    return draw.choice([" ", "", "\u00a0"]).join(draw.choices(WORDS, k=draw.randint(0, 5)))


# By hand: SQuAD's rules, for XQuAD and TyDiQA.
@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ("The Theme, of a U.S. song!", ["theme", "of", "us", "song"]),
        ("กรุงเทพ มหานคร", ["กรุงเทพ", "มหานคร"]),  # Thai: what spaces part
        ("北京，中国", ["北京，中国"]),  # a full-width comma is not ASCII
        ("البيت،", ["البيت،"]),  # nor is the Arabic one
    ],
)
def test_squad_tokens(answer: str, tokens: list[str]) -> None:
    assert squad_tokens(answer) == tokens


# By hand: MLQA's rules for its own languages.
@pytest.mark.parametrize(
    ("language", "answer", "tokens"),
    [
        ("en", "The U.S., a land", ["us", "land"]),
        ("de", "Einem der Häuser – das", ["häuser"]),
        ("es", "¿La casa de los Gómez?", ["casa", "de", "gómez"]),
        ("vi", "Những ngôi nhà của tôi", ["ngôi", "nhà", "tôi"]),
        ("hi", "दिल्ली, है।", ["दिल्ली", "है"]),
        # The article goes, and within a word the two letters part it: سالم is seen as س and م.
        ("ar", "البيت الكبير، سالم", ["بيت", "كبير", "س", "م"]),
        ("zh", "2008年，北京 Olympic games", ["2008", "年", "北", "京", "olympic", "games"]),
        ("zh", "the 北a京", ["the", "北", "a", "京"]),  # no articles in Chinese
    ],
)
def test_mlqa_tokens(language: str, answer: str, tokens: list[str]) -> None:
    assert mlqa_tokens(answer, language) == tokens


def test_mlqa_refuses_other_languages() -> None:
    with pytest.raises(ValueError, match="MLQA has no rules for 'th', only for ar, de, en, es, hi, vi, zh"):
        mlqa_tokens("a", "th")


def test_scores_of_answers_worked_by_hand() -> None:
    """Four questions: right but for case and article; half right; not answered; the second accepted answer is right."""
    gold = {"1": ["The Nile"], "2": ["北京 大学"], "3": ["x"], "4": ["no", "مصر"]}
    predicted = {"1": "nile", "2": "北京", "4": "مصر!", "9": "of another file"}
    # 2: precision 1, recall 1/2, F1 2/3.
    found = score(TASKS["xquad"], gold, predicted, "zh")
    assert found == pytest.approx({"exact_match": 50, "f1": 100 * (1 + 2 / 3 + 0 + 1) / 4})
    # MLQA cuts Chinese into characters: 2 of 2 predicted, 2 of 4 accepted, and again F1 2/3, of other numbers.
    chinese = score(TASKS["mlqa"], {"2": ["北京大学"]}, {"2": "北京"}, "zh")
    assert chinese == pytest.approx({"exact_match": 0, "f1": 100 * 2 / 3})
    # As one token of SQuAD's rules it is simply wrong.
    assert score(TASKS["xquad"], {"2": ["北京大学"]}, {"2": "北京"}, "zh") == {"exact_match": 0.0, "f1": 0.0}
    asked = [Question(id, "?", "x", answers, "en") for id, answers in (("1", ()), ("2", (Answer("x", 0),)), ("3", ()))]
    with pytest.raises(ValueError, match="2 of 3 questions have no accepted answer, such as 1; expected one for each"):
        gold_of(TASKS["mlqa"], asked)


def test_an_empty_answer_is_never_half_right() -> None:
    assert token_f1([], ["a"]) == token_f1(["a"], []) == token_f1([], []) == 0


def test_scores_of_entities_worked_by_hand() -> None:
    """2 of 3 predicted chunks are right, of 4 gold: P 2/3, R 1/2, F1 4/7."""
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "B-ORG", "O"]]
    predicted = [["B-PER", "I-PER", "O", "I-LOC"], ["B-ORG", "I-ORG", "O"]]  # I- alone starts a chunk, too
    found = score(TASKS["panx"], gold, predicted, "en")
    assert found == pytest.approx({"f1": 400 / 7, "precision": 200 / 3, "recall": 50})


def test_scores_of_parts_of_speech_worked_by_hand() -> None:
    """seqeval on tags without prefix: runs are chunks, of the type that follows the first letter."""
    udpos = TASKS["udpos"]
    # Gold chunks: DET, NOUN NOUN, VERB. Predicted: DET, NOUN, VERB VERB. One of three is right on both sides.
    found = score(udpos, [["DET", "NOUN", "NOUN", "VERB"]], [["DET", "NOUN", "VERB", "VERB"]], "en")
    assert found == pytest.approx({"f1": 100 / 3, "precision": 100 / 3, "recall": 100 / 3})
    # C-CONJ and S-CONJ are the same to it.
    assert score(udpos, [["CCONJ", "NOUN"]], [["SCONJ", "NOUN"]], "en")["f1"] == 100
    # A chunk does not reach over the end of a sentence.
    assert score(udpos, [["NOUN"], ["NOUN"]], [["NOUN"], ["VERB"]], "en")["f1"] == pytest.approx(50)


def test_scores_of_pairs_worked_by_hand() -> None:
    gold = {("d1", "e1"), ("d2", "e2"), ("d3", "e3")}
    found = score(TASKS["bucc2018"], gold, {("d1", "e1"), ("d2", "e9")}, "de")
    assert found == pytest.approx({"f1": 40, "precision": 50, "recall": 100 / 3})
    assert score(TASKS["bucc2018"], gold, set(), "de") == {"f1": 0, "precision": 0, "recall": 0}
    with pytest.raises(ValueError, match="no pair is correct, but 1 are with their columns swapped"):
        score(TASKS["bucc2018"], gold, {(english, german) for german, english in list(gold)[:1]}, "de")


UNEQUAL: list[tuple[str, Any, Any, str]] = [
    ("xnli", ["neutral"] * 3, ["neutral"] * 2, "2 predicted rows but 3 labels"),
    ("tatoeba", ["0"], ["0", "1"], "2 predicted rows but 1 labels"),
    ("panx", [["O"], ["O"]], [["O"]], "1 predicted sentences but 2 with labels"),
    ("udpos", [["X"], ["X", "X"]], [["X"], ["X"]], "sentence 2: 1 predicted tags but 2 words"),
]


@pytest.mark.parametrize(("name", "gold", "predicted", "message"), UNEQUAL)
def test_unequal_rows_are_refused(name: str, gold: Any, predicted: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(TASKS[name], gold, predicted, "en")


# Second implementations, each by another way than the first. They say what XTREME's script would.


def oracle_accuracy(gold: list[str], predicted: list[str]) -> dict[str, float]:
    return {"accuracy": float(np.mean(np.array(gold) == np.array(predicted)) * 100)}


def f1_of_sets(gold: set[Any], predicted: set[Any]) -> dict[str, float]:
    right, wrong, lost = len(gold & predicted), len(predicted - gold), len(gold - predicted)
    return {
        "f1": 100 * 2 * right / max(2 * right + wrong + lost, 1),
        "precision": 100 * right / max(right + wrong, 1),
        "recall": 100 * right / max(right + lost, 1),
    }


def entities(sentences: list[list[str]]) -> set[Any]:
    """Chunks as matches in text: B or I of a type, then all I of that type that follow. A tag is five letters wide."""
    pattern = re.compile(r"[BI]-(\w+)(?: I-\1)*")
    lines = [" ".join(tag.ljust(5, "~") for tag in tags) for tags in sentences]
    return {(i, match.span(), match[1]) for i, line in enumerate(lines) for match in pattern.finditer(line)}


def runs(sentences: list[list[str]]) -> set[Any]:
    """What seqeval makes of tags without prefix, from its rules alone: where a chunk ends, and where the last began.

    The type is the tag without its first letter, or _. Sentences are joined with O, whose type is _, too. A chunk ends
    before a word if the type changes or the tag before begins with S, and not after O; one begins at a word if the type
    changes or its tag begins with S, and not at O. (So X at the end of a sentence is none.)
    """
    tags = np.array(["O", *(tag for sentence in sentences for tag in [*sentence, "O"])])
    types = np.array(["", *(tag[1:] or "_" for tag in tags[1:])])
    starts_with_s, is_o = np.char.startswith(tags, "S"), tags == "O"
    changes = types[1:] != types[:-1]
    begins = np.where(starts_with_s[1:] | changes & ~is_o[1:], np.arange(len(changes)), 0)
    ends = starts_with_s[:-1] | changes & ~is_o[:-1]
    first = np.maximum.accumulate(begins)
    return {(int(first[i - 1]), i, str(types[i])) for i in np.flatnonzero(ends)}


def oracle_answers(
    task: Task, gold: dict[str, list[str]], predicted: dict[str, str], language: str
) -> dict[str, float]:
    """The rules one after the other, as text: lower case, punctuation, articles, spaces."""
    articles = {
        "en": "a an the",
        "es": "un una unos unas el la los las",
        "de": "ein eine einen einem eines einer der die das den dem des",
        "vi": "của là cái chiếc những",
    }

    def normal(text: str) -> list[str]:
        own = task.name == "mlqa"
        dropped = set(string.punctuation)
        if own:
            dropped |= {character for character in text.lower() if unicodedata.category(character)[0] == "P"}
        text = text.lower().translate(dict.fromkeys(map(ord, dropped)))
        rules = language if own else "en"
        if rules == "ar":
            text = " ".join(text.split("ال"))
        for article in articles.get(rules, "").split():
            text = re.sub(rf"(?<!\w){article}(?!\w)", " ", text)
        if rules == "zh":
            text = re.sub("([\u4e00-\u9fa5])", r" \1 ", text)
        return text.split()

    exact, f1 = [], []
    for id, accepted in gold.items():
        tokens = normal(predicted[id])
        exact.append(any(tokens == normal(answer) for answer in accepted))
        values = []
        for answer in map(normal, accepted):
            right = sum(min(tokens.count(token), answer.count(token)) for token in set(tokens))
            values.append(2 * right / (len(tokens) + len(answer)) if right else 0.0)
        f1.append(max(values))
    return {"exact_match": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(f1))}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_random_predictions_score_as_second_implementations_say(name: str, seed: int) -> None:
    task, draw = TASKS[name], random.Random(f"{name} {seed}")
    for language in task.languages if name == "mlqa" else task.languages[:3]:
        gold, predicted, expected = random_case(task, language, draw)
        found = score(task, gold, predicted, language)
        assert list(found) == list(task.metrics)
        assert found == pytest.approx(expected, rel=1e-12)
        assert 0 < task_score(task, found) < 100


def random_case(task: Task, language: str, draw: random.Random) -> tuple[Any, Any, dict[str, float]]:
    """(labels, predictions, their scores); about half of the predictions are right."""
    if task.name in ("xnli", "pawsx", "tatoeba"):
        labels = list(task.labels) or [str(row) for row in range(50)]
        gold: Any = draw.choices(labels, k=200)
        predicted: Any = [label if draw.random() < 0.5 else draw.choice(labels) for label in gold]
        return gold, predicted, oracle_accuracy(gold, predicted)
    if task.name in ("udpos", "panx"):
        gold = [draw.choices(task.labels, k=draw.randint(1, 12)) for _ in range(60)]
        predicted = [[tag if draw.random() < 0.7 else draw.choice(task.labels) for tag in tags] for tags in gold]
        chunks = runs if task.name == "udpos" else entities
        return gold, predicted, f1_of_sets(chunks(gold), chunks(predicted))
    if task.name == "bucc2018":
        pairs = [(f"s{draw.randrange(40)}", f"t{draw.randrange(3)}") for _ in range(90)]
        gold, predicted = set(pairs[:60]), set(pairs[30:])
        return gold, predicted, f1_of_sets(gold, predicted)
    gold = {str(i): [random_answer(draw) for _ in range(draw.randint(1, 3))] for i in range(150)}
    predicted = {id: draw.choice([draw.choice(answers), random_answer(draw)]) for id, answers in gold.items()}
    return gold, predicted, oracle_answers(task, gold, predicted, language)


def test_averages() -> None:
    scores = {"de": {"exact_match": 40.0, "f1": 60.0}, "fi": {"exact_match": 20.0, "f1": 30.0}}
    averages = average(TASKS["tydiqa"], scores)
    assert averages == {"exact_match": 30, "f1": 45}
    assert task_score(TASKS["tydiqa"], averages) == 37.5
    assert task_score(TASKS["panx"], {"f1": 12.0, "precision": 99.0, "recall": 7.0}) == 12
    assert AVERAGE == "avg"


def test_the_random_words_hold_what_the_rules_are_about() -> None:
    kinds = Counter(unicodedata.category(character)[0] for word in WORDS for character in word)
    assert {"L", "P", "S", "N", "M"} <= set(kinds)
