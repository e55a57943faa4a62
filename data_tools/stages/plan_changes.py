"""What sets two plans apart, for whoever would put one corpus where another was made."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_tools.cli import first_of
from data_tools.stages.plan import Plan

SHOWN_DIGITS = 12  # of a SHA-256
# The settings of a plan as a user knows them.
NAMES = {
    "tokenizer": "tokenizer",
    "shard_tokens": "--shard-tokens",
    "valid": "valid",
    "filters": "filters",
    "deduplicate": "deduplicate",
}


def changes(before: Plan, after: Plan) -> str:
    """How `before` differs from `after`, to follow the word "made"."""
    if before.settings["version"] != after.settings["version"]:
        return "by another version of data_tools.prepare, which cuts text in another way (the shards can still be used)"
    settings = json.loads(json.dumps(after.settings))  # as those of `before`, which were read from a file
    found = [*_settings(before.settings, settings), *_files(before, after)]
    return f"from another corpus or with other settings: {'; '.join(found) or 'its files come in another order'}"


def _settings(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key, name in NAMES.items():
        yield from _values(name, before.get(key), after[key])


def _values(name: str, before: Any, after: Any) -> Iterator[str]:
    """What is another value, as deep in mappings as it can be named."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _values(f"{name}: {key}", before.get(key), after.get(key))
    elif before != after:
        yield f"{name} was {_shown(before)}, is {_shown(after)}"


def _shown(value: Any) -> str:
    is_hash = isinstance(value, str) and len(value) == 64
    return f"sha256 {value[:SHOWN_DIGITS]}…" if is_hash else "not set" if value is None else str(value)


def _files(before: Plan, after: Plan) -> Iterator[str]:
    """Which inputs have gone, have come, or are others under the same name; those that only moved are equal."""
    old, new = _inputs(before), _inputs(after)
    gone, come = Counter(old.values()) - Counter(new.values()), Counter(new.values()) - Counter(old.values())
    missing = [source for source, identity in old.items() if identity in gone]
    added = [source for source, identity in new.items() if identity in come]
    kinds = {
        "changed or read in another way": [source for source in added if source in missing],
        "no longer named": [source for source in missing if source not in added],
        "newly named": [source for source in added if source not in missing],
    }
    for kind, sources in kinds.items():
        if sources:
            yield f"{kind}: {first_of([name for name, *_ in sources])}"


def _inputs(plan: Plan) -> dict[tuple[str, str | None, str | None], str]:
    """The identity of each input by its language or pair and files, and what of a data set it is."""
    parts = (part for task in plan.tasks for part in task.parts)
    return {(str(part.input), part.input.config, part.input.split): part.identity for part in parts}
