"""The class of a head's model: VECO's own for VECO and XLM-R, transformers' for any other encoder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from transformers import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from veco import (
    VecoConfig,
    VecoForMultipleChoice,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
)
from veco.classification import VecoClassifier

# VECO's class of a head -> {configuration class: transformers' class}.
OTHER_CLASSES: Mapping[type[VecoClassifier], Mapping[type[PreTrainedConfig], type[PreTrainedModel]]] = MappingProxyType(
    {
        VecoForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        VecoForTokenClassification: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        VecoForQuestionAnswering: MODEL_FOR_QUESTION_ANSWERING_MAPPING,
        VecoForMultipleChoice: MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    }
)


def model_class_of(head_class: type[VecoClassifier], config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that does for an encoder what `head_class` does for VECO; raises ValueError if there is none."""
    if isinstance(config, VecoConfig):
        return head_class
    classes = OTHER_CLASSES.get(head_class, {})
    if type(config) not in classes:
        head = head_class.__name__.removeprefix("VecoFor")
        raise ValueError(f"transformers has no model of a {config.model_type} for {head}; expected another encoder")
    return classes[type(config)]


def is_plugged_in(config: PreTrainedConfig) -> bool:
    """Whether the model of a configuration predicts from pairs, as only VECO can."""
    return isinstance(config, VecoConfig) and config.plug_in
