"""The rows of a model's vocabulary: embeddings, output projections and their biases, renumbered together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from transformers import PreTrainedModel

from veco.config import SPECIAL_IDS, position_of_padding
from veco.masked_lm import VecoLMHead
from veco.model import VecoEmbeddings
from veco.vocabulary_loss import never_chosen

Model = TypeVar("Model", bound=PreTrainedModel)
VocabularyLayer = nn.Embedding | nn.Linear  # with a row for each id
# A number of new rows, given a table of old ones (V, ...) in float32 and a generator.
Draw = Callable[[Tensor, int, torch.Generator], Tensor]
MOST_UNREAD = 8  # rows of positions in front of the first that is read: XLM-R's and RoBERTa's are two
CONFIGURED_IDS = (*SPECIAL_IDS, "decoder_start_token_id")


def means_of(sources: Sequence[Collection[int]], num_old: int) -> csr_array:
    """Weights (len(sources), num_old), with which each new row is the mean of the old rows `sources[i]`."""
    lengths = np.fromiter(map(len, sources), np.int64, len(sources))
    columns = np.fromiter((old for ids in sources for old in ids), np.int64, int(lengths.sum()))
    values = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    return csr_array((values, columns, np.concatenate([[0], lengths.cumsum()])), shape=(len(sources), num_old))


def draw_like_rows(table: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    """Rows from a normal distribution with the mean and the standard deviation of each column of the table."""
    known = table if table.dim() > 1 else table[~never_chosen(table)]
    noise = torch.randn((num_rows, *table.shape[1:]), generator=generator)
    return known.mean(dim=0) + known.std(dim=0) * noise


def draw_initial(deviation: float) -> Draw:
    """Rows as a model has them before training: normal with this standard deviation, and biases of zero."""

    def draw(table: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
        shape = (num_rows, *table.shape[1:])
        return torch.randn(shape, generator=generator) * deviation if table.dim() > 1 else torch.zeros(shape)

    return draw


def reindex(
    model: Model, weights: csr_array, new_ids: Mapping[int, int], draw: Draw = draw_like_rows, seed: int = 0
) -> Model:
    """Give `model`, in place, another vocabulary: its rows are the sums of old rows with `weights` (V new, V old).

    These are the rows of token embeddings, output projections and their biases; tied weights stay tied. Rows without a
    weight are drawn; spare rows of the model, behind the V old ones, are dropped. `new_ids` says what becomes of the
    ids that the configuration names (`framing_ids`). If the id of padding changes, positions move with it, since theirs
    follow it, unless more than MOST_UNREAD rows would then never be read: the configuration names the position of
    padding in that case. Each token keeps its position's row.
    """
    generator = torch.Generator().manual_seed(seed)
    renewed: dict[nn.Parameter, Tensor] = {}
    for layer, name in vocabulary_parameters(model):
        old = layer.get_parameter(name)
        if old not in renewed:
            renewed[old] = rows_of(old.detach(), weights, draw, generator)
    set_rows(model, lambda layer, name: renewed[layer.get_parameter(name)], weights.shape[0])
    old_position = model.config.pad_position
    _renumber_configuration(model, new_ids)
    _settle_positions(model, old_position)
    return model


def vocabulary_parameters(model: nn.Module) -> Iterator[tuple[VocabularyLayer, str]]:
    """Layers with a parameter that has a row for each id, and its name."""
    for module in model.modules():
        if isinstance(module, VecoEmbeddings):
            yield module.word_embeddings, "weight"
        elif isinstance(module, VecoLMHead):
            yield module.decoder, "weight"
            yield module.decoder, "bias"


def set_rows(model: nn.Module, table_of: Callable[[VocabularyLayer, str], Tensor], size: int) -> None:
    """Replace what `vocabulary_parameters` gives by tables of `size` rows; equal ones become one, tied parameter."""
    tied: dict[Tensor, nn.Parameter] = {}
    for layer, name in list(vocabulary_parameters(model)):
        table = table_of(layer, name)
        if table not in tied:
            tied[table] = nn.Parameter(table, layer.get_parameter(name).requires_grad)
        layer.register_parameter(name, tied[table])
        if isinstance(layer, nn.Embedding):
            layer.num_embeddings = size
        else:
            layer.out_features = size
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.vocab_size = size


def rows_of(table: Tensor, weights: csr_array, draw: Draw, generator: torch.Generator) -> Tensor:
    """Rows (V new, ...) for `reindex`, from a table (V old and spare, ...)."""
    known = table[: weights.shape[1]].float()
    if table.dim() > 1:
        rows = torch.from_numpy(weights @ known.numpy())
    else:  # a bias of NEVER is copied, but no part of a sum, which would otherwise be no bias either
        is_never = never_chosen(known)
        rows = torch.from_numpy(weights @ known.where(~is_never, known[~is_never].mean()).numpy())
        (copies,) = np.nonzero(np.diff(weights.indptr) == 1)
        rows[copies] = known[weights.indices[weights.indptr[copies]]]
    (drawn,) = np.nonzero(np.diff(weights.indptr) == 0)
    if len(drawn):
        rows[drawn] = draw(known, len(drawn), generator)
    return rows.to(table.dtype)


def _renumber_configuration(model: PreTrainedModel, new_ids: Mapping[int, int]) -> None:
    for config in configs_of(model):
        for name in CONFIGURED_IDS:
            old = getattr(config, name)
            if old is not None:
                setattr(config, name, [new_ids[i] for i in old] if isinstance(old, list) else new_ids[old])
    for name, ids in model.config.frames.items():
        setattr(model.config, name, [new_ids[i] for i in ids])


def _settle_positions(model: PreTrainedModel, old_position: int) -> None:
    """Let positions follow the id of padding; where it is far behind, keep them where they are."""
    position = position_of_padding(model.config.pad_token_id)
    if position - old_position > MOST_UNREAD:
        position, named = old_position, old_position
    else:
        named = None
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.padding_position = named
        elif isinstance(module, VecoEmbeddings):
            module.word_embeddings.padding_idx = model.config.pad_token_id
    if distance := position - old_position:
        _move_positions(model, distance)


def _move_positions(model: PreTrainedModel, distance: int) -> None:
    """Move the rows of positions up by `distance`, or down if it is negative, as padding's moves."""
    size = model.config.max_position_embeddings + distance
    for module in list(model.modules()):
        if isinstance(module, VecoEmbeddings):
            old = module.position_embeddings.weight
            rows = old.new_zeros(size, old.shape[1])  # those below padding's are never read
            rows[max(distance, 0) :] = old.detach()[max(-distance, 0) :]
            module.position_embeddings = nn.Embedding.from_pretrained(
                rows, freeze=not old.requires_grad, padding_idx=model.config.pad_position
            )
        if isinstance(module, PreTrainedModel):
            module.config.max_position_embeddings = size


def configs_of(model: PreTrainedModel) -> list[Any]:
    """Configurations that name ids."""
    return [model.config, *([model.generation_config] if model.can_generate() else [])]


def framing_ids(model: PreTrainedModel) -> set[int]:
    """The ids that a model's configuration names: padding, the decoder's start, and those around sentences."""
    named = [getattr(config, name) for config in configs_of(model) for name in CONFIGURED_IDS]
    ids = (value if isinstance(value, list) else [value] for value in named)
    return {i for group in ids for i in group if i is not None}.union(*model.config.frames.values())
