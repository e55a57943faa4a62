"""The nine tasks of XTREME in one table: files, head, labels, metrics, languages.

XTREME: Hu et al., ICML 2020; languages, file names and metrics as in its download scripts and its `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from data_tools.text.languages import find_language

ENGLISH = "en"


class Head(StrEnum):
    """What a model predicts with, and with it the form of a task's examples, predictions and scores."""

    SEQUENCE = "sequence"  # a label for a SentencePair
    TOKEN = "token"  # a tag for each word of a TaggedSentence
    SPAN = "span"  # a span of the context of a Question
    MINING = "mining"  # translations among two sets, many of whose sentences have none
    SEARCH = "search"  # the translation of every sentence


ACCURACY = ("accuracy",)
F1 = ("f1", "precision", "recall")
EXACT_MATCH_AND_F1 = ("exact_match", "f1")
METRICS: Mapping[Head, tuple[str, ...]] = {
    Head.SEQUENCE: ACCURACY,
    Head.TOKEN: F1,
    Head.SPAN: EXACT_MATCH_AND_F1,
    Head.MINING: F1,
    Head.SEARCH: ACCURACY,
}


class Split(StrEnum):
    """Parts of a task. TRANSLATE_TRAIN is training text translated from English, of any language but English."""

    TRAIN = "train"
    TRANSLATE_TRAIN = "translate-train"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True)
class HubSplit:
    """Where the hub's `google/xtreme` has a split: {language}, {name} (Finnish) and {iso3} (fin) may stand in `config`.

    `one_config` says that the rows of all languages stand together, and a language's must be picked out.
    """

    config: str
    split: str
    one_config: bool = False


@dataclass(frozen=True)
class Task:
    """One task.

    `files`: where a split is, below the root; the first that exists, plain or compressed, counts. {language} stands for
    the code of XTREME. A retrieval task has a file for {side}, the language or en, and one with {side} = gold.
    `dev_from_train`: the task has no development set of its own: one paragraph in DEV_SHARE of the training files is
    dev, and is not in train. XTREME's script selects TyDiQA's model on what it then tests.
    """

    name: str
    head: Head
    languages: tuple[str, ...]
    files: Mapping[Split, tuple[str, ...]]
    hub: Mapping[Split, HubSplit]
    labels: tuple[str, ...] = ()  # in the order of the classes
    other_labels: tuple[str, ...] = ()  # stand in files, rarely, and are no class: nothing to learn from
    title: str = ""  # what the papers call it
    dev_from_train: bool = False
    hub_without_dev: tuple[str, ...] = ()  # languages whose configuration on the hub has no validation split

    @property
    def metrics(self) -> tuple[str, ...]:
        """What its predictions are scored by, under the names of XTREME's evaluate.py."""
        return METRICS[self.head]

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """Those whose mean is the score of the task: precision and recall only explain F1."""
        return ("f1",) if self.metrics == F1 else self.metrics

    @property
    def prediction_suffix(self) -> str:
        """The suffix of its prediction files, `{task}/test-{language}{suffix}`."""
        return ".json" if self.head is Head.SPAN else ".tsv"

    @property
    def is_retrieval(self) -> bool:
        """Whether it has no training: embeddings are compared."""
        return self.head in (Head.MINING, Head.SEARCH)


UNTAGGED = "_"  # UD's mark of a word without a tag
# One paragraph in so many is dev where a task has no dev set (see Task.dev_from_train).
DEV_SHARE = 10

_SQUAD_TRANSLATIONS = (
    "squad/translated/train-v1.1.{language}.json",
    "squad/translate-train/squad.translate.train.en-{language}.json",
)
_SQUAD_TRAIN = "squad/train-v1.1.json"
_SQUAD_DEV = "squad/dev-v1.1.json"


def _tsv(name: str, *translations: str) -> dict[Split, tuple[str, ...]]:
    """The files of a task with a table for each split and language."""
    return {
        Split.TRAIN: (f"{name}/train-{{language}}.tsv",),
        Split.TRANSLATE_TRAIN: translations,
        Split.DEV: (f"{name}/dev-{{language}}.tsv",),
        Split.TEST: (f"{name}/test-{{language}}.tsv",),
    }


def _hub(config: str, one_config: bool = False) -> dict[Split, HubSplit]:
    """The splits of a task that has them all under one configuration."""
    names = {Split.TRAIN: "train", Split.DEV: "validation", Split.TEST: "test"}
    return {split: HubSplit(config, name, one_config) for split, name in names.items()}


def _codes(codes: str) -> tuple[str, ...]:
    return tuple(codes.split())


