import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_tools.shards.format import ShardInfo
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import Unknown


def _info(prefix: str) -> ShardInfo:
    return ShardInfo(prefix, num_sequences=3, num_documents=1, num_tokens=9, bin_sha256="ab", idx_sha256="cd")


def _pair(prefix: str) -> dict[str, ShardInfo]:
    return {language: _info(f"{prefix}.{language}") for language in ("de", "en")}


BERT = SpecialIds(101, 0, 102, 100, 103, others=(1, 2), num_separators=1)
MANIFEST = Manifest(
    version=MANIFEST_VERSION,
    tokenizer_sha256="ef",
    vocab_size=300,
    mono={"de": [_info("mono/de/00000"), _info("mono/de/00001")]},
    parallel={"de-en": [_pair("parallel/de-en/00000")]},
    valid={"mono": {"de": [_info("valid/mono/de/00000")]}, "parallel": {}},
    dropped={"mono/de": {"too_long": 5}},
    words={"mono/de": {"de": 7}, "parallel/de-en": {"de": 2, "en": 3}},
    unknown={
        "mono/de": {"de": Unknown(1, 18, 2, 40)},
        "parallel/de-en": {"de": Unknown(3, 14, 6, 60), "en": Unknown(0, 9, 0, 30)},
    },
)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    assert Manifest.load(tmp_path) == MANIFEST
    assert Manifest.load(tmp_path).fingerprint == MANIFEST.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 301},
        {"tokenizer_sha256": "ee"},
        {"mono": {}},
        {"valid": {"mono": {}, "parallel": {}}},
        {"dropped": {}},
        {"words": {}},
        {"unknown": {}},
        {"special_ids": BERT},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert replace(MANIFEST, **change).fingerprint != MANIFEST.fingerprint


def test_without_held_out_shards_the_lists_are_there_and_empty(tmp_path: Path) -> None:
    Manifest(MANIFEST_VERSION, "ef", 300, MANIFEST.mono, MANIFEST.parallel).save(tmp_path)
    assert Manifest.load(tmp_path).valid == {"mono": {}, "parallel": {}}


def test_special_ids_are_in_the_file_unless_they_are_xlm_rs(tmp_path: Path) -> None:
    """Manifests of earlier versions have none, and keep their bytes and their fingerprint."""
    assert MANIFEST.special == SpecialIds.xlm_r(300)
    MANIFEST.save(tmp_path)
    assert "special_ids" not in json.loads((tmp_path / "manifest.json").read_text())
    other = replace(MANIFEST, special_ids=BERT)
    other.save(tmp_path)
    assert Manifest.load(tmp_path) == other and Manifest.load(tmp_path).special == BERT


def test_the_shares_of_unknown_pieces_are_in_the_file(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["unknown_share"] == {
        "de": {"pieces": 4 / 32, "characters": 8 / 100},
        "en": {"pieces": 0.0, "characters": 0.0},
    }
    assert content["unknown"]["mono/de"] == {"de": {"pieces": 1, "of_pieces": 18, "characters": 2, "of_characters": 40}}


def test_manifests_without_counts_of_unknown_pieces_keep_their_fingerprint(tmp_path: Path) -> None:
    """Such a manifest loads, and its fingerprint, which runs have recorded, is unchanged."""
    earlier = replace(MANIFEST, unknown={})
    earlier.save(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    del content["unknown"], content["unknown_share"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert Manifest.load(tmp_path) == earlier
    # As computed at commit 6783f80, from the same content.
    assert Manifest.load(tmp_path).fingerprint == "73ab17310411ac59642f2941ca65fcf31e4e2c0407bbbe4f22f88294e225963b"


def test_shards_are_listed_by_corpus() -> None:
    assert MANIFEST.corpora("train") == {
        "mono/de": [{"de": _info("mono/de/00000")}, {"de": _info("mono/de/00001")}],
        "parallel/de-en": [_pair("parallel/de-en/00000")],
    }
    assert MANIFEST.corpora("valid") == {"mono/de": [{"de": _info("valid/mono/de/00000")}]}
    assert [info.prefix for info in MANIFEST.shards()] == [
        "mono/de/00000",
        "mono/de/00001",
        "parallel/de-en/00000.de",
        "parallel/de-en/00000.en",
        "valid/mono/de/00000",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not a manifest"),
        (b"\xff", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "not a manifest"),
        (
            json.dumps({"version": 2, "valid": {"mono": {}, "parallel": {}}, "mono": {"de": [{"size": 1}]}}).encode(),
            "not a manifest",
        ),
        (json.dumps({"version": 1}).encode(), r"manifest\.json: version 1, expected 2; run data_tools\.prepare again"),
    ],
)
def test_files_that_are_not_manifests_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Manifest.load(tmp_path)


def test_an_unfinished_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json: no such file; expected a directory that .* has finished"):
        Manifest.load(tmp_path)
