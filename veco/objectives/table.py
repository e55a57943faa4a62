"""The objectives by name."""

from __future__ import annotations

from veco.objectives.alm import AlternatingLanguageModelling
from veco.objectives.ca_mlm import CrossAttentionMaskedLanguageModelling
from veco.objectives.clm import CausalLanguageModelling
from veco.objectives.contrast import SentenceContrast
from veco.objectives.hictl import HierarchicalContrast
from veco.objectives.mlm import MaskedLanguageModelling
from veco.objectives.objective import Objective
from veco.objectives.tlm import TranslationLanguageModelling
from veco.objectives.veco2 import SentenceAndWordContrast

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective
    for objective in (
        CrossAttentionMaskedLanguageModelling,
        MaskedLanguageModelling,
        TranslationLanguageModelling,
        CausalLanguageModelling,
        SentenceContrast,
        AlternatingLanguageModelling,
        HierarchicalContrast,
        SentenceAndWordContrast,
    )
}
