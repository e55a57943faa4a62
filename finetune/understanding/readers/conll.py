"""Sentences in CoNLL's form: a word a line, a blank line between sentences, comments before them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_tools.text.lines import TextLines, open_text
from finetune.understanding.readers.records import Record
from finetune.understanding.tasks.task import Format, Head

BLANK = " \t\r"  # not a no-break space, which may be a word
COMMENT = "#"
SPACES = re.compile(" +")
DOCUMENT_START = "-DOCSTART-"  # CoNLL-2003's line before each document, which is no sentence
INSPECTED_LINES = 50  # which show by what columns are separated


@dataclass
class Sentence:
    """The lines of one sentence: the cells of each word, and comments by name."""

    cells: list[list[str]] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)


def records_of_conll(path: Path, form: Format, head: Head) -> Iterator[Record]:
    """The sentences of a file: for tags the lists `word` and `tag`, for other heads the comments that the form names.

    Columns are separated by tabs, or by spaces in a file without tabs most of whose lines have one. Of a sentence whose
    lines have a single column, tags are missing, as in XTREME's own tests. Raises ValueError that names the line for
    other columns, or a sentence of which only some words have a tag.
    """
    with open_text(path) as lines:
        numbered = enumerate(lines, start=1)
        first = list(itertools.islice(numbered, INSPECTED_LINES))
        separator = separator_of([line for _, line in first], form)
        for number, sentence in sentences_of(itertools.chain(first, numbered), form, separator, lines):
            where = lines.place(number)
            yield tagged(sentence, form, where) if head is Head.TOKEN else commented(sentence, form, where)


def separator_of(lines: Iterable[str], form: Format) -> str | None:
    """The separator of columns: a tab, or None for runs of spaces."""
    words = [line for line in lines if line.strip(BLANK) and not is_comment(line, form)]
    if any("\t" in line for line in words) or not words:
        return "\t"
    # In a file of words alone, a word may contain a space, but most do not.
    num_with_spaces = sum(" " in line.strip(BLANK) for line in words)
    return None if num_with_spaces > len(words) / 2 else "\t"


def sentences_of(
    numbered: Iterable[tuple[int, str]], form: Format, separator: str | None, lines: TextLines
) -> Iterator[tuple[int, Sentence]]:
    """(number of the line after it, sentence) of each sentence that has words."""
    sentence, number = Sentence(), 0
    for number, line in numbered:
        if not line.strip(BLANK):
            if sentence.cells:
                yield number, sentence
                sentence = Sentence()
        elif is_comment(line, form) and not sentence.cells:
            name, _, value = line.removeprefix(COMMENT).partition(separator_of_comment(line))
            sentence.comments[name.strip()] = value.strip()
        elif not line.startswith(DOCUMENT_START):
            cells = line.rstrip("\r").split(separator) if separator else SPACES.split(line.strip(BLANK))
            check_cells(cells, form, lines.place(number))
            sentence.cells.append(cells)
    if sentence.cells:
        yield number, sentence


def is_comment(line: str, form: Format) -> bool:
    """Whether a line is a comment: only in files whose form says so and before a space, since words may have a hash."""
    return form.comments and (line.startswith(f"{COMMENT} ") or line.rstrip(BLANK) == COMMENT)


def separator_of_comment(line: str) -> str:
    """The sign between the name and the value of a comment: CoNLL-U has =, xSID a colon."""
    colon, equals = line.find(":"), line.find("=")
    return ":" if equals < 0 or 0 <= colon < equals else "="


def check_cells(cells: list[str], form: Format, where: str) -> None:
    """Raise ValueError for a line without a word, or with other columns than the form has."""
    numbers = [column for given in form.columns.values() for column in given if isinstance(column, int)]
    usual = max(numbers, default=0) + 1
    is_exact = set(numbers) == set(range(usual)) and not form.more_columns
    if not cells[0] or (is_exact and len(cells) > usual):
        expected = " TAB ".join(sorted(form.columns, key=lambda name: str(form.columns[name])))
        more = "; if lines have further columns, add more_columns: true to the form" if len(cells) > usual else ""
        found = "\t".join(cells)
        raise ValueError(f"{where}: expected `{expected}`, found {found!r}{more}")


def tagged(sentence: Sentence, form: Format, where: str) -> Record:
    """The words and tags of a sentence; no tags where each line is a word alone."""
    at_word, at_tag = number_of(form, "word"), number_of(form, "tag")
    assert at_word is not None, "a task of tags has words"
    words = [cells[at_word] for cells in sentence.cells]
    if at_tag is None or all(len(cells) == 1 for cells in sentence.cells):
        return Record({"word": words}, where)
    tags = [cells[at_tag] for cells in sentence.cells if -len(cells) <= at_tag < len(cells) and len(cells) > 1]
    if len(tags) != len(words):
        raise ValueError(f"{where}: the sentence that ends here has {len(words)} words but {len(tags)} tags")
    return Record({"word": words, "tag": tags}, where)


def number_of(form: Format, field: str) -> int | None:
    """The number of a field's column; None if it has none."""
    return int(form.columns[field][0]) if field in form.columns else None


def commented(sentence: Sentence, form: Format, where: str) -> Record:
    """The comments that are fields, such as the text and the intent of an utterance."""
    names = {field: str(given[0]) for field, given in form.columns.items()}
    found = {field: sentence.comments[name] for field, name in names.items() if name in sentence.comments}
    return Record(found, where)
