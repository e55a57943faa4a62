"""VecoModel: embeddings and layers, with the H path (plugged out) and the S path (plugged in)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from veco.config import VecoConfig
from veco.layer import VecoLayer


class VecoPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation shared by all VECO models; transformers' conventions."""

    config_class = VecoConfig
    base_model_prefix = "veco"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["VecoLayer", "VecoEmbeddings"]


class VecoEmbeddings(nn.Module):
    """Token plus position embedding, LayerNorm, dropout. No language embeddings (paper, section 4.1)."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_position
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """States (B, T, D) of ids (B, T) at positions (B, T) or (1, T)."""
        return self.dropout(self.norm(self.word_embeddings(input_ids) + self.position_embeddings(position_ids)))


def check_input_ids(input_ids: Tensor, config: VecoConfig) -> None:
    """Raise ValueError if ids (B, T) are longer than the position embeddings reach or not in the vocabulary.

    The range is looked at on CPU only: on an accelerator it would force a synchronisation at each step.
    """
    if input_ids.shape[-1] > config.max_tokens:
        raise ValueError(
            f"input_ids have {input_ids.shape[-1]} tokens, more than the {config.max_tokens} that "
            f"max_position_embeddings {config.max_position_embeddings} allows; cut the sequences"
        )
    if input_ids.device.type == "cpu" and input_ids.numel():
        low, high = input_ids.aminmax()
        if low < 0 or high >= config.vocab_size:
            raise ValueError(
                f"input_ids lie between {int(low)} and {int(high)}, expected 0 to {config.vocab_size - 1} "
                "(vocab_size - 1); the tokenizer does not fit the model"
            )


def position_ids_of(input_ids: Tensor, pad_token_id: int | None, pad_position: int) -> Tensor:
    """Positions (B, T) of real tokens, from `pad_position + 1` on; padding has `pad_position` (fairseq, XLM-R)."""
    if pad_token_id is None:
        steps = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
        return steps.expand_as(input_ids) + pad_position
    is_token = input_ids.ne(pad_token_id).long()
    return is_token.cumsum(dim=1) * is_token + pad_position


def token_mask(input_ids: Tensor, pad_token_id: int | None) -> Tensor:
    """Boolean (B, T), true where ids (B, T) are not padding."""
    return torch.ones_like(input_ids, dtype=torch.bool) if pad_token_id is None else input_ids.ne(pad_token_id)


def broadcastable_mask(attention_mask: Tensor) -> Tensor:
    """Boolean (B, 1, 1, S) from `attention_mask` (B, S) of 0/1 or booleans, True = may be attended to."""
    return attention_mask.bool()[:, None, None, :]


class VecoModel(VecoPreTrainedModel):
    """The VECO encoder. Plugged out it is XLM-R; plugged in, each layer also attends to a paired sequence."""

    # A pre-training or masked-LM checkpoint opens as a bare encoder without a warning about its head.
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    def __init__(self, config: VecoConfig, has_cross_attention: bool = True) -> None:
        super().__init__(config)
        self.embeddings = VecoEmbeddings(config)
        self.layers = nn.ModuleList(
            VecoLayer(config, layer_idx, has_cross_attention) for layer_idx in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple[Tensor, ...]:
        """`last_hidden_state` (B, T, D): H of `input_ids` (B, T), or S when `encoder_hidden_states` are given.

        Path H is eq. 2-5 of VECO (ACL 2021). Path S, eq. 6-9, takes `encoder_hidden_states` (B, S, D), the last
        layer's H of the paired sequence, in every layer. Masks are (B, T) and (B, S), 1 = may be attended to; `None`
        means all, except that `input_ids` equal to the pad id are masked. No gradient is stopped here:
        `VecoForPreTraining` does that.
        Raises ValueError for ids outside the vocabulary, too long sequences, masks of another shape, and
        `output_attentions`: SDPA does not form the attention weights.
        """
        if output_attentions:
            raise ValueError("output_attentions is not supported: scaled_dot_product_attention forms no weights")
        config = self.config
        check_input_ids(input_ids, config)
        if attention_mask is None:
            attention_mask = token_mask(input_ids, config.pad_token_id)
        _check_mask("attention_mask", attention_mask, input_ids.shape)
        pair_mask = None
        if encoder_hidden_states is not None and encoder_attention_mask is not None:
            _check_mask("encoder_attention_mask", encoder_attention_mask, encoder_hidden_states.shape[:2])
            pair_mask = broadcastable_mask(encoder_attention_mask)

        position_ids = position_ids_of(input_ids, config.pad_token_id, config.pad_position)
        states_BTD = self.embeddings(input_ids, position_ids)
        keep_all = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        all_states = [states_BTD]
        mask = broadcastable_mask(attention_mask)
        for layer in self.layers:
            # Positional arguments: gradient checkpointing only tracks those.
            states_BTD = layer(states_BTD, mask, encoder_hidden_states, pair_mask)
            if keep_all:
                all_states.append(states_BTD)
        output = BaseModelOutput(last_hidden_state=states_BTD, hidden_states=tuple(all_states) if keep_all else None)
        return output if return_dict is None or return_dict else output.to_tuple()


def _check_mask(name: str, mask: Tensor, expected_shape: torch.Size) -> None:
    if mask.shape != expected_shape:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, expected {tuple(expected_shape)} as its sequence")
