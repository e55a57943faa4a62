"""Cutting uncompressed files into parts: where the lines, or documents, of a part begin and end.

A part is bytes [start, end) of a file. It holds the lines, or documents, between the borders that belong to these two
offsets. A border depends only on the file and the offset, so neighbouring parts find the same one on their own, and all
parts together are the file.
"""

from typing import IO

from data_tools.corpus.inputs import Part
from data_tools.files.formats import compressed_suffix
from data_tools.files.locations import can_seek, open_binary, size_of_file
from data_tools.text.lines import MAX_LINE_BYTES
from data_tools.text.passages import ends_passage

MAX_SEARCH_BYTES = 1 << 20  # that are searched for the end of a document


def cut_file(path: str, max_bytes: int) -> list[Part | None]:
    """The parts of a file, of at most `max_bytes` each; [None] for a file that is short or cannot be cut.

    Compressed files cannot; files in archives or on servers that only send whole files should not.
    """
    size = size_of_file(path)
    if size <= max_bytes or compressed_suffix(path) or not can_seek(path):
        return [None]
    return [(start, min(start + max_bytes, size)) for start in range(0, size, max_bytes)]


def find_border(path: str, offset: int, between_documents: bool) -> int:
    """The border that belongs to `offset`: the first byte from there on that begins a line.

    With `between_documents` it is the first line after a blank one, if that comes within MAX_SEARCH_BYTES of the line;
    otherwise the document is cut at the first end of a passage within that distance, if any.
    """
    if offset == 0:
        return 0
    with open_binary(path) as file:
        file.seek(offset - 1)
        line_start = offset - 1 + len(file.readline(MAX_LINE_BYTES))
        return _document_end(file, line_start) if between_documents else line_start


def _document_end(file: IO[bytes], line_start: int) -> int:
    """The byte after the next blank line or at the end of the file; if both are far, after the first passage.

    If that is far too, `line_start`, the current position of `file`.
    """
    position = line_start
    passage_end = None
    while position < line_start + MAX_SEARCH_BYTES:
        line = file.readline(MAX_SEARCH_BYTES)
        position += len(line)
        if len(line) == MAX_SEARCH_BYTES:  # the line may be incomplete
            continue
        if not line.decode("utf-8", errors="replace").strip():
            return position
        if passage_end is None and ends_passage(line.removesuffix(b"\n").removesuffix(b"\r")):
            passage_end = position
    return line_start if passage_end is None else passage_end
