import json
from dataclasses import asdict
from typing import Any

import pytest

from data_tools.deduplicate.settings import Deduplication, MinhashSettings


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Deduplication()),
        ({}, Deduplication()),
        ({"exact": True}, Deduplication(exact=True)),
        ({"exact": False, "minhash": False}, Deduplication()),
        ({"minhash": True}, Deduplication(minhash=MinhashSettings(14, 8, 5))),
        ({"exact": True, "minhash": {}}, Deduplication(exact=True, minhash=MinhashSettings())),
        ({"minhash": {"ngram": 3, "num_buckets": 20}}, Deduplication(minhash=MinhashSettings(20, 8, 3))),
    ],
)
def test_settings_are_read(value: Any, expected: Deduplication) -> None:
    problems: list[str] = []
    settings = Deduplication.parse(value, problems.append)
    assert (settings, problems) == (expected, [])
    assert json.loads(json.dumps(asdict(settings)))["exact"] is expected.exact


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ["expected the keys exact, minhash", "True"]),
        ({"exakt": True}, ["unknown key 'exakt'", "exact, minhash"]),
        ({"exact": "yes"}, ["exact: expected true or false", "'yes'"]),
        ({"exact": 1}, ["exact: expected true or false", "1"]),
        ({"minhash": 14}, ["minhash: expected true, false or the keys", "14"]),
        ({"minhash": {"buckets": 3}}, ["minhash: unknown key 'buckets'", "num_buckets, hashes_per_bucket, ngram"]),
        ({"minhash": {"ngram": 0}}, ["minhash: ngram: expected a whole number from 1", "0"]),
        ({"minhash": {"ngram": True}}, ["minhash: ngram: expected a whole number from 1", "True"]),
        ({"minhash": {"num_buckets": 2.5}}, ["minhash: num_buckets: expected a whole number from 1", "2.5"]),
    ],
)
def test_a_wrong_value_is_named(value: Any, words: list[str]) -> None:
    problems: list[str] = []
    Deduplication.parse(value, problems.append)
    (problem,) = problems
    assert problem.startswith("deduplicate: ")
    for word in words:
        assert word in problem


def test_all_problems_are_reported_at_once() -> None:
    problems: list[str] = []
    Deduplication.parse({"exact": 3, "minhash": {"ngram": "5", "x": 1}, "fuzzy": True}, problems.append)
    assert len(problems) == 4


def test_pairs_have_no_near_duplicates() -> None:
    settings = Deduplication(minhash=MinhashSettings())
    assert settings.minhash_of(("de",)) == MinhashSettings()
    assert settings.minhash_of(("de", "en")) is None
