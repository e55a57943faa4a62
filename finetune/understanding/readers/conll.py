"""Tagged sentences in CoNLL's form, a word a line and a blank line between sentences: POS and NER."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_tools.text.lines import open_text
from finetune.understanding.readers.labels import known_label
from finetune.understanding.tasks.examples import TaggedSentence
from finetune.understanding.tasks.task import Task


def tagged_of_file(path: Path, task: Task, language: str) -> Iterator[TaggedSentence]:
    """The sentences of a file of lines `word TAB tag`, or of words alone, as XTREME's own test files are.

    Raises ValueError that names the line for other columns, an unknown tag, or a sentence of which only some words have
    a tag.
    """
    words: list[str] = []
    tags: list[str] = []
    with open_text(path) as lines:
        number = 0
        for number, line in enumerate(lines, start=1):
            if line.strip():
                word, *rest = line.split("\t")
                if len(rest) > 1 or not word:
                    raise ValueError(f"{lines.place(number)}: expected `word TAB tag`, found {line!r}")
                words.append(word)
                tags += [known_label(tag, task, lines.place(number)) for tag in rest]
            elif words:
                yield _sentence(words, tags, language, lines.place(number))
                words, tags = [], []
        if words:
            yield _sentence(words, tags, language, lines.place(number))


def _sentence(words: list[str], tags: list[str], language: str, where: str) -> TaggedSentence:
    if tags and len(tags) != len(words):
        raise ValueError(f"{where}: the sentence that ends here has {len(words)} words but {len(tags)} tags")
    return TaggedSentence(tuple(words), tuple(tags) or None, language)
