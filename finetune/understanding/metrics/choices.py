"""Files of choices, an object `{"label": 0}` a line, as XTREME-R's script reads those of XCOPA."""

from __future__ import annotations

import json
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.metrics.labels import Labels
from finetune.understanding.tasks.task import Task


def read_choices(path: Path, task: Task) -> Labels:
    """The numbers of the choices, from 0; raises ValueError that names the line for anything else."""
    choices = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
                choice = value["label"]
            except (ValueError, TypeError, KeyError, RecursionError):
                choice = None
            if not isinstance(choice, int) or isinstance(choice, bool) or choice < 0:
                raise ValueError(f'{lines.place(number)}: expected {{"label": NUMBER}}, found {line[:80]!r}')
            choices.append(str(choice))
    if not choices:
        raise ValueError(f"{path}: empty; expected an object a line for each example of {task.name}")
    return choices


def write_choices(path: Path, choices: Labels) -> None:
    """Write an object a line."""
    path.write_text("".join(json.dumps({"label": int(choice)}) + "\n" for choice in choices), encoding="utf-8")
