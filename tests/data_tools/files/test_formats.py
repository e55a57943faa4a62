import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from langcodes import Language

from data_tools.files.formats import (
    COMPRESSED_SUFFIXES,
    EXTRACT,
    FORMAT_OF_SUFFIX,
    NAME_AS_JSON,
    NEVER_COMPRESSED,
    NO_TEXT,
    check_is_named_as_text,
    check_is_not_another,
    check_is_prose,
    check_is_text,
    compressed_suffix,
    format_of,
    wide_encoding,
)


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("/a.gz/b.txt", ""),
        ("a.txt.gz", ".gz"),
        ("a.TXT.GZ", ".gz"),
        ("https://host/a.xz?download=true", ".xz"),
        ("zip://a.zst::s3://bucket/b.gz", ".zst"),
        ("a#b?.Bz2", ".bz2"),
        ("news.de", ""),
    ],
)
def test_the_suffix_of_compression_is_found(path: str, suffix: str) -> None:
    assert compressed_suffix(path) == suffix


@pytest.mark.parametrize("compression", ["", *COMPRESSED_SUFFIXES])
@pytest.mark.parametrize("suffix", [".txt", ".de", "", *FORMAT_OF_SUFFIX])
def test_the_suffix_gives_the_format(suffix: str, compression: str) -> None:
    expected = FORMAT_OF_SUFFIX.get(suffix, "text")
    for name in (f"/x/c4{suffix}{compression}", f"https://host/C4{suffix.upper()}{compression.upper()}?download=true"):
        if compression and expected in NEVER_COMPRESSED:
            with pytest.raises(ValueError, match=rf"{suffix} files must not be compressed"):
                format_of(name)
        else:
            assert format_of(name) == expected


def test_suffixes_of_other_formats_are_not_text() -> None:
    assert [format_of(name) for name in ("c4.json", "c4.ndjson", "c4.JSONL", "c4.json.gz")] == ["jsonl"] * 4
    assert format_of("scores.csv.bz2") == "csv"
    for name in ("news.tar.gz", "news.tgz", "news.TAR", "page.html", "dump.xml.bz2", "a.txt.lz4", "b.docx"):
        with pytest.raises(ValueError, match=rf"^{name}: by its suffix \.\w+ .*, expected text; "):
            format_of(name)


def test_suffixes_that_are_language_codes_are_text() -> None:
    # Breton, Rarotongan, Bini, Pashto; a rar archive is told by its content.
    for name in ("x.br", "x.rar", "x.bin", "x.ps", "x.gz.de", "Europarl.v7.en", "news.pt", "news.pt.gz", "s.PT"):
        check_is_named_as_text(name)
    of_two_letters = [suffix[1:] for suffix in NO_TEXT if len(suffix) == 3]
    assert of_two_letters and not [code for code in of_two_letters if Language.get(code).is_valid()]
    assert not {".br", ".rar", ".bin", ".ps", ".ar", ".mat", ".so", ".tt", ".ts"} & set(NO_TEXT)


@pytest.mark.parametrize("name", ["news.srt", "news.odt.gz", "news.SGM"])
def test_a_file_declared_as_text_may_have_any_such_suffix(name: str) -> None:
    with pytest.raises(ValueError, match=r"; if it is plain text all the same, name it with text: .*, or rename it$"):
        check_is_named_as_text(name)
    check_is_named_as_text(name, is_said_to_be_text=True)
    with pytest.raises(ValueError, match="a.jsonl: by its suffix jsonl, expected plain text"):
        check_is_named_as_text("a.jsonl", is_said_to_be_text=True)


