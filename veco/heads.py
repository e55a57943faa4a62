"""The language-modelling head, XLM-R's, tied to the embedding; what all heads share of labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import can_return_tuple

from veco.config import VecoConfig
from veco.model import VecoModel, VecoPreTrainedModel
from veco.vocabulary_loss import VocabularyProjection

IGNORED = -100  # the label of what is not predicted
TIED_HEAD = {"lm_head.decoder.weight": "veco.embeddings.word_embeddings.weight"}


def check_labels(name: str, labels: Tensor, shape: torch.Size, num_classes: int) -> None:
    """Raise ValueError if class ids are not of that shape, not integers, or not IGNORED or below `num_classes`.

    The range is looked at on CPU only, as in `check_input_ids`.
    """
    if labels.shape != shape:
        raise ValueError(f"{name} have shape {tuple(labels.shape)}, expected {tuple(shape)}")
    if labels.is_floating_point():
        raise ValueError(f"{name} are {labels.dtype}, expected class ids, which are integers")
    wrong = labels.ne(IGNORED) & (labels.lt(0) | labels.ge(num_classes))
    if labels.device.type == "cpu" and wrong.any():
        raise ValueError(
            f"{name} hold {int(labels[wrong][0])}, expected {IGNORED} (ignored) or 0 to {num_classes - 1}, one of "
            f"{num_classes} classes"
        )


class VecoLMHead(nn.Module):
    """f of the paper: dense + GELU + LayerNorm + the tied embedding + bias (XLM-R's head).

    Without `config.lm_head_transform` only the last two: fairseq's translation models end so.
    """

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        self.has_transform = config.lm_head_transform
        if self.has_transform:
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.activation = ACT2FN["gelu"]
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = VocabularyProjection(config.hidden_size, config.vocab_size)

    def forward(
        self, states: Tensor, targets: Tensor | None = None, smoothing: float = 0.0
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (..., V) of states (..., D); with `targets` (N,), for states (N, D), the float32 cross-entropies (N,)
        of targets that are smoothed as `veco.vocabulary_loss` says, and whether each target is the likeliest piece."""
        if self.has_transform:
            states = self.norm(self.activation(self.dense(states)))
        # Without targets any projection will do, such as a quantised one in its place.
        return self.decoder(states) if targets is None else self.decoder(states, targets, smoothing)


class VecoWithLMHead(VecoPreTrainedModel):
    """What masked LM, pre-training and translation share: `veco`, `lm_head`, and the tie between them."""

    _tied_weights_keys = TIED_HEAD

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        # A resized projection comes as a plain nn.Linear; ours stays, with its weights.
        projection = self.lm_head.decoder
        projection.weight, projection.bias = new_embeddings.weight, new_embeddings.bias
        projection.out_features = new_embeddings.out_features


class VecoForMaskedLM(VecoWithLMHead):
    """Masked language model over path H, or over path S when a paired sequence's states are given."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config)
        self.lm_head = VecoLMHead(config)
        self.post_init()

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
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> MaskedLMOutput:
        """`logits` (B, T, V), and with `labels` (B, T; IGNORED = not predicted) the mean cross-entropy `loss`."""
        encoded = self.veco(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            encoder_hidden_states,
            encoder_attention_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        logits = self.lm_head(encoded.last_hidden_state)
        loss = None
        if labels is not None:
            check_labels("labels", labels, logits.shape[:-1], self.config.vocab_size)
            loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten().long(), ignore_index=IGNORED)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )
