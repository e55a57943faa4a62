"""VECO: variable encoder-decoder pre-training (ACL 2021), by transformers' conventions.

Importing this package registers the models with transformers' Auto classes.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
)

from veco import adapters, convert
from veco.classification import (
    VecoForMultipleChoice,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
)
from veco.config import VecoConfig
from veco.masked_lm import VecoForMaskedLM
from veco.model import VecoModel
from veco.pretraining import VecoForPreTraining, VecoForPreTrainingOutput
from veco.seq2seq import VecoForConditionalGeneration

AutoConfig.register("veco", VecoConfig)
AutoModel.register(VecoConfig, VecoModel)
AutoModelForMaskedLM.register(VecoConfig, VecoForMaskedLM)
AutoModelForPreTraining.register(VecoConfig, VecoForPreTraining)
AutoModelForSeq2SeqLM.register(VecoConfig, VecoForConditionalGeneration)
AutoModelForSequenceClassification.register(VecoConfig, VecoForSequenceClassification)
AutoModelForTokenClassification.register(VecoConfig, VecoForTokenClassification)
AutoModelForMultipleChoice.register(VecoConfig, VecoForMultipleChoice)
AutoModelForTextEncoding.register(VecoConfig, VecoModel)
AutoModelForQuestionAnswering.register(VecoConfig, VecoForQuestionAnswering)

__all__ = [
    "VecoConfig",
    "VecoForConditionalGeneration",
    "VecoForMaskedLM",
    "VecoForMultipleChoice",
    "VecoForPreTraining",
    "VecoForPreTrainingOutput",
    "VecoForQuestionAnswering",
    "VecoForSequenceClassification",
    "VecoForTokenClassification",
    "VecoModel",
    "adapters",
    "convert",
]
