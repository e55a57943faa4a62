"""An exported encoder that is called as transformers' models are, by whatever reads the states of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from finetune.exported.engines import Engine, open_engine
from finetune.exported.settings import ExportedSettings


class ExportedEncoder:
    """States of one layer from an engine on the CPU; `config` has its `num_hidden_layers` and `hidden_size`."""

    device = torch.device("cpu")

    def __init__(self, engine: Engine, settings: ExportedSettings) -> None:
        self.engine, self.settings = engine, settings
        self.config = PreTrainedConfig(num_hidden_layers=settings.layer, hidden_size=settings.hidden_size)

    @classmethod
    def load(cls, directory: Path) -> ExportedEncoder:
        """The encoder in a directory that `inference.export_encoder` made. Raises ValueError for broken files."""
        settings = ExportedSettings.read(directory)
        settings.check_files(directory)
        return cls(open_engine(settings.engine, directory), settings)

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool = False, **others: Any
    ) -> BaseModelOutput:
        """The states (B, T, D) of the exported layer, meaningless at padding; of `hidden_states` all others are None.

        Raises ValueError where anything else is asked for, such as attention weights.
        """
        if wanted := [name for name, value in others.items() if value is not None and value is not False]:
            raise ValueError(f"an exported encoder computes the states of its layer alone, and takes no {wanted[0]}")
        states = torch.from_numpy(self.engine.states(input_ids.numpy(), attention_mask.numpy()))
        below = (None,) * self.settings.layer
        return BaseModelOutput(states, hidden_states=(*below, states) if output_hidden_states else None)
