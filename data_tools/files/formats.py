"""Formats of input files, by their names and by their first bytes.

The suffix of a name, upper or lower case, says how a file is compressed (.gz, .xz, .zst, .bz2); the suffix before that
gives its format. Names with a suffix that is never used for plain text are refused; any other suffix, or none, is text:
`news.de`.
"""

import codecs
import json
from pathlib import PurePath

from data_tools.files.locations import file_name, open_binary

COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst", ".bz2")
FORMAT_OF_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tsv": "tsv",
    ".csv": "csv",
    ".tmx": "tmx",
    ".zip": "opus",
}
FORMATS_OF_PAIRS = ("tmx", "opus")
TABLES = ("tsv", "csv")  # their columns may be given by number
NEVER_COMPRESSED = ("parquet", "opus")  # they have a compression of their own
UNPACK = "unpack it and name the files in it"
RECOMPRESS = f"compress it with one of {', '.join(COMPRESSED_SUFFIXES)}"
EXTRACT = "extract its text"
NAME_AS_JSON = "let its name end in .jsonl (in a corpus, also jsonl: instead of text:)"
SAY_SO = "if it is plain text all the same, name it with text: (source:, target:) in a corpus, or rename it"
# Suffixes that are also language codes (.pt, .br, .rar, .bin, .ps) are decided by the content of the file. Some codes
# of rare languages are here (.srt, .odt, .sgm): their files must be declared as text.
NO_TEXT = {
    **dict.fromkeys((".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".7z"), ("an archive", UNPACK)),
    **dict.fromkeys((".lz4", ".lzma", ".lzo", ".lz", ".z", ".zstd"), ("of an unsupported compression", RECOMPRESS)),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xml", ".sgml", ".sgm", ".rtf"), ("markup", EXTRACT)),
    **dict.fromkeys((".pdf", ".docx", ".odt", ".epub", ".pptx"), ("a document", EXTRACT)),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), ("a spreadsheet", "save it as CSV")),
    **dict.fromkeys((".srt", ".vtt"), ("subtitles", EXTRACT)),
    **dict.fromkeys((".xliff", ".xlf"), ("XLIFF", "convert it to TMX")),
    **dict.fromkeys((".warc", ".wet"), ("a crawl's archive", EXTRACT)),
    **dict.fromkeys((".arrow", ".feather", ".avro", ".orc"), ("a table", "convert it to Parquet")),
    **dict.fromkeys((".yaml", ".yml"), ("YAML", "convert it to JSON lines")),
    **dict.fromkeys((".npy", ".npz", ".pkl", ".safetensors"), ("numbers", "name the text they were made from")),
}
MAGIC_OF_COMPRESSION = {
    ".gz": (b"\x1f\x8b",),
    ".xz": (b"\xfd7zXZ\0",),
    # A frame, or a skippable frame.
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))),
    ".bz2": (b"BZh",),
}
NAME_OF_COMPRESSION = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2"}
# (offset, bytes at that offset, what the file is, what to do)
SIGNATURES = (
    *(
        (0, magic, f"{NAME_OF_COMPRESSION[suffix]}-compressed", f"let its name end in {suffix}")
        for suffix, magics in MAGIC_OF_COMPRESSION.items()
        for magic in magics
    ),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"PK\x05\x06", "a zip archive without members", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed", RECOMPRESS),
    (0, b"\x1f\x9d", "compressed by `compress`", RECOMPRESS),
    (0, b"PAR1", "Parquet", "let its name end in .parquet"),
    (0, b"ARROW1", "an Arrow file", "convert it to Parquet"),
    (0, b"%PDF-", "PDF", EXTRACT),
    (0, b"{\\rtf", "RTF", EXTRACT),
    (0, b"version https://git-lfs.github.com/", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office file", EXTRACT),
)
WIDE_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
MARKUP_BEGINNINGS = {b"<?xml": "XML", b"<!doctype html": "HTML", b"<html": "HTML"}
WIDE_ENCODINGS = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
LOOKED_AT_BYTES = 1 << 12


def compressed_suffix(path: str) -> str:
    """The suffix, in lower case, that says how a file is compressed; empty if it is not."""
    suffix = PurePath(file_name(path)).suffix.lower()
    return suffix if suffix in COMPRESSED_SUFFIXES else ""


def format_of(path: str, is_said_to_be_text: bool = False) -> str:
    """The format of a file by its name: a value of FORMAT_OF_SUFFIX, or `text`.

    Raises ValueError for a suffix that is never used for text, unless the user has declared the file as text: then only
    the content counts.
    """
    name = PurePath(file_name(path))
    compression = compressed_suffix(path)
    suffix = (PurePath(name.stem) if compression else name).suffix.lower()
    format = FORMAT_OF_SUFFIX.get(suffix, "text")
    if suffix in NO_TEXT and not is_said_to_be_text:
        kind, advice = NO_TEXT[suffix]
        raise ValueError(f"{path}: by its suffix {suffix} {kind}, expected text; {advice}; {SAY_SO}")
    if compression and format in NEVER_COMPRESSED:
        raise ValueError(f"{path}: {suffix} files must not be compressed; decompress it")
    return format


def check_is_named_as_text(path: str, is_said_to_be_text: bool = False) -> None:
    """Raise ValueError if a file, by its name, is not plain text with one sentence per line.

    If the user has declared it as text, only names of the other formats that we read are refused.
    """
    format = format_of(path, is_said_to_be_text)
    if format != "text":
        raise ValueError(f"{path}: by its suffix {format}, expected plain text, one sentence a line")


def signature_of(head: bytes) -> tuple[str, str] | None:
    """(kind of the file that begins with these bytes, what to do with it); None if it may be text in some encoding."""
    for offset, signature, kind, advice in SIGNATURES:
        if head.startswith(signature, offset):
            return kind, advice
    return None


def check_signature(name: str, head: bytes, expected: str) -> None:
    """Raise ValueError if the file `name`, decompressed, has the signature of a format that is not text."""
    found = signature_of(head)
    if found:
        kind, advice = found
        raise ValueError(f"{name}: {kind}, expected {expected}; {advice}")


def check_is_not_another(path: str, magic: bytes, expected: str) -> None:
    """Explain by a ValueError, if possible, why a file could not be read in the format that begins with `magic`."""
    with open_binary(path) as file:
        head = file.read(LOOKED_AT_BYTES)
    if not head:
        raise ValueError(f"{path}: is empty (0 bytes), expected {expected}; fetch it again or remove it")
    found = None if head.startswith(magic) else signature_of(head)
    if found:
        kind, advice = found
        advice = "decompress it" if kind.endswith("-compressed") else advice
        raise ValueError(f"{path}: {kind}, expected {expected}; {advice}")


def check_is_text(name: str, head: bytes) -> None:
    """Raise ValueError if the file `name`, decompressed, is not UTF-8 text by its first bytes."""
    check_signature(name, head, "text in UTF-8")
    for mark, encoding in WIDE_MARKS.items():
        if head.startswith(mark):
            raise ValueError(f"{name}: {encoding}, expected UTF-8; convert it: iconv -f {encoding} -t UTF-8")


def check_is_prose(name: str, head: bytes, advice_for_json: str = EXTRACT) -> None:
    """Raise ValueError if the text of the file `name` begins with markup, or with a line of JSON.

    `advice_for_json` says what to do with the latter, since only some commands read JSON lines.
    """
    line = head[: 2 * LOOKED_AT_BYTES].lstrip().split(b"\n", 1)[0]
    for beginning, kind in MARKUP_BEGINNINGS.items():
        if line[: len(beginning)].lower() == beginning:
            raise ValueError(f"{name}: {kind}, expected plain text, one sentence a line; {EXTRACT}")
    if line.startswith((b'{"', b'[{"')):
        line = head.lstrip().split(b"\n", 1)[0]
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return
        raise ValueError(f"{name}: JSON, expected plain text, one sentence a line; {advice_for_json}")


def check_is_compressed(name: str, suffix: str, head: bytes) -> None:
    """Raise ValueError if the first bytes of the file `name` contradict its suffix."""
    if any(magic[: len(head)] == head[: len(magic)] for magic in MAGIC_OF_COMPRESSION[suffix]):
        return
    kind, advice = signature_of(head) or ("something else", "fetch it again, or correct its name")
    raise ValueError(f"{name}: by its suffix {suffix} {NAME_OF_COMPRESSION[suffix]}-compressed, found {kind}; {advice}")


def wide_encoding(head: bytes) -> str | None:
    """The variant of UTF-16 or UTF-32 in which these bytes, without a byte order mark, are text; None if in none."""
    if b"\0" not in head:
        return None
    best, most_spaces = None, 0
    for encoding in WIDE_ENCODINGS:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head[:LOOKED_AT_BYTES])
        except UnicodeDecodeError:
            continue
        # In the wrong byte order a space is U+2000, and a line feed U+0A00.
        num_spaces = sum(map(text.count, " \n\t"))
        if num_spaces > most_spaces and all(character.isprintable() or character.isspace() for character in text):
            best, most_spaces = encoding, num_spaces
    return best and best.upper().replace("-LE", "LE").replace("-BE", "BE")
