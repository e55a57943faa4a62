"""The kinds of examples: labelled texts, choices, tagged sentences, questions, and sets of sentences for retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

# A class, several classes, or a number.
Label = str | tuple[str, ...] | float


class HiddenLabelsError(ValueError):
    """A test whose labels are hidden, as in XTREME's own files."""


@contextmanager
def wrong_labels_of(where: str) -> Iterator[None]:
    """Prefix `where` to the ValueErrors of a block, except for hidden labels, which are no error of a file."""
    try:
        yield
    except HiddenLabelsError:
        raise
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One or two texts and their label; None where the file has none, as in XTREME's own test files.

    `text_b` is None for a task of single texts. `original` is the English pair beside a translation in its file.
    `words`, of Head.CONTEXT_WORD, are the characters [start, end) of the word in each text. `group`, of Head.RANKING,
    is the same for all candidates of a query.
    """

    text_a: str
    text_b: str | None
    label: Label | None
    language: str
    original: tuple[str, str] | None = None
    words: tuple[tuple[int, int], ...] = ()
    group: str = ""
    id: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The one or two texts."""
        return (self.text_a,) if self.text_b is None else (self.text_a, self.text_b)

    @property
    def is_complete(self) -> bool:
        """Whether no text is missing: one that was not translated is empty, see `Task.untranslated`."""
        return all(text.strip() for text in self.texts)


@dataclass(frozen=True, slots=True)
class Choices:
    """A text and its possible continuations; `label` is the number of the right one, None where the file hides it."""

    text: str
    choices: tuple[str, ...]
    label: int | None
    language: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """The words of a sentence and a tag for each; None where the file has none. A word may contain spaces."""

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    language: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a span: context[start : start + len(text)], in characters (code points, as Python counts)."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question over a context, and its accepted answers; none where a test file hides them.

    Readers keep the starts of the file, right or wrong: see `finetune.understanding.rows.answer_spans.locate_answers`.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    language: str


Example = LabelledText | Choices | TaggedSentence | Question


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Sentences of a language and of English, and which of them translate each other; `gold` is None where hidden.

    `gold` holds pairs (source id, target id). In Tatoeba ids are row numbers from 0, as in its prediction files.
    """

    language: str
    source_ids: Sequence[str]
    source_sentences: Sequence[str]
    target_ids: Sequence[str]
    target_sentences: Sequence[str]  # English
    gold: frozenset[tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class PooledSet:
    """Queries in a language, and a pool of candidates in all languages; `gold` is None where hidden.

    `gold` has the ids of the right candidates of each query, one or more.
    """

    language: str  # of the queries
    query_ids: Sequence[str]
    queries: Sequence[str]
    candidate_ids: Sequence[str]
    candidates: Sequence[str]
    candidate_languages: Sequence[str]  # empty where they are not known
    gold: Mapping[str, Sequence[str]] | None