@pytest.mark.parametrize("name", ["a.jsonl", "a.tsv.gz", "a.parquet", "a.tmx", "a.zip", "a.csv"])
def test_plain_text_must_not_have_the_name_of_another_format(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: by its suffix \w+, expected plain text"):
        check_is_named_as_text(name)


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("news.de"))
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("news.de", "eins")
    return file.getvalue()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (_tar(), "a tar archive, expected text in UTF-8; unpack it"),
        (_zip(), "a zip archive"),
        (b"\x1f\x8b\x08\0", r"gzip-compressed, .*; let its name end in \.gz"),
        (b"BZh91AY&SY", r"bzip2-compressed, .*; let its name end in \.bz2"),
        (b"\xfd7zXZ\0\0", "xz-compressed"),
        (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07\x01", "a rar archive"),
        (b"PAR1", r"Parquet, .*; let its name end in \.parquet"),
        (b"%PDF-1.4", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer, .*; fetch the file itself"),
        ("\ufeffeins".encode("utf-16-le"), "UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
        ("\ufeffeins".encode("utf-16-be"), "UTF-16,"),
        ("\ufeffeins".encode("utf-32-le"), "UTF-32, expected UTF-8; convert it: iconv -f UTF-32 -t UTF-8"),
        ("\ufeffeins".encode("utf-32-be"), "UTF-32,"),
    ],
)
def test_files_that_are_not_text_are_recognised_by_their_first_bytes(head: bytes, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^news.de: {kind}"):
        check_is_text("news.de", head)


@pytest.mark.parametrize("text", ["", "Zeile\n", "\ufeffZeile", "BZ ist Basel\n", "PK\n", "Fahrräder"])
def test_any_text_is_accepted_as_text(text: str) -> None:
    for check in (check_is_text, check_is_prose):
        check("news.de", text.encode())


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<!DOCTYPE HTML>\n<html>", "HTML"),
        ("\n <html lang='de'>", "HTML"),
        ("<?xml version='1.0'?>\n<x/>", "XML"),
        ('{"text": "eins"}\n{"text": "zwei"}\n', "JSON"),
        ('[{"text": "eins"}, {"text": "zwei"}]', "JSON"),
        (json.dumps({"text": "x" * 100_000}), "JSON"),
    ],
)
def test_markup_and_json_are_not_prose(text: str, kind: str) -> None:
    check_is_text("news.de", text.encode())
    with pytest.raises(ValueError, match=f"^news.de: {kind}, expected plain text, one sentence a line; "):
        check_is_prose("news.de", text.encode())


def test_advice_for_json_depends_on_who_asks() -> None:
    for advice in (EXTRACT, NAME_AS_JSON):
        with pytest.raises(ValueError, match=f"JSON, .*; {re.escape(advice)}$"):
            check_is_prose("a.de", b'{"text": "eins"}', advice)


@pytest.mark.parametrize("text", ['{"so steht es', "<b>fett</b>", "[1] Eine Fußnote", "{} ist leer", '{"a" und "b"}'])
def test_sentences_that_resemble_markup_or_json_are_prose(text: str) -> None:
    check_is_prose("news.de", f"{text}\nnoch eine\n".encode())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["Das Haus ist rot.\nÄpfel 😀\n", "漢字\n你好\n" * 3_000, "дом у реки\n"])
def test_wide_encodings_without_a_mark_are_recognised(encoding: str, text: str) -> None:
    assert wide_encoding(text.encode(encoding)) == encoding.upper().replace("-LE", "LE").replace("-BE", "BE")


@pytest.mark.parametrize("content", [b"", b"eins\n", "Fahrr\xe4der\n".encode("latin-1"), bytes(600), bytes(range(256))])
def test_other_bytes_are_in_no_wide_encoding(content: bytes) -> None:
    assert wide_encoding(content) is None


def test_a_file_in_another_format_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_zip())
    with pytest.raises(ValueError, match="a: a zip archive, expected Parquet; unpack it"):
        check_is_not_another(str(tmp_path / "a"), b"PAR1", "Parquet")
    check_is_not_another(str(tmp_path / "a"), b"PK", "a zip archive")
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a: is empty \(0 bytes\), expected Parquet; "):
        check_is_not_another(str(tmp_path / "a"), b"PAR1", "Parquet")
    (tmp_path / "a").write_bytes(b"\x1f\x8b\x08\0")
    with pytest.raises(ValueError, match="a: gzip-compressed, expected Parquet; decompress it"):
        check_is_not_another(str(tmp_path / "a"), b"PAR1", "Parquet")
