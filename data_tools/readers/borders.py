"""Uncompressed files cut into parts: where the lines, or documents, of a part begin and end.

A part is bytes [start, end) of a file. It holds the lines, or documents, between the borders that belong to these two
offsets. A border depends on the file and the offset alone, so neighbours find the same one without a word, and all
parts together are the file.
"""

from typing import IO

from data_tools.corpus.inputs import Part
from data_tools.files.formats import compressed_suffix
from data_tools.files.locations import can_seek, open_binary, size_of_file
from data_tools.text.lines import MAX_LINE_BYTES
from data_tools.text.passages import ends_passage

MAX_SEARCH_BYTES = 1 << 20  # for the end of a document


def cut_file(path: str, max_bytes: int) -> list[Part | None]:
    """The parts of a file that are not longer than `max_bytes`; [None] for one that is short or cannot be cut.

    What is compressed cannot, and what lies in archives or on servers that only send whole files should not.
    """
    size = size_of_file(path)
    if size <= max_bytes or compressed_suffix(path) or not can_seek(path):
        return [None]
    return [(start, min(start + max_bytes, size)) for start in range(0, size, max_bytes)]


def find_border(path: str, offset: int, between_documents: bool) -> int:
    """The byte at which the lines that belong to `offset` begin: the first that is the beginning of a line.

    With `between_documents` rather the first after a blank line, if it comes within MAX_SEARCH_BYTES of that line; else
    the document is cut at the first end of a passage, if there is one within that distance.
    """
    if offset == 0:
        return 0
    with open_binary(path) as file:
        file.seek(offset - 1)
        line_start = offset - 1 + len(file.readline(MAX_LINE_BYTES))
        return _document_end(file, line_start) if between_documents else line_start


def _document_end(file: IO[bytes], line_start: int) -> int:
    """The byte after the next blank line, the end of the file, or a passage if both are far.

    It is `line_start`, where `file` stands, if all are.
    """
    position = line_start
    passage_end = None
    while position < line_start + MAX_SEARCH_BYTES:
        line = file.readline(MAX_SEARCH_BYTES)
        position += len(line)
        if len(line) == MAX_SEARCH_BYTES:  # perhaps not the whole line
            continue
        if not line.decode("utf-8", errors="replace").strip():
            return position
        if passage_end is None and ends_passage(line.removesuffix(b"\n").removesuffix(b"\r")):
            passage_end = position
    return line_start if passage_end is None else passage_end
