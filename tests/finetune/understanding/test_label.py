"""Where tagged text is written: where the task that it is for looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.understanding.label import TaggedFile, tagged_file
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.tasks.task import Split, Task
from finetune.understanding.tasks.task_file import read_task


def task_with(form: str, root: Path) -> Task:
    (root / "tags.yaml").write_text(
        "head: token\nlanguages: [en, de]\nlabels: [N, V]\ntrain_languages: [en]\n"
        f"files: {{train: en.x, translate_train: 'tt/{{language}}.x'}}\nformat: {{{form}}}\n"
    )
    (root / "data/tt").mkdir(parents=True)
    (root / "data/tt/de.x").write_text("hund\n\nbaum\n")
    return read_task(root / "tags.yaml")


@pytest.mark.parametrize("columns", ["word: 0, tag: 1", "word: 1, tag: 3", "word: 2, tag: 0, more_columns: true"])
def test_the_task_reads_what_is_written(columns: str, tmp_path: Path) -> None:
    task = task_with(f"kind: conll, {columns}", tmp_path)
    file = tagged_file(task, "de", str(tmp_path / "data"))
    (tmp_path / "tagged/tt").mkdir(parents=True)
    (tmp_path / "tagged" / file.name).write_text(f"{file.line('hund', 'N')}{file.line('rennt', 'V')}\n")
    (found,) = read(task, Split.TRANSLATE_TRAIN, "de", tmp_path / "tagged")
    assert (found.words, found.tags) == (("hund", "rennt"), ("N", "V"))


def test_lines_have_their_columns() -> None:
    assert TaggedFile("x", 1, 3).line("hund", "N") == "_\thund\t_\tN\n"


@pytest.mark.parametrize("form", ["kind: jsonl, word: w, tag: t", "kind: conll, word: 0, tag: -1"])
def test_forms_that_tags_cannot_be_written_in(form: str, tmp_path: Path) -> None:
    task = task_with(form, tmp_path)
    with pytest.raises(ValueError, match=r"tags: tt/\{language\}\.x: tags can be written in one file of `kind: conll`"):
        tagged_file(task, "de", str(tmp_path / "data"))
