"""What the tasks of XTREME consist of: pairs of sentences, tagged sentences, questions, sentences to be matched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

NOT_TRANSLATED = ("", "NS")


class HiddenLabelsError(ValueError):
    """A test whose labels are hidden, as in XTREME's own files."""


@contextmanager
def wrong_labels_of(where: str) -> Iterator[None]:
    """Put `where` before the ValueErrors of a block, but for hidden labels: these are no mistake of a file."""
    try:
        yield
    except HiddenLabelsError:
        raise
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@dataclass(frozen=True, slots=True)
class SentencePair:
    """Two sentences and their label; None where the file has none, as in XTREME's own test files.

    `original` is the English pair that a translation tells it is of.
    """

    text_a: str
    text_b: str
    label: str | None
    language: str
    original: tuple[str, str] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether both sentences are there: PAWS-X has rows that were not translated, empty or "NS"."""
        return all(text.strip() not in NOT_TRANSLATED for text in (self.text_a, self.text_b))


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """The words of a sentence and a tag for each; None where the file has none. A word may hold spaces."""

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

    Readers give the starts as the file has them, right or wrong: see `finetune.understanding.readers.answers.located`.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    language: str


Example = SentencePair | TaggedSentence | Question


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Sentences of a language and of English, and which of them translate each other; `gold` None where hidden.

    `gold` holds pairs (source id, target id). In Tatoeba ids are row numbers from 0, as its prediction files have them.
    """

    language: str
    source_ids: Sequence[str]
    source_sentences: Sequence[str]
    target_ids: Sequence[str]
    target_sentences: Sequence[str]  # English
    gold: frozenset[tuple[str, str]] | None
