"""A few training examples of each class: how many, which, and that neither languages nor models change them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from head_worlds import WORLDS
from small_encoders import write_encoder
from xtreme_files import TINY

from finetune.understanding.adaptation.few_shot import FewShot
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.rows.training import TrainingText, training_blocks
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import LabelledText, Question
from finetune.understanding.understanding_task import UnderstandingTask
from training.recipe.parsing import build_recipe

COUNT = 4


def drawn(task: str, data: Path, language: str, seed: int = 1, count: int = COUNT) -> dict[int, Any]:
    """The drawn examples by row."""
    text = TrainingText(task_named(task), str(data), str(data), ["de"], few=FewShot(count, seed))
    return {
        row: example
        for block in training_blocks(text, language)
        for row, example in zip(block.rows, block.examples, strict=True)
    }


def test_examples_of_each_class_are_drawn_by_seed(xtreme_data: Path) -> None:
    found = drawn("xnli", xtreme_data, "en")
    assert set(Counter(example.label for example in found.values()).values()) == {COUNT} and len(found) == 3 * COUNT
    assert drawn("xnli", xtreme_data, "en") == found
    assert drawn("xnli", xtreme_data, "en", seed=2).keys() != found.keys()
    fewer = drawn("xnli", xtreme_data, "en", count=COUNT - 1)
    assert fewer.keys() < found.keys(), "a learning curve adds examples"


def test_a_label_that_is_no_class_is_neither_drawn_nor_counted() -> None:
    task = replace(task_named("pawsx"), other_labels=("?",))
    labels = ("0", "1", "0", "?", "1", "0")
    rows = [(row, LabelledText("a", "b", label, "en")) for row, label in enumerate(labels)]
    assert len(FewShot(2, 1).draw(rows, task, "here")) == 4
    assert 3 not in {row for seed in range(20) for row in FewShot(1, seed).draw(rows, task, "here")}


def test_every_row_is_equally_likely() -> None:
    task = task_named("panx")
    rows = [(row, LabelledText("a", None, "x", "en")) for row in range(10)]
    counts = Counter(row for seed in range(1000) for row in FewShot(3, seed).draw(rows, task, "here"))
    assert set(counts) == set(range(10))
    assert max(abs(count - 300) for count in counts.values()) < 4.5 * np.sqrt(1000 * 0.3 * 0.7)


@pytest.mark.parametrize("task", ["xnli", "xquad"])
def test_translations_are_those_of_the_same_examples(task: str, xtreme_data: Path) -> None:
    english, german = drawn(task, xtreme_data, "en"), drawn(task, xtreme_data, "de")
    assert len(german) == COUNT * (3 if task == "xnli" else 1)
    assert german.keys() == english.keys()
    if task == "xquad":
        assert all(isinstance(one, Question) and one.id == english[row].id for row, one in german.items())


def test_questions_are_found_by_their_ids() -> None:
    """Whatever the order of a translated file, and with some of its questions gone."""
    task = task_named("xquad")
    questions = [(row, Question(f"q{row}", "?", "c", (), "en")) for row in range(50)]
    chosen = FewShot(5, 1).draw(questions, task, "here")
    moved = [(place, question) for place, (row, question) in enumerate(reversed(questions)) if row % 2 or row in chosen]
    found = FewShot(5, 1).draw(moved, task, "there")
    assert {question.id for place, question in moved if place in found} == {f"q{row}" for row in chosen}


def test_queries_are_drawn_with_all_their_candidates(worlds: Path) -> None:
    found = drawn(str(worlds / "ranking.yaml"), worlds, "en")
    groups = Counter(example.group for example in found.values())
    assert len(groups) == COUNT and set(groups.values()) == {3}


@pytest.mark.parametrize("head", WORLDS)
def test_every_model_gets_the_same(head: str, worlds: Path, tiny_model: Path, tmp_path: Path) -> None:
    write_encoder("bert", tmp_path / "bert")
    fields = {"task": str(worlds / f"{head}.yaml"), "data": str(worlds), "output": "run", "train_examples": 3}
    targets = []
    for model in (tiny_model, tmp_path / "bert"):
        recipe = build_recipe(UnderstandingRecipe, {**TINY, **fields, "init_from": str(model)}, None)
        rows = UnderstandingTask(recipe).rows.x.rows
        targets.append(rows.row_targets["labels"])
    assert np.array_equal(*targets)
    rows_of = {"sequence": 3, "context_word": 2, "ranking": 3, "choice": 3}  # classes, candidates, or choices
    assert len(targets[0]) == 3 * rows_of.get(head, 1)
