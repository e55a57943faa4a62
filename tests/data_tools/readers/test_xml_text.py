import io
from itertools import product

import pytest

from data_tools.readers import xml_text
from data_tools.readers.xml_text import INVALID, encoding_of, xml_blocks

TEXT = "<tmx>\n<seg>Grüße aus Köln, 房子 &amp; дом</seg>\n</tmx>\n"


def _read(content: bytes) -> str:
    return "".join(xml_blocks("a.tmx", io.BytesIO(content)))


def _declared(name: str, text: str = TEXT) -> str:
    return f'<?xml version="1.0" encoding="{name}"?>\n{text}'


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8-sig"),
        ("UTF-16", "utf-16"),
        ("UTF-8", "utf-16"),  # the mark counts
        ("UTF-16", "utf-8"),  # converted, and its first line left as it was
        ("unicode", "utf-8"),
        ("UTF-16LE", "utf-16-le"),
        ("UTF-16BE", "utf-16-be"),
        ("UTF-32", "utf-32"),
        ("UTF-32", "utf-32-be"),
        ("GB18030", "gb18030"),
    ],
)
def test_unicode_encodings_are_decoded(declared: str, encoding: str) -> None:
    text = _declared(declared)
    assert _read(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("ANSI", "cp1252", "Grüße – „ja“ €"),
        ("windows-1251", "cp1251", "дом"),
        ("ISO-8859-1", "iso-8859-1", "Grüße"),
        ("koi8-r", "koi8-r", "дом"),
        ("GB2312", "gb2312", "房子"),
        ("gb2312", "gbk", "鎔"),  # in GBK, but not in GB 2312, by whose name it goes
        ("Big5", "big5", "房子"),
        ("Shift_JIS", "shift_jis", "家と犬"),
        ("x-sjis", "cp932", "①"),
        ("EUC-KR", "euc-kr", "집"),
        ("iso-2022-jp", "iso-2022-jp", "家"),
    ],
)
def test_other_encodings_are_decoded(declared: str, encoding: str, text: str) -> None:
    assert _read(_declared(declared, f"<a>{text}</a>").encode(encoding)) == _declared(declared, f"<a>{text}</a>")


@pytest.mark.parametrize("name", ["x-foo", "hex", "rot13", "base64", "zip", "mbcs"])
def test_unknown_encodings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^a.tmx: line 1: unknown encoding '{name}'; convert the file"):
        _read(_declared(name).encode())


def test_the_default_encoding_is_utf8() -> None:
    assert encoding_of("a.tmx", b"<tmx>") == encoding_of("a.tmx", b"") == "utf-8"
    assert encoding_of("a.tmx", b"<?xml version='1.0' encoding='latin1'?>") == "iso8859-1"
    with pytest.raises(ValueError, match=r"^a\.tmx: line 2 is not utf-8 \(.*0xfc.*\); convert the file"):
        _read("<tmx>\n<seg>Grüße".encode("latin-1"))


def test_files_that_are_not_xml_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^a\.tmx: gzip-compressed, expected XML; let its name end in \.gz"):
        _read(b"\x1f\x8b\x08\0\0")


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1f", "\x0b", "\ufffe", "\uffff", "\ufdd0", "\ufdef"])
def test_forbidden_characters_become_invalid(character: str) -> None:
    for written in (character, f"&#{ord(character)};", f"&#x{ord(character):x};", f"&#x000{ord(character):X};"):
        assert _read(f"<a>b{written}c</a>".encode()) == f"<a>b{INVALID}c</a>"


@pytest.mark.parametrize("written", ["&#xD83D;", "&#55357;", "&#x110000;", "&#0;"])
def test_references_to_forbidden_characters_become_invalid(written: str) -> None:
    assert _read(f"<a>{written}</a>".encode()) == f"<a>{INVALID}</a>"


@pytest.mark.parametrize("text", ["&#9;\t\r\n", "&#x41;&#x1F600;&#8217;", "\x7f\x85\ufffd\ue000😀", "&amp;#x1F; & &#x"])
def test_allowed_characters_stay(text: str) -> None:
    assert _read(text.encode()) == text


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_references_may_cross_the_ends_of_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(xml_text, "READ_BYTES", size)
    pieces = ["&#x1F;", "ä", "&amp;", "\x01", "&", "&#8217;", "x" * 20]
    text = "".join(map("".join, product(pieces, repeat=2)))
    expected = text.replace("&#x1F;", INVALID).replace("\x01", INVALID)
    assert _read(f"<a>{text}</a>".encode()) == f"<a>{expected}</a>"
