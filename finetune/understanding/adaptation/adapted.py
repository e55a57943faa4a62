"""The model that an engine trains, and the whole model of its weights, which need not be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from finetune.understanding.rows.paired_rows import PairedRows
from training.engine.interface import Ranks


class Adapted:
    """A model whose weights learn where they require a gradient."""

    model: Any  # what the engine trains: it has the `config` and takes the arguments of the whole model

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def prepared(self, sets: Sequence[PairedRows], ranks: Ranks) -> list[PairedRows]:
        """The rows of training and of each evaluation as `model` takes them; every rank calls it."""
        return list(sets)

    def whole(self, weights: Mapping[str, Tensor]) -> tuple[PreTrainedModel, dict[str, Tensor]]:
        """A model to save, and its weights: they are made of those that the engine has."""
        return self.model, dict(weights)

    def write_beside(self, weights: Mapping[str, Tensor], checkpoint: Path) -> None:
        """Write what a checkpoint has beside the whole model."""

    def facts(self) -> dict[str, Any]:
        """The facts for the first line of a run."""
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        total = sum(parameter.numel() for parameter in self.model.parameters())
        return {} if trained == total else {"trained parameters": trained}
