"""The kinds of examples: pairs of sentences, tagged sentences, questions, and sets of sentences for retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

NOT_TRANSLATED = ("", "NS")


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
class SentencePair:
    """Two sentences and their label; None where the file has none, as in XTREME's own test files.

    `original` is the English pair beside a translation in its file.
    """

    text_a: str
    text_b: str
    label: str | None
    language: str
    original: tuple[str, str] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether neither sentence is missing: PAWS-X has rows that were not translated, empty or "NS"."""
        return all(text.strip() not in NOT_TRANSLATED for text in (self.text_a, self.text_b))


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


Example = SentencePair | TaggedSentence | Question


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
