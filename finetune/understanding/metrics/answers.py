"""Answers to questions: exact match and F1 as SQuAD and MLQA define them, and JSON files {id: answer}."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_tools.text.lines import read_text
from finetune.understanding.metrics.normalisation import tokens_of
from finetune.understanding.readers.squad import questions_of_file
from finetune.understanding.tasks.examples import HiddenLabelsError, Question, wrong_labels_of
from finetune.understanding.tasks.task import Task

Answers = Mapping[str, str]
GoldAnswers = Mapping[str, Sequence[str]]  # the accepted answers of each question


def score_answers(gold: GoldAnswers, predicted: Answers, task: Task, language: str) -> dict[str, float]:
    """{"exact_match", "f1"} in percent of the questions; one without prediction counts 0, as in SQuAD's script.

    The score of a question is the best over its accepted answers, of which it must have one, see `gold_answers`.
    """
    exact_match, f1 = 0, 0.0
    for id, accepted in gold.items():
        if id in predicted:
            prediction = tokens_of(predicted[id], task.answer_tokens, language)
            references = [tokens_of(answer, task.answer_tokens, language) for answer in accepted]
            exact_match += max(prediction == reference for reference in references)
            # Added one by one: from Python 3.12 on, sum() rounds differently, which would change the last digit.
            f1 += max(token_f1(prediction, reference) for reference in references)
    return {"exact_match": 100.0 * exact_match / len(gold), "f1": 100.0 * f1 / len(gold)}


def token_f1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two bags of tokens, 0 to 1; 0 if one is empty."""
    num_same = sum((Counter(prediction) & Counter(reference)).values())
    if not num_same:
        return 0.0
    precision = num_same / len(prediction)
    recall = num_same / len(reference)
    return (2 * precision * recall) / (precision + recall)


def gold_answers(questions: Iterable[Question]) -> GoldAnswers:
    """The accepted answers by question; raises ValueError for a repeated id, and for questions without answers."""
    gold: dict[str, Sequence[str]] = {}
    for question in questions:
        if question.id in gold:
            raise ValueError(f"the question id {question.id} is repeated")
        gold[question.id] = [answer.text for answer in question.answers]
    if gold and not any(gold.values()):
        raise HiddenLabelsError(f"none of {len(gold):,} questions has an answer")
    if unanswered := [id for id, accepted in gold.items() if not accepted]:
        raise ValueError(
            f"{len(unanswered):,} of {len(gold):,} questions have no accepted answer, such as {unanswered[0]}; "
            "expected one for each, as in SQuAD v1.1"
        )
    return gold


def read_gold_answers(path: Path, task: Task) -> GoldAnswers:
    """The accepted answers of a file in SQuAD's form."""
    questions = list(questions_of_file(path, language=""))
    if not questions:
        raise ValueError(f"{path}: empty; expected questions of {task.name}")
    with wrong_labels_of(str(path)):
        return gold_answers(questions)


def read_answers(path: Path, task: Task) -> Answers:
    """The predictions of a file {id: answer}; raises ValueError for a file of another form."""
    text = read_text(path)
    try:
        answers = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {'empty' if not text.strip() else 'not JSON'} ({error})") from None
    if not isinstance(answers, dict) or not all(isinstance(answer, str) for answer in answers.values()):
        raise ValueError(f"{path}: expected one JSON object of question id: answer, both strings")
    if not answers:
        raise ValueError(f"{path}: empty; expected an answer for each question of {task.name}")
    return answers


def write_answers(path: Path, answers: Answers) -> None:
    """Write {id: answer}."""
    path.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
