"""The objectives by name."""

from __future__ import annotations

from veco.objectives.alm import AlternatingLanguageModelling
from veco.objectives.btmlm import BackTranslationMaskedLanguageModelling
from veco.objectives.ca_mlm import CrossAttentionMaskedLanguageModelling
from veco.objectives.clm import CausalLanguageModelling
from veco.objectives.clpc import ParaphraseClassification
from veco.objectives.clsa import SentenceAlignment
from veco.objectives.clwa import WordAlignment
from veco.objectives.clwr import WordRecovery
from veco.objectives.contrast import SentenceContrast
from veco.objectives.cross_mask_mlm import CrossMaskLanguageModelling
from veco.objectives.distil import Distillation
from veco.objectives.hictl import HierarchicalContrast
from veco.objectives.mbart import Denoising
from veco.objectives.mlm import MaskedLanguageModelling
from veco.objectives.objective import Objective
from veco.objectives.self_alignment import SelfAlignment
from veco.objectives.tlm import TranslationLanguageModelling
from veco.objectives.veco2 import SentenceAndWordContrast
from veco.objectives.xlco import CrossLingualContrast

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
        Denoising,
        SentenceAlignment,
        CrossLingualContrast,
        CrossMaskLanguageModelling,
        BackTranslationMaskedLanguageModelling,
        WordAlignment,
        WordRecovery,
        ParaphraseClassification,
        SelfAlignment,
        Distillation,
    )
}
