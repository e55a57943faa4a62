"""The settings of cross-lingual training: the text that a model of a task is trained on."""

from __future__ import annotations

from enum import StrEnum


class Setting(StrEnum):
    """What a model is trained on; see `finetune.understanding.rows.training.training_text`."""

    TRANSFER = "transfer"  # the train file of the source language
    TRANSLATE_TRAIN_ALL = "translate-train-all"  # the source language and its translations
    TRANSLATE_TRAIN = "translate-train"  # the translations without the source language
    JOINT = "joint"  # the train files of all languages that have one
    INDIVIDUAL = "individual"  # the train file of one language, which is also the one of validation


WITH_TRANSLATIONS = (Setting.TRANSLATE_TRAIN_ALL, Setting.TRANSLATE_TRAIN)
WITH_PAIRS = (Setting.TRANSLATE_TRAIN_ALL,)  # that can be plugged in
