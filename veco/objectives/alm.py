"""Alternating language modelling (ALM; Yang et al., AAAI 2020): masked language modelling of code-mixed sentences.

The paper replaces phrases by those that a phrase table aligns with them; here a lexicon says which words translate each
other. The share is our choice: what the paper has could not be verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from veco.objectives.objective import BILINGUAL, LEXICON, Count, Objective, Prediction, Route, Term
from veco.views import CODE_MIXED

HOSTS = ("x", "y")
ALTERNATING = "either"


@dataclass(frozen=True)
class AlternatingLanguageModelling(Objective):
    """Masked tokens of a sentence are predicted in which a `share` of the words gives way to their translations.

    These are taken from the other sentence of the pair, or with `any_translation` from the lexicon whatever the other
    sentence says. `host` is the sentence whose words are replaced: x, y, or either, one or the other at random. Masks
    are drawn on the mixture. A pair for which there is no lexicon, or whose words it does not have, stays unmixed.
    """

    name = "alm"
    kinds = (BILINGUAL,)
    needs = (LEXICON,)
    views = (CODE_MIXED,)
    terms = (Term("alm", (Count(CODE_MIXED),)),)
    predictions = (Prediction("alm", Route(CODE_MIXED)),)

    share: float = 0.3
    any_translation: bool = False
    host: str = ALTERNATING

    def problems(self) -> list[str]:
        hosts = (*HOSTS, ALTERNATING)
        return [
            *([] if 0 < self.share <= 1 else [f"share {self.share} must be above 0, and at most 1"]),
            *([] if self.host in hosts else [f"host {self.host!r} must be one of {', '.join(hosts)}"]),
        ]
