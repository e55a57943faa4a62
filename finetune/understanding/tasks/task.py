"""Definition of a task: its head, languages, labels and metrics, and where its splits are.

Tasks are YAML files: see `finetune.understanding.tasks.task_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

UNTAGGED = "_"  # Universal Dependencies' mark of a word without a tag
DEV_SHARE = 10  # one paragraph in so many is dev where a task has no dev set, see Task.dev_from_train


class Head(StrEnum):
    """The kind of prediction, which decides the form of a task's examples, predictions and scores."""

    SEQUENCE = "sequence"  # a label for one or two texts
    MULTILABEL = "multilabel"  # any number of labels for one or two texts
    REGRESSION = "regression"  # a number for one or two texts
    CONTEXT_WORD = "context_word"  # a label for a word of each of two texts, such as: is it used in the same sense?
    RANKING = "ranking"  # a score for a query with each of its candidates
    CHOICE = "choice"  # the right one of several continuations of a text
    TOKEN = "token"  # a tag for each word of a TaggedSentence
    SPAN = "span"  # a span of the context of a Question
    MINING = "mining"  # the translations among two sets, many of whose sentences have none
    SEARCH = "search"  # the translation of every sentence


OF_TEXTS = (Head.SEQUENCE, Head.MULTILABEL, Head.REGRESSION, Head.CONTEXT_WORD, Head.RANKING)  # examples: LabelledText
RETRIEVAL = (Head.MINING, Head.SEARCH)  # embeddings are compared, without any training
WITH_LABELS = (Head.SEQUENCE, Head.MULTILABEL, Head.CONTEXT_WORD, Head.TOKEN)  # heads whose classes have names

# Of each head, the metrics that a task can name.
METRICS: Mapping[Head, tuple[str, ...]] = {
    Head.SEQUENCE: ("accuracy", "f1", "macro_f1", "matthews"),
    Head.MULTILABEL: ("micro_f1", "macro_f1", "exact_match"),
    Head.REGRESSION: ("pearson", "spearman"),
    Head.CONTEXT_WORD: ("accuracy", "f1", "macro_f1"),
    Head.RANKING: ("ndcg", "map"),
    Head.CHOICE: ("accuracy",),
    Head.TOKEN: ("f1", "precision", "recall", "accuracy"),
    Head.SPAN: ("exact_match", "f1"),
    Head.MINING: ("f1", "precision", "recall"),
    Head.SEARCH: ("accuracy", "map_at_20", "map", "mrr_at_20"),
}
OF_POOLS = METRICS[Head.SEARCH][1:]  # those of a task with `pool`, which has no accuracy
# Of each head, the fields of an example that must have a column, and those that may; SQuAD's form has no columns.
_TEXT_FIELDS = (("text_a",), ("text_b", "label", "id"))
FIELDS: Mapping[Head, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Head.SEQUENCE: _TEXT_FIELDS,
    Head.MULTILABEL: _TEXT_FIELDS,
    Head.REGRESSION: _TEXT_FIELDS,
    # The word as characters, start and end or a range such as 12-17; or both as numbers of words from 0, such as 2-1.
    Head.CONTEXT_WORD: (
        ("text_a", "text_b"),
        ("start_a", "end_a", "start_b", "end_b", "range_a", "range_b", "words", "label", "id"),
    ),
    Head.RANKING: (("text_a", "text_b"), ("group", "label", "id")),
    Head.CHOICE: (("text_a",), ("question", "label", "id")),
    Head.TOKEN: (("word",), ("tag",)),
    Head.SPAN: (("question", "context"), ("id", "answers", "starts")),
    # Of files with a sentence a line, and of the hub's rows, which are pairs.
    Head.MINING: ((), ("id", "text", "source", "target")),
    # The label of a query in a pool: the ids of its right candidates.
    Head.SEARCH: ((), ("id", "text", "source", "target", "label")),
}


class Split(StrEnum):
    """The parts of a task.

    TRANSLATE_TRAIN is training text translated from the task's first training language into another one.
    """

    TRAIN = "train"
    TRANSLATE_TRAIN = "translate-train"
    DEV = "dev"
    TEST = "test"


TRAINING = (Split.TRAIN, Split.TRANSLATE_TRAIN)


class AnswerTokens(StrEnum):
    """Rules by which answers are normalised and split into tokens before they are compared."""

    SQUAD = "squad"  # SQuAD v1.1's, the same in all languages
    MLQA = "mlqa"  # MLQA's, which differ by language


class FileKind(StrEnum):
    """The forms of files."""

    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"  # an object a line
    JSON = "json"  # a list of objects
    PARQUET = "parquet"
    CONLL = "conll"  # a word a line, a blank line between sentences
    SQUAD = "squad"  # the JSON of SQuAD v1.1
    LINES = "lines"  # a text a line


