"""Masked language modelling: XLM-R's head, tied to the token embedding, and the model that ends with it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import can_return_tuple

from veco.config import VecoConfig
from veco.labels import IGNORED, check_labels
from veco.model import VecoEmbeddings, VecoModel, VecoPreTrainedModel
from veco.packing import filled, in_whole_rows
from veco.soft_targets import SoftTargets
from veco.vocabulary_loss import VocabularyProjection

TIED_HEAD = {"lm_head.decoder.weight": "veco.embeddings.word_embeddings.weight"}


@dataclass
class VecoMaskedLMOutput(MaskedLMOutput):
    """transformers' output and, plugged in, each layer's weights on the paired sequence (B, H, T, S), if requested."""

    cross_attentions: tuple[Tensor, ...] | None = None


class VecoLMHead(nn.Module):
    """The paper's f, XLM-R's head: dense, GELU, LayerNorm, projection by the tied embedding plus bias.

    `config.lm_head_act` may be another activation than GELU. Without `config.lm_head_transform` the head is the
    projection alone, as in fairseq's translation models. An invertible adapter behind the embeddings is inverted in
    front of the projection, which they share (MAD-X, section 2.2).
    """

    def __init__(self, config: VecoConfig, embeddings: VecoEmbeddings) -> None:
        """`embeddings` are the model's, which stay its own: they are no part of this module."""
        super().__init__()
        self.embeddings_of_model = (embeddings,)  # in a tuple, in which torch looks for no modules
        self.has_transform = config.lm_head_transform
        if self.has_transform:
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.activation = ACT2FN[config.lm_head_act]
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = VocabularyProjection(config.hidden_size, config.vocab_size)

    def forward(
        self,
        states: Tensor,
        targets: Tensor | None = None,
        smoothing: float = 0.0,
        only_best: bool = False,
        soft_targets: SoftTargets | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (..., V) of states (..., D), or with `targets` the cross-entropies that predict them.

        These are float32 (N,) for states (N, D) and targets (N,), with labels smoothed as in `veco.vocabulary_loss`,
        and come with bool (N,): whether each target is the most probable piece. With `only_best` it is the most
        probable piece of each state, int64 (N,), in bounded memory. With `soft_targets`, a teacher's, it is the
        divergence from them, float32 (N,), and bool (N,): whether the most probable piece is the teacher's.
        """
        if targets is None and soft_targets is None and not only_best:
            # A projection that tools put in this place, such as a quantised one, takes states alone.
            return self.decoder(self.transformed(states))
        num_states = len(states)
        states = self.transformed(in_whole_rows(states))
        if only_best:
            return self.decoder(states, only_best=True)[:num_states]
        if soft_targets is not None:
            soft_targets = soft_targets._replace(states_NE=filled(soft_targets.states_NE, len(states)))
            losses, is_best = self.decoder(states, soft_targets=soft_targets)
        else:
            assert targets is not None
            losses, is_best = self.decoder(states, filled(targets, len(states)), smoothing)
        return losses[:num_states], is_best[:num_states]

    def transformed(self, states: Tensor) -> Tensor:
        """States (..., D) as the projection takes them."""
        if self.has_transform:
            states = self.norm(self.activation(self.dense(states)))
        before: Tensor = self.embeddings_of_model[0].invertible_adapters(states, inverse=True)
        return before


class VecoWithLMHead(VecoPreTrainedModel):
    """Base of masked LM, pre-training and translation: `veco` and `lm_head`, tied to each other."""

    _tied_weights_keys = TIED_HEAD

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        # transformers resizes by a plain nn.Linear: our projection takes over its weights.
        projection = self.lm_head.decoder
        projection.weight, projection.bias = new_embeddings.weight, new_embeddings.bias
        projection.out_features = new_embeddings.out_features


class VecoForMaskedLM(VecoWithLMHead):
    """Masked language model over path H, or over path S if the states of a paired sequence are given."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config)
        self.lm_head = VecoLMHead(config, self.veco.embeddings)
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
    ) -> VecoMaskedLMOutput:
        """`logits` (B, T, V), and given `labels` (B, T; IGNORED = not predicted) their mean cross-entropy as `loss`."""
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
        return VecoMaskedLMOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            cross_attentions=encoded.cross_attentions,
        )
