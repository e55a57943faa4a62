"""Files of text as streams: of lines (one language) or of pairs of lines.

A stream of one language yields sentences, and an empty string where a document ends. All of them are read as they go;
memory does not grow with the file.
"""

import json
from collections.abc import Callable, Iterator
from itertools import zip_longest

from data_tools.files import TextLines


def text_lines(lines: TextLines) -> Iterator[str]:
    """The sentences of a text file; lines of white space are empty strings, which end a document."""
    for line in lines:
        yield "" if line.isspace() else line


def jsonl_lines(lines: TextLines) -> Iterator[str]:
    """The sentences of a JSONL file: the lines of the `text` of each object, which is a document.

    Raises ValueError naming the line that is not an object with a text.
    """
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        try:
            text = json.loads(line)["text"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f'{lines.path}: line {number}: expected an object {{"text": "…"}} ({type(error).__name__}: {error})'
            ) from None
        if not isinstance(text, str):
            raise ValueError(f"{lines.path}: line {number}: text is {type(text).__name__}, expected a string")
        # JSON can spell half a surrogate pair, "\ud83d": no text in any encoding.
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{lines.path}: line {number}: text holds half of a surrogate pair") from None
        for sentence in text.split("\n"):
            if sentence and not sentence.isspace():
                yield sentence
        yield ""


def text_pairs(source: TextLines, target: TextLines) -> Iterator[tuple[str, str]]:
    """The pairs of two files; raises ValueError naming both files and both counts if these differ."""
    for num_pairs, (source_line, target_line) in enumerate(zip_longest(source, target)):
        if source_line is None or target_line is None:
            num_source = num_target = num_pairs
            if target_line is None:
                num_source += 1 + sum(1 for _ in source)
            else:
                num_target += 1 + sum(1 for _ in target)
            raise ValueError(
                f"{source.path} has {num_source:,} lines, {target.path} has {num_target:,}: "
                "the i-th lines of both are a pair, so expected as many"
            )
        yield source_line, target_line


def tsv_pairs(lines: TextLines) -> Iterator[tuple[str, str]]:
    """The pairs in the first two columns of a file; further columns are left alone. Quotes are text.

    Raises ValueError naming a line without a tab.
    """
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t", 2)
        if len(columns) < 2:
            raise ValueError(f"{lines.path}: line {number}: expected two columns with a tab between, found one")
        yield columns[0], columns[1]


SENTENCE_READERS: dict[str, Callable[[TextLines], Iterator[str]]] = {"text": text_lines, "jsonl": jsonl_lines}


def read_sentences(format: str, lines: TextLines) -> Iterator[str]:
    """The sentences of one file, with an empty string at the end of each document."""
    return SENTENCE_READERS[format](lines)


def read_pairs(format: str, files: list[TextLines]) -> Iterator[tuple[str, str]]:
    """The sentence pairs of one .tsv or of two text files; an empty side is possible."""
    if format == "tsv":
        (lines,) = files
        return tsv_pairs(lines)
    source, target = files
    return text_pairs(source, target)
