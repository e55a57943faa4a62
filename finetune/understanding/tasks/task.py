"""Definition of a task: its head, languages, labels and metrics, and where its splits are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

ENGLISH = "en"
UNTAGGED = "_"  # Universal Dependencies' mark of a word without a tag
DEV_SHARE = 10  # one paragraph in so many is dev where a task has no dev set, see Task.dev_from_train


class Head(StrEnum):
    """The kind of prediction, which decides the form of a task's examples, predictions and scores."""

    SEQUENCE = "sequence"  # a label for a SentencePair
    TOKEN = "token"  # a tag for each word of a TaggedSentence
    SPAN = "span"  # a span of the context of a Question
    MINING = "mining"  # the translations among two sets, many of whose sentences have none
    SEARCH = "search"  # the translation of every sentence


class Split(StrEnum):
    """The parts of a task. TRANSLATE_TRAIN is training text translated from English into another language."""

    TRAIN = "train"
    TRANSLATE_TRAIN = "translate-train"
    DEV = "dev"
    TEST = "test"


TRAINING = (Split.TRAIN, Split.TRANSLATE_TRAIN)


class AnswerTokens(StrEnum):
    """Rules by which answers are normalised and split into tokens before they are compared."""

    SQUAD = "squad"  # SQuAD v1.1's, the same in all languages
    MLQA = "mlqa"  # MLQA's, which differ by language


@dataclass(frozen=True)
class HubSplit:
    """A split of the hub's `google/xtreme`: {language}, {name} (Finnish) and {iso3} (fin) may stand in `config`."""

    config: str
    split: str
    one_config: bool = False  # the rows of all languages are in one configuration
    label_column: str = "label"  # of labels or tags


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    `files`: the patterns of a split's file names below the root; the first file that exists, plain or compressed,
    counts. {language} is the code that the task uses. A retrieval task has a file for each {side}: the language, or en;
    and one with {side} = gold.
    `dev_from_train`: the task has no development set of its own: one paragraph in DEV_SHARE of the training files is
    dev, and is not in train. (XTREME's script selects TyDiQA's model on what it then tests.)
    """

    name: str
    title: str  # in tables
    head: Head
    languages: tuple[str, ...]
    metrics: tuple[str, ...]
    main_metrics: tuple[str, ...]  # the mean of these is the score: precision and recall only explain F1
    files: Mapping[Split, tuple[str, ...]]
    hub: Mapping[Split, HubSplit]
    labels: tuple[str, ...] = ()  # in the order of the classes
    other_labels: tuple[str, ...] = ()  # occur in files, rarely, and are no class: ignored in training
    label_spellings: Mapping[str, str] = field(default_factory=dict)  # other spelling in files -> label
    answer_tokens: AnswerTokens = AnswerTokens.SQUAD
    aligned_files: tuple[str, ...] = ()  # patterns among `files` of retrieval whose rows are translations of each other
    dev_from_train: bool = False
    hub_without_dev: tuple[str, ...] = ()  # languages whose configuration on the hub has no validation split

    @property
    def is_retrieval(self) -> bool:
        """Whether the task compares embeddings, without any training."""
        return self.head in (Head.MINING, Head.SEARCH)
