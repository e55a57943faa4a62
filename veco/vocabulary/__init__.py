"""Reduce, extend or change the vocabulary of a model and its tokenizer: `python -m veco.vocabulary --help`.

For the ids that it keeps, the model computes the same as before.
"""

from veco.vocabulary.changing import change_vocabulary
from veco.vocabulary.cutting import cut_vocabulary
from veco.vocabulary.extending import extend_vocabulary

__all__ = ["change_vocabulary", "cut_vocabulary", "extend_vocabulary"]
