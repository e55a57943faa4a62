"""Models in use: encoders exported to fast engines, sentences and their search, labels without training, masks."""

from finetune.placement import Placement
from inference.search import SentenceIndex
from inference.sentences import SentenceEncoder

__all__ = ["Placement", "SentenceEncoder", "SentenceIndex"]
