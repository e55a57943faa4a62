"""The objectives by name."""

from __future__ import annotations

from veco.objectives.ca_mlm import CrossAttentionMaskedLanguageModelling
from veco.objectives.clm import CausalLanguageModelling
from veco.objectives.contrast import SentenceContrast
from veco.objectives.mlm import MaskedLanguageModelling
from veco.objectives.objective import Objective
from veco.objectives.tlm import TranslationLanguageModelling

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective
    for objective in (
        CrossAttentionMaskedLanguageModelling,
        MaskedLanguageModelling,
        TranslationLanguageModelling,
        CausalLanguageModelling,
        SentenceContrast,
    )
}
