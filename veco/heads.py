"""Heads on top of VecoModel. The language-modelling head is XLM-R's, tied to the embedding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput

from veco.config import VecoConfig
from veco.model import VecoModel, VecoPreTrainedModel

TIED_HEAD = {"lm_head.decoder.weight": "veco.embeddings.word_embeddings.weight"}


class VecoLMHead(nn.Module):
    """f of the paper: dense + GELU + LayerNorm + the tied embedding + bias (XLM-R's head)."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN["gelu"]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (..., V) of states (..., D)."""
        return self.decoder(self.norm(self.activation(self.dense(states))))


class VecoWithLMHead(VecoPreTrainedModel):
    """What masked LM, pre-training and translation share: `veco`, `lm_head`, and the tie between them."""

    _tied_weights_keys = TIED_HEAD

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head.decoder = new_embeddings


class VecoForMaskedLM(VecoWithLMHead):
    """Masked language model over path H, or over path S when a paired sequence's states are given."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config)
        self.lm_head = VecoLMHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Tensor, ...]:
        """`logits` (B, T, V), and with `labels` (B, T; -100 = not predicted) the mean cross-entropy `loss`."""
        encoded = self.veco(
            input_ids, attention_mask, encoder_hidden_states, encoder_attention_mask, output_hidden_states
        )
        logits = self.lm_head(encoded.last_hidden_state)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)
        output = MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        return output if return_dict is None or return_dict else output.to_tuple()
