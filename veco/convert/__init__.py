"""Conversion of other checkpoints to VECO and back, by explicit key tables that cover all weights of both sides."""

from veco.convert.encoders import from_encoder, to_encoder
from veco.convert.fairseq import from_fairseq
from veco.convert.xlm_roberta import from_xlm_roberta, to_xlm_roberta, xlm_roberta_names

__all__ = [
    "from_encoder",
    "from_fairseq",
    "from_xlm_roberta",
    "to_encoder",
    "to_xlm_roberta",
    "xlm_roberta_names",
]
