"""The differences between two plans, for the message to users who use the output directory of another corpus."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_tools.cli import first_of
from data_tools.stages.plan import Plan

SHOWN_DIGITS = 12  # of a SHA-256
# The settings of a plan -> their names for users.
NAMES = {
    "tokenizer": "tokenizer",
    "shard_tokens": "--shard-tokens",
    "valid": "valid",
    "filters": "filters",
    "deduplicate": "deduplicate",
}


def changes(before: Plan, after: Plan) -> str:
    """The differences of `before` from `after`, as the continuation of "made"."""
    if before.settings["version"] != after.settings["version"]:
        return "by another version of data_tools.prepare, which cuts text differently (the shards can still be used)"
    settings = json.loads(json.dumps(after.settings))  # as those of `before`, which were read from a file
    found = [*_settings(before.settings, settings), *_files(before, after)]
    return f"from another corpus or with other settings: {'; '.join(found) or 'the order of its files has changed'}"


def _settings(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key, name in NAMES.items():
        yield from _values(name, before.get(key), after[key])


def _values(name: str, before: object, after: object) -> Iterator[str]:
    """The values that differ, each named by its keys as deep in mappings as possible."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _values(f"{name}: {key}", before.get(key), after.get(key))
    elif before != after:
        yield f"{name} was {_shown(before)}, is {_shown(after)}"


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    text = str(value)
    is_hash = isinstance(value, str) and len(text) == 64
    return f"sha256 {text[:SHOWN_DIGITS]}…" if is_hash else text


def _files(before: Plan, after: Plan) -> Iterator[str]:
    """The inputs that were changed, removed or added; those that only moved are equal."""
    old, new = _inputs(before), _inputs(after)
    only_old, only_new = Counter(old.values()) - Counter(new.values()), Counter(new.values()) - Counter(old.values())
    missing = [source for source, identity in old.items() if identity in only_old]
    added = [source for source, identity in new.items() if identity in only_new]
    kinds = {
        "changed or read differently": [source for source in added if source in missing],
        "removed": [source for source in missing if source not in added],
        "added": [source for source in added if source not in missing],
    }
    for kind, sources in kinds.items():
        if sources:
            yield f"{kind}: {first_of([name for name, *_ in sources])}"


def _inputs(plan: Plan) -> dict[tuple[str, str | None, str | None], str]:
    """The identity of each input by its language or pair, its files, and configuration and split of a data set."""
    parts = (part for task in plan.tasks for part in task.parts)
    return {(str(part.input), part.input.config, part.input.split): part.identity for part in parts}