Column = str | int  # by name, or by number from 0; negative numbers count from the last column
Columns = tuple[Column, ...]  # whose texts are joined by a space


@dataclass(frozen=True, kw_only=True)
class Format:
    """The form of a file, and the column of each field of an example.

    `header`: the first line has the names of the columns. In CoNLL files a column is a number, or the name of a comment
    such as "intent" of `# intent = …`. Rows have the columns that the header or the form names; a label in the last
    column may be missing, as in tests.
    """

    kind: FileKind
    columns: Mapping[str, Columns] = field(default_factory=dict)
    choices: tuple[Column, ...] = ()  # the columns of the choices of Head.CHOICE
    header: bool = False
    delimiter: str = ","  # between the columns of CSV
    quoted: bool = False  # TSV as Python's csv writes it, where a field with a double quote is quoted
    more_columns: bool = False  # rows may have further columns
    originals: bool = False  # rows may begin with two more columns, the pair of texts that was translated
    comments: bool = False  # lines of CoNLL files before a sentence that begin with # are comments
    records: str = ""  # the key of JSON under which the list of objects is
    separator: str = ","  # between the labels of Head.MULTILABEL in one column


@dataclass(frozen=True, kw_only=True)
class FilePlace:
    """The pattern of a file's name below the root, such as `xnli/test-{language}.tsv`, and its form.

    {language} is the code that the task uses, {code} that of `Task.codes`, {side} for retrieval the language, the
    other language, or gold. The rows of the files `further` follow those of the first. `labels`, for labels that are in
    a file of their own, is joined by the field `id`, or by row without ids.
    """

    path: str
    further: tuple[str, ...] = ()
    format: Format
    labels: FilePlace | None = None


@dataclass(frozen=True, kw_only=True)
class HubPlace:
    """A split of a data set of the hub; {language} and {code} may stand in `config`.

    Where the rows of all languages are in one configuration, `language_column` names the column with the language, or
    `id_prefix` begins the ids of a language's rows.
    """

    config: str
    split: str
    columns: Mapping[str, Columns] = field(default_factory=dict)
    choices: tuple[Column, ...] = ()  # as in `Format`
    language_column: str = ""
    id_prefix: str = ""
    without: tuple[str, ...] = ()  # languages whose configuration has no such split

    @property
    def has_all_languages(self) -> bool:
        """Whether the rows of all languages are in one configuration."""
        return bool(self.language_column or self.id_prefix)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    `files`: the places of a split's file; the first that exists, plain or compressed, counts. A retrieval task has a
    file for each {side}.
    `dev_from_train`: the task has no development set of its own: one text in DEV_SHARE of the training files is dev,
    and is not in train. (XTREME's script selects TyDiQA's model on what it then tests.)
    """

    name: str
    title: str  # in tables
    head: Head
    languages: tuple[str, ...]  # of dev and test
    train_languages: tuple[str, ...]
    metrics: tuple[str, ...]
    main_metrics: tuple[str, ...]  # the mean of these is the score: precision and recall only explain F1
    files: Mapping[Split, tuple[FilePlace, ...]] = field(default_factory=dict)
    hub: Mapping[Split, HubPlace] = field(default_factory=dict)
    labels: tuple[str, ...] = ()  # in the order of the classes; empty until they are found in train
    other_labels: tuple[str, ...] = ()  # occur in files, rarely, and are no class: ignored in training
    untranslated: tuple[str, ...] = ()  # stand in training files for a text that was not translated; OF_TEXTS
    label_spellings: Mapping[str, str] = field(default_factory=dict)  # other spelling in files -> label
    positive_label: str = ""  # the one of which "f1" of two classes is computed
    codes: Mapping[str, str] = field(default_factory=dict)  # language -> how files or the hub name it, as {code}
    answer_tokens: AnswerTokens = AnswerTokens.SQUAD
    phrases: Mapping[str, str] = field(default_factory=dict)  # Head.CHOICE: value of `question` -> text after `text_a`
    aligned_files: tuple[str, ...] = ()  # patterns among `files` of retrieval whose rows are translations of each other
    dev_from_train: bool = False
    pool: bool = False  # Head.SEARCH: in one pool of candidates in all languages
    candidates: str = ""  # pattern of the file of a pool's candidates, where they are not in the files of the queries
    prediction_file: str = ""  # pattern with {task}, {language}; empty = {task}/test-{language}.tsv or .json
    source: str = ""  # where the facts of the file come from

    @property
    def is_retrieval(self) -> bool:
        """Whether the task compares embeddings, without any training."""
        return self.head in RETRIEVAL

    @property
    def source_language(self) -> str:
        """The language of the training text, from which translations are made."""
        return self.train_languages[0]

    def code(self, language: str) -> str:
        """The name of a language in {code} of patterns."""
        return self.codes.get(language, language)
