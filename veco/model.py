"""VecoModel: embeddings and layers, with the H path (plugged out) and the S path (plugged in)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithCrossAttentions
from transformers.utils import can_return_tuple

from veco.adapters.modules import InvertibleAdapters, UpProjection
from veco.attention import PackedMask
from veco.config import VecoConfig
from veco.dropout import Dropout
from veco.layer import AttentionWeights, VecoLayer
from veco.packing import Padding, in_whole_rows, position_ids_of
from veco.tracing import is_traced

# Least share of padding at which packing pays: below it, attention by small blocks costs more than it saves.
WORTH_PACKING = 0.1


def refuse_pickles(directory: Path) -> None:
    """Raise ValueError if a directory has weights as a pickle (`pytorch_model.bin`), and none as safetensors."""
    pickles = sorted(directory.glob("pytorch_model*.bin"))
    if pickles and not list(directory.glob("*.safetensors")):
        raise ValueError(
            f"{pickles[0]}: expected model.safetensors; a pickle may run foreign code and is never opened: "
            "if you trust it, save its weights as safetensors"
        )


class VecoPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation of all VECO models, by transformers' conventions."""

    config_class = VecoConfig
    base_model_prefix = "veco"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["VecoLayer", "VecoEmbeddings"]

    def __init__(self, config: VecoConfig) -> None:
        config.check()  # `from_pretrained(…, num_attention_heads=5)` sets fields after the configuration was read
        super().__init__(config)

    def _init_weights(self, module: nn.Module) -> None:
        """As transformers does; a fresh adapter computes zero."""
        super()._init_weights(module)
        if isinstance(module, UpProjection):
            module.start()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: Any, **kwargs: Any) -> Self:
        """The model in a directory or on the Hub, loaded by transformers, but only from safetensors.

        Raises ValueError if a directory has a pickle (`pytorch_model.bin`) instead.
        """
        if kwargs.pop("use_safetensors", True) is False:
            raise ValueError("use_safetensors=False: expected safetensors, a pickle is never opened")
        if pretrained_model_name_or_path is not None:
            refuse_pickles(Path(pretrained_model_name_or_path, kwargs.get("subfolder") or ""))
        return super().from_pretrained(pretrained_model_name_or_path, *args, use_safetensors=True, **kwargs)


class VecoEmbeddings(nn.Module):
    """Token plus position embedding, LayerNorm, dropout. No language embeddings (VECO, ACL 2021, section 4.1).

    An invertible adapter, where the configuration has one, follows; the language-modelling head inverts it.
    """

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_position
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.scale = config.hidden_size**0.5 if config.scale_embedding else None
        self.invertible_adapters = InvertibleAdapters(config)

    def forward(self, input_ids: Tensor | None, position_ids: Tensor, inputs_embeds: Tensor | None = None) -> Tensor:
        """States (..., D) of ids (...) at positions of the same shape, or of one that broadcasts to it.

        `inputs_embeds` (..., D) replace the embeddings of the ids, and are scaled like them.
        """
        tokens = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if self.scale is not None:
            tokens = self.scale * tokens
        states: Tensor = self.dropout(self.norm(tokens + self.position_embeddings(position_ids)))
        adapted: Tensor = self.invertible_adapters(states)
        return adapted


