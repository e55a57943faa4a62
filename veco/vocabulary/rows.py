"""The rows of a model's vocabulary: embeddings, output projections and their biases, renumbered together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from veco.masked_lm import VecoLMHead
from veco.model import VecoEmbeddings
from veco.vocabulary_loss import never_chosen

Model = TypeVar("Model", bound=PreTrainedModel)
# For each id of a new vocabulary, the old ids whose mean becomes its row; if there are none, it is drawn.
Sources = Sequence[Sequence[int]]


def reindex(model: Model, sources: Sources, seed: int = 0) -> Model:
    """Renumber the ids of `model`, in place: row i becomes the mean of the old rows `sources[i]`, or drawn if none.

    These are the rows of token embeddings, output projections and their biases; tied weights stay tied. The ids around
    sentences in the configuration change too.
    """
    generator = torch.Generator().manual_seed(seed)
    renewed: dict[nn.Parameter, nn.Parameter] = {}
    for layer, name in vocabulary_parameters(model):
        old = layer.get_parameter(name)
        if old not in renewed:
            renewed[old] = nn.Parameter(rows_of(old.detach(), sources, generator), old.requires_grad)
        layer.register_parameter(name, renewed[old])
        if isinstance(layer, nn.Embedding):
            layer.num_embeddings = len(sources)
        else:
            layer.out_features = len(sources)
    new_ids = {ids[0]: new for new, ids in reversed(list(enumerate(sources))) if len(ids) == 1}
    for config in configs_of(model):
        if config.decoder_start_token_id is not None:
            config.decoder_start_token_id = new_ids[config.decoder_start_token_id]
    for name, ids in model.config.frames.items():
        setattr(model.config, name, [new_ids[i] for i in ids])
    if model.config.target_suffix_ids is not None:
        model.generation_config.eos_token_id = model.config.target_suffix_ids[-1]
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.vocab_size = len(sources)
    return model


def vocabulary_parameters(model: nn.Module) -> Iterator[tuple[nn.Embedding | nn.Linear, str]]:
    """Layers with a parameter that has a row for each id, and its name."""
    for module in model.modules():
        if isinstance(module, VecoEmbeddings):
            yield module.word_embeddings, "weight"
        elif isinstance(module, VecoLMHead):
            yield module.decoder, "weight"
            yield module.decoder, "bias"


def rows_of(table: Tensor, sources: Sources, generator: torch.Generator) -> Tensor:
    """Rows (len(sources), ...) for `reindex`, from a table (V, ...)."""
    rows = table[torch.tensor([ids[0] if ids else 0 for ids in sources])]
    for new, ids in enumerate(sources):
        if len(ids) > 1:
            rows[new] = table[list(ids)].float().mean(dim=0)
    if drawn := [new for new, ids in enumerate(sources) if not ids]:
        known = table.float() if table.dim() > 1 else table.float()[~never_chosen(table)]  # without NEVER
        mean, deviation = known.mean(dim=0), known.std(dim=0)
        noise = torch.randn((len(drawn), *table.shape[1:]), generator=generator)
        rows[drawn] = (mean + deviation * noise).to(table.dtype)
    return rows


def configs_of(model: PreTrainedModel) -> list[Any]:
    """Configurations that have a decoder's start token."""
    return [model.config, *([model.generation_config] if model.can_generate() else [])]


def framing_ids(model: PreTrainedModel) -> set[int]:
    """The decoder's start token, if the model has one, and the ids that its configuration puts around sentences."""
    starts = {config.decoder_start_token_id for config in configs_of(model)} - {None}
    return starts.union(*model.config.frames.values())
