import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from data_tools.corpus.inputs import Input
from data_tools.readers import InputReader, size_of

Read = Callable[..., Any]


def _zip(tmp_path: Path, members: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_pairs_of_all_members_are_read(tmp_path: Path, read_pairs: Read, compression: int) -> None:
    members: dict[str, str | bytes] = {
        "README": "read me",
        "A.de-en.de": "\ufeffeins\nzwei\n",
        "A.de-en.en": "one\r\ntwo",
        "A.de-en.ids": "1\n2\n3\n",
        "in/B.en": "\nfour\n",
        "in/B.de": "drei\n\n",
    }
    path = _zip(tmp_path, members, compression)
    expected = [("eins", "one"), ("zwei", "two"), ("drei", ""), ("", "four")]
    assert read_pairs("opus", path) == (expected, {})
    fsspec.filesystem("memory").pipe("/opus/a.zip", path.read_bytes())
    assert read_pairs("opus", "memory://opus/a.zip") == (expected, {})


def test_files_added_by_macos_are_ignored(tmp_path: Path, read_pairs: Read) -> None:
    resource = b"\0\x05\x16\x07" + bytes(80)
    path = _zip(
        tmp_path,
        {
            "A.de-en.de": "eins\n",
            "A.de-en.en": "one\n",
            "__MACOSX/._A.de-en.de": resource,
            "__MACOSX/._A.de-en.en": resource,
            "in/._B.de": resource,
            "in/._B.en": resource,
        },
    )
    assert read_pairs("opus", path) == ([("eins", "one")], {})


def test_languages_may_have_other_codes_in_the_file(tmp_path: Path, read_pairs: Read) -> None:
    path = _zip(tmp_path, {"A.en-zh_tw.zh_tw": "公車\n", "A.en-zh_tw.en": "bus\n"})
    languages = ("zh_Hant", "en")
    assert read_pairs("opus", path, languages=languages, codes=("zh_tw", "en")) == ([("公車", "bus")], {})
    with pytest.raises(ValueError, match=r"a\.zip: has no member A\.en-zh_tw\.zh_Hant"):
        read_pairs("opus", path, languages=languages)


def test_progress_is_in_bytes_of_the_archive(tmp_path: Path) -> None:
    # The archive's size is what counts: 200 of 400 lines read are half of it.
    path = _zip(tmp_path, {f"{name}.{code}": "line\n" * 100 for name in "ab" for code in ("de", "en")})
    item = Input(("de", "en"), "opus", (str(path),))
    with InputReader(item, None) as reader:
        pairs = reader.pairs()
        for _ in range(100):
            next(pairs)
        assert reader.num_bytes_read == size_of(item) // 2
        assert sum(1 for _ in pairs) == 100
        assert reader.num_bytes_read == size_of(item)
    assert reader.num_bytes_read == size_of(item)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, r"has no members \*\.de and \*\.en, .*; found nothing"),
        ({"a.fr": "x", "a.es": "y"}, r"has no members \*\.de and \*\.en, .*; found a\.fr, a\.es"),
        ({"a.de": "x", "b.en": "y"}, r"has no member a\.en; found a\.de, b\.en"),
        ({"a.en": "y", "README": ""}, r"has no member a\.de; found a\.en, README"),
        ({"a.de": "x\ny\n", "a.en": "x"}, r"a\.de has 2 lines, .*a\.zip: a\.en has 1: "),
        ({"a.de": "x\n", "a.en": b"\xff"}, r"a\.en: line 1 is not UTF-8"),
        ({"a.de": "x\n", "a.en": b"\x1f\x8b\x08\0"}, r"a\.en: gzip-compressed, expected text in UTF-8"),
        ({"a.de": "x\n", "a.en": "\ufeffy\n".encode("utf-16")}, r"a\.en: UTF-16, expected UTF-8"),
        ({"a.de": '{"text": "x"}\n', "a.en": "y\n"}, r"a\.de: JSON, expected plain text"),
    ],
)
def test_archives_without_both_members_are_refused(
    tmp_path: Path, read_pairs: Read, members: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.zip: {message}"):
        read_pairs("opus", _zip(tmp_path, members))


def test_damaged_archives_are_refused(tmp_path: Path, read_pairs: Read) -> None:
    lines = "".join(f"line {i}\n" for i in range(1_000))
    content = _zip(tmp_path, {"a.de": lines, "a.en": lines}, zipfile.ZIP_STORED).read_bytes()
    flipped = content.replace(b"line 77\n", b"line 78\n", 1)  # the checksum tells
    locked = bytearray(content)
    central = content.index(b"PK\x01\x02")
    locked[6] |= 1
    locked[central + 8] |= 1
    for damaged, message in [
        (content[:-100], "not a zip archive, or cut short"),
        (b"", r"is empty \(0 bytes\), expected a zip archive"),
        (b"<html>not found</html>", "not a zip archive"),
        (flipped, "damaged .*CRC"),
        (bytes(locked), r"a\.de cannot be read .*password"),
    ]:
        (tmp_path / "a.zip").write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"a\.zip: {message}"):
            read_pairs("opus", tmp_path / "a.zip")