_TABLE = (
    Task(
        name="xnli",
        title="XNLI",
        head=Head.SEQUENCE,
        labels=("contradiction", "entailment", "neutral"),
        languages=_codes("ar bg de el en es fr hi ru sw th tr ur vi zh"),
        files=_tsv("xnli", "xnli/train-{language}.tsv", "xnli/translate-train/en-{language}-translated.tsv"),
        # The hub has the tests and dev sets only: MultiNLI is a data set of its own.
        hub={
            Split.DEV: HubSplit("XNLI", "validation", one_config=True),
            Split.TEST: HubSplit("XNLI", "test", one_config=True),
        },
    ),
    Task(
        name="pawsx",
        title="PAWS-X",
        head=Head.SEQUENCE,
        labels=("0", "1"),
        languages=_codes("de en es fr ja ko zh"),
        files=_tsv("pawsx", "pawsx/train-{language}.tsv", "pawsx/translate-train/en-{language}-translated.tsv"),
        hub={**_hub("PAWS-X.{language}"), Split.TRANSLATE_TRAIN: HubSplit("PAWS-X.{language}", "train")},
    ),
    Task(
        name="udpos",
        title="POS",
        head=Head.TOKEN,
        labels=_codes("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"),
        other_labels=(UNTAGGED,),
        languages=_codes(
            "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
        ),
        files=_tsv("udpos", "udpos/translate-train/{language}.tsv"),
        hub=_hub("udpos.{name}"),
        hub_without_dev=("kk", "th", "tl", "yo"),
    ),
    Task(
        name="panx",
        title="NER",
        head=Head.TOKEN,
        labels=_codes("B-LOC B-ORG B-PER I-LOC I-ORG I-PER O"),
        languages=_codes(
            "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw yo my "
            "zh kk tr et fi hu"
        ),
        files=_tsv("panx", "panx/translate-train/{language}.tsv"),
        hub=_hub("PAN-X.{language}"),
    ),
    Task(
        name="xquad",
        title="XQuAD",
        head=Head.SPAN,
        languages=_codes("en es de el ru tr ar vi th zh hi"),
        files={
            Split.TRAIN: (_SQUAD_TRAIN,),
            Split.TRANSLATE_TRAIN: _SQUAD_TRANSLATIONS,
            Split.DEV: (_SQUAD_DEV,),
            Split.TEST: ("xquad/xquad.{language}.json",),
        },
        hub={
            Split.TRAIN: HubSplit("SQuAD", "train"),
            Split.DEV: HubSplit("SQuAD", "validation"),
            Split.TEST: HubSplit("XQuAD.{language}", "validation"),
        },
    ),
    Task(
        name="mlqa",
        title="MLQA",
        head=Head.SPAN,
        languages=_codes("en es de ar hi vi zh"),
        files={
            Split.TRAIN: (_SQUAD_TRAIN,),
            Split.TRANSLATE_TRAIN: _SQUAD_TRANSLATIONS,
            Split.DEV: ("mlqa/MLQA_V1/dev/dev-context-{language}-question-{language}.json",),
            Split.TEST: ("mlqa/MLQA_V1/test/test-context-{language}-question-{language}.json",),
        },
        hub={
            Split.TRAIN: HubSplit("SQuAD", "train"),
            Split.DEV: HubSplit("MLQA.{language}.{language}", "validation"),
            Split.TEST: HubSplit("MLQA.{language}.{language}", "test"),
        },
    ),
    Task(
        name="tydiqa",
        title="TyDiQA",
        head=Head.SPAN,
        languages=_codes("en ar bn fi id ko ru sw te"),
        files={
            Split.TRAIN: ("tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",),
            Split.TRANSLATE_TRAIN: ("tydiqa/translate-train/tydiqa.translate.train.en-{language}.json",),
            Split.DEV: ("tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",),
            Split.TEST: ("tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{language}.dev.json",),
        },
        hub={
            Split.TRAIN: HubSplit("tydiqa", "train", one_config=True),
            Split.DEV: HubSplit("tydiqa", "train", one_config=True),
            Split.TEST: HubSplit("tydiqa", "validation", one_config=True),
        },
        dev_from_train=True,
    ),
    Task(
        name="bucc2018",
        title="BUCC",
        head=Head.MINING,
        languages=_codes("de fr ru zh"),
        files={
            Split.DEV: ("bucc2018/{language}-en.dev.{side}",),
            Split.TEST: ("bucc2018/{language}-en.test.{side}",),
        },
        # The hub's rows are the gold pairs alone, without the sentences that have no translation.
        hub={
            Split.DEV: HubSplit("bucc18.{language}", "validation"),
            Split.TEST: HubSplit("bucc18.{language}", "test"),
        },
    ),
    Task(
        name="tatoeba",
        title="Tatoeba",
        head=Head.SEARCH,
        languages=_codes(
            "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et "
            "fi hu"
        ),
        # The first is LASER's, whose rows are pairs; XTREME's script sorts the English side to hide them.
        files={Split.TEST: ("tatoeba/tatoeba.{language}-en.{side}", "tatoeba/{language}-en.{side}")},
        hub={Split.TEST: HubSplit("tatoeba.{iso3}", "validation")},
    ),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _TABLE}


def languages_named(names: str, known: Iterable[str]) -> list[str]:
    """The languages of a list such as "de,fr", each once: by any code, and here as XTREME spells those it knows."""
    spelt = list(known)
    written = (name.strip() for name in names.split(","))
    return list(dict.fromkeys(find_language(name, spelt) or name for name in written))


def task_named(name: str) -> Task:
    """The task of that name; raises ValueError that lists all."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; XTREME has {', '.join(TASKS)}")
    return TASKS[name]
