"""The nine tasks of XTREME: files, heads, labels, metrics and languages.

XTREME: Hu et al., ICML 2020; languages, file names and metrics as in its download scripts and its `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune.understanding.tasks.task import UNTAGGED, AnswerTokens, Head, HubSplit, Split, Task

_ACCURACY = ("accuracy",)
_F1 = ("f1", "precision", "recall")
_EXACT_MATCH_AND_F1 = ("exact_match", "f1")

_SQUAD_TRANSLATIONS = (
    "squad/translated/train-v1.1.{language}.json",
    "squad/translate-train/squad.translate.train.en-{language}.json",
)
_SQUAD_TRAIN = "squad/train-v1.1.json"
_SQUAD_DEV = "squad/dev-v1.1.json"
_LASER_TATOEBA = "tatoeba/tatoeba.{language}-en.{side}"


def _tsv(name: str, *translations: str) -> dict[Split, tuple[str, ...]]:
    """The files of a task with a TSV file for each split and language."""
    return {
        Split.TRAIN: (f"{name}/train-{{language}}.tsv",),
        Split.TRANSLATE_TRAIN: translations,
        Split.DEV: (f"{name}/dev-{{language}}.tsv",),
        Split.TEST: (f"{name}/test-{{language}}.tsv",),
    }


def _hub(config: str, label_column: str = "label") -> dict[Split, HubSplit]:
    """The splits of a task that has them all in the same configuration."""
    names = {Split.TRAIN: "train", Split.DEV: "validation", Split.TEST: "test"}
    return {split: HubSplit(config, name, label_column=label_column) for split, name in names.items()}


def _codes(codes: str) -> tuple[str, ...]:
    return tuple(codes.split())


_TASKS = (
    Task(
        name="xnli",
        title="XNLI",
        head=Head.SEQUENCE,
        metrics=_ACCURACY,
        main_metrics=_ACCURACY,
        labels=("contradiction", "entailment", "neutral"),
        label_spellings={"contradictory": "contradiction"},  # in the machine translations of MultiNLI
        languages=_codes("ar bg de el en es fr hi ru sw th tr ur vi zh"),
        files=_tsv("xnli", "xnli/train-{language}.tsv", "xnli/translate-train/en-{language}-translated.tsv"),
        # The hub has the tests and dev sets only: MultiNLI is a data set of its own.
        hub={
            Split.DEV: HubSplit("XNLI", "validation", one_config=True, label_column="gold_label"),
            Split.TEST: HubSplit("XNLI", "test", one_config=True, label_column="gold_label"),
        },
    ),
    Task(
        name="pawsx",
        title="PAWS-X",
        head=Head.SEQUENCE,
        metrics=_ACCURACY,
        main_metrics=_ACCURACY,
        labels=("0", "1"),
        languages=_codes("de en es fr ja ko zh"),
        files=_tsv("pawsx", "pawsx/train-{language}.tsv", "pawsx/translate-train/en-{language}-translated.tsv"),
        hub={**_hub("PAWS-X.{language}"), Split.TRANSLATE_TRAIN: HubSplit("PAWS-X.{language}", "train")},
    ),
    Task(
        name="udpos",
        title="POS",
        head=Head.TOKEN,
        metrics=_F1,
        main_metrics=("f1",),
        labels=_codes("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"),
        other_labels=(UNTAGGED,),
        languages=_codes(
            "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
        ),
        files=_tsv("udpos", "udpos/translate-train/{language}.tsv"),
        hub=_hub("udpos.{name}", "pos_tags"),
        hub_without_dev=("kk", "th", "tl", "yo"),
    ),
    Task(
        name="panx",
        title="NER",
        head=Head.TOKEN,
        metrics=_F1,
        main_metrics=("f1",),
        labels=_codes("B-LOC B-ORG B-PER I-LOC I-ORG I-PER O"),
        languages=_codes(
            "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw yo my "
            "zh kk tr et fi hu"
        ),
        files=_tsv("panx", "panx/translate-train/{language}.tsv"),
        hub=_hub("PAN-X.{language}", "ner_tags"),
    ),
    Task(
        name="xquad",
        title="XQuAD",
        head=Head.SPAN,
        metrics=_EXACT_MATCH_AND_F1,
        main_metrics=_EXACT_MATCH_AND_F1,
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
        metrics=_EXACT_MATCH_AND_F1,
        main_metrics=_EXACT_MATCH_AND_F1,
        answer_tokens=AnswerTokens.MLQA,
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
        metrics=_EXACT_MATCH_AND_F1,
        main_metrics=_EXACT_MATCH_AND_F1,
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
        metrics=_F1,
        main_metrics=("f1",),
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
        metrics=_ACCURACY,
        main_metrics=_ACCURACY,
        languages=_codes(
            "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et "
            "fi hu"
        ),
        files={Split.TEST: (_LASER_TATOEBA, "tatoeba/{language}-en.{side}")},
        aligned_files=(_LASER_TATOEBA,),  # XTREME's script sorts the English side to hide the pairs
        hub={Split.TEST: HubSplit("tatoeba.{iso3}", "validation")},
    ),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _TASKS}


def task_named(name: str) -> Task:
    """The task of that name; raises ValueError that lists all names."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; XTREME has {', '.join(TASKS)}")
    return TASKS[name]
