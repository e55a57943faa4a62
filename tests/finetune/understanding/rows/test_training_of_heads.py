"""Training rows of texts and choices: translations by row, or with the original that stands beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from head_worlds import write_world
from xtreme_files import write_lines

from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.head import Limits
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.training import TrainingSet, TrainingText, original_of, training_set
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import LabelledText

LIMITS = Limits(max_length=24, stride=8, max_question_length=8, max_answer_length=4, num_best=3)


def paired(path: Path, encoder: TextEncoder) -> TrainingSet:
    task = task_named(str(path))
    text = TrainingText(task, str(path.parent), str(path.parent), ["de"])
    return training_set(text, build_head(task, LIMITS), encoder, plug_in=True)


@pytest.mark.parametrize("head", ["sequence", "multilabel", "context_word"])
def test_a_translation_without_a_text_is_skipped_with_its_original(
    head: str, tmp_path: Path, encoder: TextEncoder
) -> None:
    """The other rows stay with theirs, and their labels agree."""
    path = write_world(head, tmp_path)
    path.write_text(path.read_text() + "untranslated: [NS]\n")
    file = tmp_path / head / "train-de.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3] |= {"a": "NS"}
    write_lines(file, map(json.dumps, rows))
    found = paired(path, encoder)
    assert "1 rows skipped, which lack a sentence" in found.report
    batch = found.rows.batch(np.arange(found.rows.num_units), pad=1)
    assert len(batch["input_ids"]) == len(rows) - 1
    assert batch["labels"].tolist() == batch["pair_targets"].tolist()
    assert batch["input_ids"].shape[:-1] == batch["pair_input_ids"].shape[:-1]


def labelled(text_b: str | None, label: Any, **fields: Any) -> LabelledText:
    return LabelledText("ein hund", text_b, label, "de", ("a dog", "a tree"), **fields)


def test_the_original_beside_a_translation_has_its_label_and_group() -> None:
    assert original_of(labelled("ein baum", 2.5, group="q"), "en") == LabelledText(
        "a dog", "a tree", 2.5, "en", group="q"
    )
    assert original_of(labelled(None, ("x", "y")), "en") == LabelledText("a dog", None, ("x", "y"), "en")
    assert original_of(LabelledText("ein hund", None, "x", "de"), "en") is None
