from pathlib import Path

import pytest

from data_tools.corpus.inputs import Input
from data_tools.stages.plan import PLAN_VERSION, Plan, PlannedPart, PlannedTask
from data_tools.stages.plan_changes import changes

SETTINGS = {
    "version": PLAN_VERSION,
    "tokenizer": "a" * 64,
    "shard_tokens": 1500,
    "valid": 0,
    "filters": {"length_ratio": 9.0, "script": {"min_share": 0.5, "scripts": [["de", ["Latn"]]]}},
    "deduplicate": {"exact": True, "minhash": None},
}
FILES = {"a.de": "1", "b.de": "2"}


def _plan(files: dict[str, str] = FILES, **settings: object) -> Plan:
    """A plan of German files and their identities."""
    parts = (PlannedPart(Input(("de",), "text", (path,)), None, identity) for path, identity in files.items())
    tasks = tuple(PlannedTask(part.identity, (part,), 1) for part in parts)
    return Plan(Path("data"), tasks, {**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (_plan(tokenizer="b" * 64), "tokenizer was sha256 aaaaaaaaaaaa…, is sha256 bbbbbbbbbbbb…"),
        (_plan(shard_tokens=1501), "--shard-tokens was 1500, is 1501"),
        (_plan(valid=0.001, shard_tokens=1), "--shard-tokens was 1500, is 1; valid was 0, is 0.001"),
        (
            _plan(filters={"length_ratio": None, "script": {"min_share": 0.6, "scripts": (("de", ("Latn",)),)}}),
            "filters: length_ratio was 9.0, is not set; filters: script: min_share was 0.5, is 0.6",
        ),
        (
            _plan(deduplicate={"exact": True, "minhash": {"ngram": 5}}),
            "deduplicate: minhash was not set, is {'ngram': 5}",
        ),
        (_plan({"a.de": "1", "b.de": "3"}), "changed or read differently: mono/de: b.de"),
        (_plan({"a.de": "1"}), "removed: mono/de: b.de"),
        (_plan({**FILES, "c.de": "3"}), "added: mono/de: c.de"),
        (_plan({"x/a.de": "1", "x/b.de": "3"}), "removed: mono/de: b.de; added: mono/de: x/b.de"),
        (_plan({"b.de": "2", "a.de": "1"}), "the order of its files has changed"),
        (
            _plan({**FILES, **{f"{i}.de": f"new{i}" for i in range(5)}}),
            "added: mono/de: 0.de, mono/de: 1.de, mono/de: 2.de and 2 more",
        ),
    ],
)
def test_changes_are_named(after: Plan, told: str) -> None:
    assert changes(_plan(), after) == f"from another corpus or with other settings: {told}"


def test_another_version_is_named() -> None:
    before = Plan(Path("data"), (), {**SETTINGS, "version": PLAN_VERSION - 1})
    assert changes(before, _plan()).startswith("by another version of data_tools.prepare")
