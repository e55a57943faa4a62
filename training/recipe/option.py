"""Options of recipe fields: default, help, whether a resumed run may change them, and which others they decide.

The fields themselves are in base.py and each task's recipe.py.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Facts beside the recipe, noted by checkpoints, that must be the same when a run is resumed.
FACTS = ("data_fingerprint", "lexicon_fingerprint", "teacher_fingerprint", "micro_batches_an_update", "task_file")


class OnResume(enum.Enum):
    """Whether a resumed run may have another value of a field than before."""

    FIXED = "no"
    BY_NAME = "where `change` names it"
    FREE = "yes"
    UNREAD = "yes, and it is not looked at: the checkpoint has what it leads to"


FIXED, BY_NAME, FREE, UNREAD = OnResume


def option(
    default: Any,
    help: str,
    on_resume: OnResume | None = None,
    decides: Sequence[str] = (),
    read: Callable[[Mapping[str, Any], Any], Any] | None = None,
) -> Any:
    """A recipe field with its default, the explanation that `--help` prints, and whether it may change on resume.

    While the field is set, it `decides` other fields: theirs are then not used. A field that is no single value has
    `read`: the function from the types of the recipe's fields and a raw value, of YAML or a flag, to the field's value.
    A subclass that overrides only the default inherits all three: see `notes_of`.
    """
    notes = {"on_resume": on_resume, "decides": decides, "read": read}
    return dataclasses.field(default=default, metadata={"help": help} | {n: v for n, v in notes.items() if v})


def notes_of(recipe_class: type[Any], name: str) -> dict[str, Any]:
    """The notes on a field of a recipe and of those that it derives from."""
    notes: dict[str, Any] = {"on_resume": FIXED, "decides": (), "read": None}
    for base in reversed(recipe_class.__mro__):
        if dataclasses.is_dataclass(base) and name in base.__dataclass_fields__:
            notes |= base.__dataclass_fields__[name].metadata
    return notes


def may_change(recipe_class: type[Any]) -> list[str]:
    """The names that `change` may have."""
    fields = [field.name for field in dataclasses.fields(recipe_class)]
    return [*(name for name in fields if notes_of(recipe_class, name)["on_resume"] is BY_NAME), *FACTS]
