"""Reduce the vocabulary of a model and its tokenizer to a corpus, or extend it: `python -m veco.vocabulary --help`.

For the ids that it keeps, the model computes the same as before.
"""

from veco.vocabulary.cutting import cut_vocabulary
from veco.vocabulary.extending import extend_vocabulary

__all__ = ["cut_vocabulary", "extend_vocabulary"]
