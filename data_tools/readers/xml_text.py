"""Decoding XML, and replacing the characters at which a parser has to stop.

expat supports five encodings, and through pyexpat all of one byte per character; here all encodings of Python are read.
A character that XML forbids, literally or as a reference (&#x1F;), is fatal for every parser; here it becomes INVALID,
so that it costs only the text it is in.
"""

import codecs
import re
from collections.abc import Iterator
from typing import IO

from data_tools.files.compression import damage_named
from data_tools.files.formats import check_signature

READ_BYTES = 1 << 18
INVALID = "\ufdd0"  # a noncharacter, which XML allows
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, since it begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0\0\0": "utf-32-le",
    b"\0\0\0<": "utf-32-be",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
DECLARED = re.compile(rb"""<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
# Names that programs use and Python does not know, and GB 2312, in practice a name for the larger sets containing it.
ENCODING_OF_NAME = {"ansi": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "x-sjis": "cp932"}
WIDE = re.compile(r"utf-?(16|32)|ucs-?[24]|unicode|iso-10646", re.IGNORECASE)
NOT_ALLOWED = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufdd0-\ufdef\ufffe\uffff]")
REFERENCE = re.compile("&#(?:x([0-9A-Fa-f]{1,8})|([0-9]{1,9}));")
MAX_REFERENCE = 16  # characters


def encoding_of(path: str, head: bytes) -> str:
    """Python's name for the encoding of the XML file `path`, which begins with `head`.

    A byte order mark, or the width of the first character, takes precedence over the declaration. Raises ValueError for
    an unknown encoding.
    """
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    declaration = DECLARED.match(head)
    if declaration is None:
        return "utf-8"
    name = declaration.group(1).decode()
    if WIDE.match(name):  # wrong, since the declaration was just read byte by byte
        return "utf-8"
    try:
        codec = codecs.lookup(ENCODING_OF_NAME.get(name.lower(), name))
        "".encode(codec.name)  # raises LookupError for a codec that is not a text encoding, such as hex
    except LookupError:
        raise ValueError(
            f"{path}: line 1: unknown encoding {name!r}; convert the file (iconv -f ENCODING -t UTF-8), and correct "
            "its first line"
        ) from None
    return codec.name


def xml_blocks(path: str, stream: IO[bytes]) -> Iterator[str]:
    """The text of the XML file `path`, block by block, with INVALID for each character that XML forbids.

    Raises ValueError naming a line that is not in the document's encoding.
    """
    rest = ""
    decoder = None
    num_line_ends = 0
    is_last = False
    while not is_last:
        with damage_named(path):
            block = stream.read(READ_BYTES)
        is_last = not block
        if decoder is None:
            check_signature(path, block, "XML")
            encoding = encoding_of(path, block)
            decoder = codecs.getincrementaldecoder(encoding)()
        try:
            text = rest + decoder.decode(block, is_last)
        except UnicodeError as error:
            before, reason = b"", str(error)
            if isinstance(error, UnicodeDecodeError):
                before, reason = error.object[: error.start], f"byte 0x{error.object[error.start]:02x}: {error.reason}"
            number = num_line_ends + before.decode(encoding, errors="ignore").count("\n") + 1
            raise ValueError(f"{path}: line {number} is not {encoding} ({reason}); convert the file") from None
        num_line_ends += text.count("\n", len(rest))
        # A reference may continue in the next block.
        start = text.rfind("&", max(0, len(text) - MAX_REFERENCE))
        cut = len(text) if start < 0 or is_last else start
        text, rest = text[:cut], text[cut:]
        yield REFERENCE.sub(_or_invalid, NOT_ALLOWED.sub(INVALID, text))


def _or_invalid(match: re.Match[str]) -> str:
    """The reference itself if XML allows its character, otherwise INVALID."""
    hexadecimal, decimal = match.groups()
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    if code in (0x9, 0xA, 0xD) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code <= 0x10FFFF:
        return INVALID if 0xFDD0 <= code < 0xFDF0 else match.group()
    return INVALID