def input_shape(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> torch.Size:
    """(B, T) of a model's input. Raises ValueError unless exactly one of the two is given."""
    if (input_ids is None) == (inputs_embeds is None):
        found = "neither" if input_ids is None else "both"
        raise ValueError(f"expected either input_ids or inputs_embeds, found {found}")
    if input_ids is not None:
        return input_ids.shape
    assert inputs_embeds is not None, "one of the two is given"
    return inputs_embeds.shape[:-1]


def check_token_types(token_type_ids: Tensor | None) -> None:
    """Raise ValueError for token types other than 0: like XLM-R, VECO does not distinguish segments."""
    if token_type_ids is not None and not is_traced() and token_type_ids.any():
        raise ValueError("token_type_ids have values other than 0: VECO, like XLM-R, has one type of token; omit them")


def check_input_ids(input_ids: Tensor, config: VecoConfig, past: int = 0) -> None:
    """Raise ValueError unless ids are integers (B, T) in the vocabulary, with a position for each and for `past` more.

    The range is checked on CPU only: on an accelerator that would force a synchronisation at each step.
    """
    if input_ids.dim() != 2 or input_ids.is_floating_point():
        raise ValueError(
            f"input_ids are {input_ids.dtype} of shape {tuple(input_ids.shape)}, expected integers of shape "
            "(number of sequences, tokens)"
        )
    check_length(past + input_ids.shape[1], config)
    if input_ids.device.type == "cpu" and input_ids.numel() and not is_traced():
        low, high = input_ids.aminmax()
        if low < 0 or high >= config.vocab_size:
            raise ValueError(
                f"input_ids lie between {int(low)} and {int(high)}, expected 0 to {config.vocab_size - 1} "
                "(vocab_size - 1); the tokenizer does not fit the model"
            )


def check_length(num_tokens: int, config: VecoConfig) -> None:
    """Raise ValueError for sequences of more tokens than there are positions."""
    if num_tokens > config.max_tokens:
        raise ValueError(
            f"input_ids have {num_tokens} tokens, more than the {config.max_tokens} that max_position_embeddings "
            f"{config.max_position_embeddings} allows; truncate the sequences"
        )


def positions_of(input_ids: Tensor | None, is_token: Tensor, config: VecoConfig) -> Tensor:
    """Positions (B, T) of ids, which skip padding, or of all T places if there are no ids."""
    if input_ids is None:
        return position_ids_of(torch.ones_like(is_token), None, config.pad_position)
    return position_ids_of(input_ids, config.pad_token_id, config.pad_position)


def token_mask(input_ids: Tensor, pad_token_id: int | None) -> Tensor:
    """Boolean (B, T), true for ids (B, T) that are not padding."""
    return torch.ones_like(input_ids, dtype=torch.bool) if pad_token_id is None else input_ids.ne(pad_token_id)


def broadcastable_mask(attention_mask: Tensor) -> Tensor:
    """Boolean (B, 1, 1, S) from `attention_mask` (B, S) of 0/1 or booleans, True = may be attended to."""
    return attention_mask.bool()[:, None, None, :]


def mask_of_padding(is_token: Tensor) -> Tensor | None:
    """Boolean (B, 1, 1, S), or None if nothing is padding: attention without a mask is faster."""
    return None if not is_traced() and is_token.all() else broadcastable_mask(is_token)


def pays_to_pack(*masks: Tensor | None) -> bool:
    """Whether the masks (B, T) have so much padding that layers are faster over packed tokens."""
    if is_traced():  # a compiler needs one shape, not one for each batch
        return False
    given = [mask for mask in masks if mask is not None]
    num_tokens = torch.stack([mask.sum() for mask in given]).sum()
    return bool(num_tokens < (1 - WORTH_PACKING) * sum(mask.numel() for mask in given))


class VecoModel(VecoPreTrainedModel):
    """The VECO encoder. Plugged out it is XLM-R; plugged in, each layer also attends to a paired sequence."""

    # A pre-training or masked-LM checkpoint opens as a bare encoder, without a warning about its head.
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    def __init__(self, config: VecoConfig, has_cross_attention: bool = True) -> None:
        super().__init__(config)
        self.has_cross_attention = has_cross_attention
        self.embeddings = VecoEmbeddings(config)
        self.layers = nn.ModuleList(
            VecoLayer(config, layer_idx, has_cross_attention) for layer_idx in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False
        # Compute on packed tokens if much of a batch is padding. Off by default: states at padding are then zeros, not
        # XLM-R's, and a head that uses every position (of question answering) would differ.
        self.skip_padding = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutputWithCrossAttentions:
        """`last_hidden_state` (B, T, D): H of `input_ids` (B, T), or S when `encoder_hidden_states` are given.

        Path H is eq. 2-5 of VECO (ACL 2021). Path S, eq. 6-9, takes `encoder_hidden_states` (B, S, D), the last
        layer's H of the paired sequence, in every layer. Masks are (B, T) and (B, S), 1 = may be attended to; `None`
        means all, except that `input_ids` equal to the pad id are masked. No gradient is stopped here:
        `VecoForPreTraining` does that.

        `inputs_embeds` (B, T, D) may replace the ids; positions then count all of them, as in XLM-R. `position_ids`
        (B, T) replace the usual ones, which start at `pad_position + 1`; `token_type_ids` must be zeros.
        `past_key_values` are keys and values of P earlier tokens, as prefix tuning learns them; the mask is then
        (B, P + T), and positions continue after P. `attentions` and, plugged in, `cross_attentions` are the weights
        (B, H, T, S) of each layer, if requested.
        Raises ValueError for ids outside the vocabulary, sequences that are too long, and masks or paired states whose
        shapes do not fit.
        """
        config = self.config
        shape = input_shape(input_ids, inputs_embeds)
        if len(shape) != 2 and input_ids is not None:
            check_input_ids(input_ids, config)
        if len(shape) != 2:
            raise ValueError(f"inputs_embeds have {len(shape) + 1} dimensions, expected (sequences, tokens, width)")
        num_rows, num_tokens = shape
        check_token_types(token_type_ids)
        cache = None if past_key_values is None else EncoderDecoderCache(past_key_values, DynamicCache())
        past = 0 if cache is None else int(cache.get_seq_length())
        if input_ids is not None:
            check_input_ids(input_ids, config, past)
            is_own_token = token_mask(input_ids, config.pad_token_id)
        if inputs_embeds is not None:
            check_length(past + num_tokens, config)
            # Not on the model's device: that is "meta" while accelerate keeps its first weights on disk.
            is_own_token = inputs_embeds.new_ones(shape, dtype=torch.bool)
        if attention_mask is None:
            attention_mask = pad(is_own_token, (past, 0), value=True)
        check_mask("attention_mask", attention_mask, (num_rows, past + num_tokens))
        is_token = attention_mask.bool()
        pair_states = encoder_hidden_states
        is_pair_token = self._is_pair_token(num_rows, pair_states, encoder_attention_mask)
        if position_ids is None:
            position_ids = positions_of(input_ids, is_own_token, config) + past
        keep_all = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        wants_weights = config.output_attentions if output_attentions is None else output_attentions
        weights = AttentionWeights() if wants_weights else None

        can_pack = self.skip_padding and weights is None and cache is None
        if input_ids is not None and can_pack and pays_to_pack(is_token, is_pair_token):
            padding = Padding.of(is_token)
            embedded = self.embeddings(padding.pack(input_ids), padding.pack(position_ids.expand(num_rows, -1)))
            packed = self._sweep_packed(embedded, is_token, pair_states, is_pair_token, keep_all)
            all_states = [padding.pad(states_ND) for states_ND in packed]
        else:
            embedded = self.embeddings(input_ids, position_ids, inputs_embeds)
            pair_mask = None if is_pair_token is None else mask_of_padding(is_pair_token)
            mask = mask_of_padding(is_token)
            all_states = self.sweep(embedded, mask, pair_states, pair_mask, keep_all, weights, cache)
        return BaseModelOutputWithCrossAttentions(
            all_states[-1],
            hidden_states=tuple(all_states) if keep_all else None,
            attentions=None if weights is None else tuple(weights.self_attention),
            cross_attentions=None if weights is None or pair_states is None else tuple(weights.cross_attention),
        )

    def _sweep_packed(
        self,
        embedded_ND: Tensor,
        is_token: Tensor,
        pair_states: Tensor | None,
        is_pair_token: Tensor | None,
        keep_all: bool,
    ) -> list[Tensor]:
        """`sweep` over packed tokens (N, D): those of all rows, end to end."""
        lengths = is_token.sum(1).tolist()
        pair_mask = None
        if pair_states is not None and is_pair_token is not None:
            pair_states = Padding.of(is_pair_token).pack(pair_states)
            pair_mask = PackedMask(lengths, is_pair_token.sum(1).tolist())
        return self.sweep(embedded_ND, PackedMask(lengths, lengths), pair_states, pair_mask, keep_all)

    def sweep(
        self,
        states: Tensor,
        mask: Tensor | PackedMask | None,
        pair_states: Tensor | None = None,
        pair_mask: Tensor | PackedMask | None = None,
        keep_all: bool = False,
        weights: AttentionWeights | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> list[Tensor]:
        """States after all layers: path H without `pair_states`, path S with them.

        With `keep_all` the embedded states and those after each layer, else the last alone. Shapes and masks are those
        of `VecoLayer`.
        """
        if isinstance(mask, PackedMask):
            num_tokens = len(states)
            states = in_whole_rows(states)
            pair_states = None if pair_states is None else in_whole_rows(pair_states)
        swept = [states]
        for layer in self.layers:
            # Positional arguments: gradient checkpointing tracks no others.
            states = layer(states, mask, pair_states, pair_mask, False, cache, weights)
            swept = [*swept, states] if keep_all else [states]
        return [of_layer[:num_tokens] for of_layer in swept] if isinstance(mask, PackedMask) else swept

    def _is_pair_token(self, batch_size: int, pair_BSD: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        """`encoder_attention_mask` as booleans (B, S). Raises ValueError if it does not fit the paired states."""
        if pair_BSD is None:
            if attention_mask is not None:
                raise ValueError("found encoder_attention_mask without encoder_hidden_states, the paired states")
            return None
        if not self.has_cross_attention:
            raise ValueError("found encoder_hidden_states, but this encoder has no cross-attention to plug in")
        if pair_BSD.dim() != 3 or pair_BSD.shape[0] != batch_size or pair_BSD.shape[-1] != self.config.hidden_size:
            raise ValueError(
                f"encoder_hidden_states have shape {tuple(pair_BSD.shape)}, expected ({batch_size}, pair's length, "
                f"{self.config.hidden_size})"
            )
        if attention_mask is None:
            return pair_BSD.new_ones(pair_BSD.shape[:2], dtype=torch.bool)
        check_mask("encoder_attention_mask", attention_mask, pair_BSD.shape[:2])
        return attention_mask.bool()


def check_mask(name: str, mask: Tensor, expected_shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the mask of that name has its sequence's shape (B, T)."""
    if mask.shape != expected_shape:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, expected {tuple(expected_shape)} as its sequence")
