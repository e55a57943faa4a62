"""VecoForConditionalGeneration: an encoder-decoder all of whose weights come from pre-trained VECO layers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, GenerationMixin, XLMRobertaForMaskedLM
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput, logging

from veco.config import VecoConfig
from veco.labels import IGNORED, check_labels
from veco.layer import AttentionWeights, VecoLayer
from veco.masked_lm import TIED_HEAD, VecoForMaskedLM, VecoLMHead, VecoWithLMHead
from veco.model import (
    VecoEmbeddings,
    VecoModel,
    broadcastable_mask,
    check_input_ids,
    check_length,
    input_shape,
    token_mask,
)
from veco.opening import open_config
from veco.packing import Padding

logger = logging.get_logger(__name__)


class VecoDecoder(nn.Module):
    """Causal layers over embedded target tokens: self-attention, cross-attention to the source, feed-forward."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        num_layers = config.decoder_layers or config.num_hidden_layers
        if config.separate_decoder_embeddings:
            self.embeddings = VecoEmbeddings(config)
        first = first_decoder_layer(config)
        self.layers = nn.ModuleList(
            VecoLayer(config, layer_idx, encoder_layer=first + layer_idx) for layer_idx in range(num_layers)
        )

    def forward(
        self,
        states_BTD: Tensor,
        source_BSD: Tensor,
        source_attention_mask: Tensor | None,
        target_attention_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
        keep_all: bool = False,
        weights: AttentionWeights | None = None,
    ) -> list[Tensor]:
        """States (B, T, D) of target positions, which attend to earlier ones and to the whole source (B, S, D).

        With `keep_all` the embedded states and those after each layer, else the last alone.

        `source_attention_mask` (B, S) and `target_attention_mask` (B, past + T) are true where a position may be
        attended to. Padding behind the target needs no mask: no earlier position can attend to it.
        """
        causal_mask = causal_attention_mask(states_BTD, target_attention_mask, cache)
        source_mask = None if source_attention_mask is None else broadcastable_mask(source_attention_mask)
        is_causal = causal_mask is None and states_BTD.shape[1] > 1
        all_states = [states_BTD]
        for layer in self.layers:
            states_BTD = layer(states_BTD, causal_mask, source_BSD, source_mask, is_causal, cache, weights)
            all_states = [*all_states, states_BTD] if keep_all else [states_BTD]
        return all_states


def causal_attention_mask(
    states_BTD: Tensor, target_attention_mask: Tensor | None, cache: EncoderDecoderCache | None
) -> Tensor | None:
    """Boolean mask, broadcastable to (B, H, T, S), of positions in cache and targets that each target may attend to.

    None if SDPA's own causal mode, or no mask at all (one new token), does the same. A four-dimensional mask, as
    `generate()` makes it for a static cache, is returned as it is.
    """
    num_queries = states_BTD.shape[1]
    past = 0 if cache is None else int(cache.get_seq_length())
    num_keys = num_queries if cache is None else cache.get_mask_sizes(num_queries, 0)[0]
    if target_attention_mask is not None and target_attention_mask.dim() == 4:
        return target_attention_mask
    is_dynamic = num_keys == past + num_queries  # a static cache also has room for later keys
    if target_attention_mask is None and is_dynamic and (past == 0 or num_queries == 1):
        return None
    queries = torch.arange(past, past + num_queries, device=states_BTD.device)
    keys = torch.arange(num_keys, device=states_BTD.device)
    allowed = (keys <= queries[:, None])[None, None]
    return allowed if target_attention_mask is None else allowed & broadcastable_mask(target_attention_mask)


class VecoForConditionalGeneration(VecoWithLMHead, GenerationMixin):
    """VECO as a sequence-to-sequence model (section 3) for transformers' `generate()`, with beam search and cache.

    The encoder is path H; the decoder's layers are plugged into the encoder's output. Both share the embeddings, and
    the head is the pre-trained one.
    """

    main_input_name = "input_ids"

    def __init__(self, config: VecoConfig) -> None:
        config = copy.deepcopy(config)  # the caller's is not changed
        config.is_encoder_decoder = True
        if config.decoder_layers is None:
            config.decoder_layers = config.num_hidden_layers
        super().__init__(config)
        self.veco = VecoModel(config, has_cross_attention=False)
        self.decoder = VecoDecoder(config)
        self._tied_weights_keys = tied_weights(self.decoder, config)
        self.veco.skip_padding = True  # the decoder never attends to padding
        self.lm_head = VecoLMHead(config, self.veco.embeddings)
        self.post_init()
        if config.target_suffix_ids is not None:
            self.generation_config.eos_token_id = config.target_suffix_ids[-1]

    @classmethod
    def from_veco(
        cls,
        model_or_dir: VecoForMaskedLM | XLMRobertaForMaskedLM | str | Path,
        decoder_layers: int | None = None,
        decoder_layers_from: str = "last",
        **overrides: Any,
    ) -> VecoForConditionalGeneration:
        """A translation model with all weights taken from a pre-trained VECO (section 3, Generation).

        The decoder gets copies of the last (or first) `decoder_layers` layers, `None` meaning all of them;
        `overrides` replace fields of the configuration (dropout, `decoder_start_token_id`, `tie_self_attention`).
        With an XLM-R, or its directory, the cross-attention is initialised at random. Raises ValueError for other
        models and for an inconsistent configuration.
        """
        source = pretrained_veco(model_or_dir)
        fields = {**source.config.to_dict(), **overrides}
        # Fields that describe the saved model, not the shape.
        for name in ("architectures", "transformers_version", "is_encoder_decoder", "model_type"):
            fields.pop(name, None)
        config = VecoConfig(**{**fields, "decoder_layers": decoder_layers, "decoder_layers_from": decoder_layers_from})
        model = cls(config)
        model.load_state_dict(seq2seq_state_dict(source.state_dict(), config))
        return model

    def _prepare_generated_length(
        self, generation_config: GenerationConfig, *args: Any, **kwargs: Any
    ) -> GenerationConfig:
        """The requested lengths, limited to the model's positions: beyond them it would fail and lose the text."""
        prepared: GenerationConfig = super()._prepare_generated_length(generation_config, *args, **kwargs)
        most = self.config.max_tokens
        if prepared.max_length > most:
            logger.warning(
                f"generation ends at {most} tokens, start token included, the most that max_position_embeddings "
                f"{self.config.max_position_embeddings} allows; requested were {prepared.max_length}"
            )
            prepared.max_length = most
            prepared.min_length = min(prepared.min_length or 0, most)
        return prepared

    def _maybe_prepare_encoder_kwargs_for_generation(
        self, inputs_tensor: Tensor, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """As in transformers; without a mask, padding of `input_ids` is masked, as in `forward`."""
        if model_kwargs.get("attention_mask") is None and not inputs_tensor.is_floating_point():
            model_kwargs["attention_mask"] = token_mask(inputs_tensor, self.config.pad_token_id)
        prepared: dict[str, Any] = super()._maybe_prepare_encoder_kwargs_for_generation(
            inputs_tensor, model_kwargs, *args, **kwargs
        )
        return prepared

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Targets repeated for each beam. transformers would repeat the source too; here beams share one copy."""
        source: dict[str, Any] = {
            name: kwargs.pop(name) for name in ("encoder_outputs", "attention_mask") if name in kwargs
        }
        targets, kwargs = super()._expand_inputs_for_generation(expand_size, False, input_ids, **kwargs)
        return targets, {**kwargs, **source}

    def _reorder_cache(self, past_key_values: EncoderDecoderCache, beam_idx: Tensor) -> EncoderDecoderCache:
        """Reorder the targets' rows of the cache; beams stay within their sentence, so the source's rows stay."""
        past_key_values.self_attention_cache.reorder_cache(beam_idx)
        return past_key_values

    def get_encoder(self, modality: str | None = None) -> VecoModel:
        return self.veco

    def get_decoder(self) -> VecoDecoder:
        return self.decoder

    def get_input_embeddings(self) -> nn.Embedding:
        return self.veco.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.veco.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        label_smoothing: float | None = None,
    ) -> Seq2SeqLMOutput | tuple[Tensor, ...]:
        """`logits` (B, T, V) of the tokens that follow `decoder_input_ids` (B, T), given the source (B, S).

        Each source may have n consecutive targets: the decoder's inputs then have n times as many rows. Given `labels`
        (B, T; -100 = ignored), `loss` is the mean cross-entropy, and `decoder_input_ids` default to the labels shifted
        right behind `config.decoder_start_token_id`. With a `label_smoothing`, even 0, `loss` is instead the sum,
        float32, of fairseq's smoothed cross-entropies (`veco.vocabulary_loss`), and `logits` is None: those of all
        positions never exist at once.
        """
        config = self.config
        keep_all = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        wants_weights = config.output_attentions if output_attentions is None else output_attentions
        if encoder_outputs is None:
            if input_ids is None and inputs_embeds is None:
                raise ValueError("expected input_ids, inputs_embeds or encoder_outputs, found none of them")
            encoder_outputs = self.veco(
                input_ids,
                attention_mask,
                inputs_embeds=inputs_embeds,
                output_hidden_states=keep_all,
                output_attentions=wants_weights,
                return_dict=True,
            )
        source_BSD = encoder_outputs[0]
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError("expected decoder_input_ids, decoder_inputs_embeds or labels, found none of them")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if attention_mask is None and input_ids is not None:
            attention_mask = token_mask(input_ids, config.pad_token_id)

        num_rows, num_targets = input_shape(decoder_input_ids, decoder_inputs_embeds)
        if num_rows % len(source_BSD):
            raise ValueError(
                f"the decoder's inputs have {num_rows} rows, expected as many as the source, "
                f"{len(source_BSD)}, or a multiple"
            )

        use_cache = self.config.use_cache and labels is None if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        past = 0 if past_key_values is None else int(past_key_values.get_seq_length())

        if decoder_input_ids is not None:
            check_input_ids(decoder_input_ids, config, past)
        check_length(past + num_targets, config)
        first = config.pad_position + 1 + past
        positions = torch.arange(first, first + num_targets, device=source_BSD.device)[None]
        embeddings = (self.decoder if config.separate_decoder_embeddings else self.veco).embeddings
        weights = AttentionWeights() if wants_weights else None
        all_states = self.decoder(
            embeddings(decoder_input_ids, positions, decoder_inputs_embeds),
            source_BSD,
            attention_mask,
            decoder_attention_mask,
            past_key_values,
            keep_all,
            weights,
        )
        states = all_states[-1]
        loss = logits = None
        if labels is not None:
            check_labels("labels", labels, states.shape[:-1], self.config.vocab_size)
        if labels is not None and label_smoothing is not None:
            targets = Padding.of(labels.ne(IGNORED))
            losses, _ = self.lm_head(targets.pack(states), targets.pack(labels), label_smoothing)
            loss = losses.sum()
        else:
            logits = self.lm_head(states)
        if labels is not None and logits is not None:
            loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten().long(), ignore_index=IGNORED)
        of_encoder = encoder_outputs if isinstance(encoder_outputs, ModelOutput) else ModelOutput()
        output = Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            decoder_hidden_states=tuple(all_states) if keep_all else None,
            decoder_attentions=None if weights is None else tuple(weights.self_attention),
            cross_attentions=None if weights is None else tuple(weights.cross_attention),
            encoder_last_hidden_state=source_BSD,
            encoder_hidden_states=of_encoder.get("hidden_states") if keep_all else None,
            encoder_attentions=of_encoder.get("attentions") if wants_weights else None,
        )
        return output if return_dict is None or return_dict else output.to_tuple()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Decoder inputs (B, T): the start token (the target language's tag), then the labels without the last."""
        if self.config.decoder_start_token_id is None:
            raise ValueError("config.decoder_start_token_id is not set: set it to the id of the target language's tag")
        shifted = labels.new_full(labels.shape, self.config.decoder_start_token_id)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == -100, self.config.filler_id)


def first_decoder_layer(config: VecoConfig) -> int:
    """Index of the pre-trained layer that initialises the decoder's first."""
    num_decoder_layers = config.decoder_layers or config.num_hidden_layers
    return config.num_hidden_layers - num_decoder_layers if config.decoder_layers_from == "last" else 0


def tied_weights(decoder: VecoDecoder, config: VecoConfig) -> dict[str, str]:
    """Name of each tied weight -> name of the weight that it is."""
    tied = dict(TIED_HEAD)
    if config.separate_decoder_embeddings:  # its own positions and LayerNorm, but the same token embeddings
        tied["decoder.embeddings.word_embeddings.weight"] = TIED_HEAD["lm_head.decoder.weight"]
    if config.tie_self_attention:
        offset = first_decoder_layer(config)
        for number, layer in enumerate(decoder.layers):
            names = [name for name, _ in layer.named_parameters() if name.startswith("self_attention")]  # LayerNorm too
            tied |= {f"decoder.layers.{number}.{name}": f"veco.layers.{number + offset}.{name}" for name in names}
    return tied


def pretrained_veco(model_or_dir: VecoForMaskedLM | XLMRobertaForMaskedLM | str | Path) -> VecoForMaskedLM:
    """The given VECO, or the one in a directory or converted from XLM-R.

    Raises ValueError for other models, and for a VECO that lacks weights.
    """
    # Imported here: the conversion of translation models imports this module.
    from veco.convert.families import how_to_convert
    from veco.convert.weights import open_complete
    from veco.convert.xlm_roberta import from_xlm_roberta

    if isinstance(model_or_dir, VecoForMaskedLM):
        return model_or_dir
    if isinstance(model_or_dir, XLMRobertaForMaskedLM):
        return from_xlm_roberta(model_or_dir)
    kind = open_config(model_or_dir).model_type
    if kind == "veco":
        return open_complete(VecoForMaskedLM, model_or_dir)
    if kind == "xlm-roberta":
        return from_xlm_roberta(model_or_dir)
    raise ValueError(f"{model_or_dir}: expected a veco or an xlm-roberta, found a {kind}{how_to_convert(kind)}")


def seq2seq_state_dict(pretrained: dict[str, Tensor], config: VecoConfig) -> dict[str, Tensor]:
    """State dict of `VecoForConditionalGeneration` from that of `VecoForMaskedLM`, layer by layer.

    The encoder keeps all layers without their cross-attention; decoder layer i is a copy of all three modules of
    pre-trained layer `i + num_hidden_layers - decoder_layers` ("last") or i ("first").
    """
    num_decoder_layers, offset = config.decoder_layers or config.num_hidden_layers, first_decoder_layer(config)
    result = {name: weight for name, weight in pretrained.items() if ".cross_attention" not in name}
    for name, weight in pretrained.items():
        prefix, _, rest = name.partition("veco.layers.")
        if prefix or not rest:
            continue
        index, _, tail = rest.partition(".")
        if offset <= int(index) < offset + num_decoder_layers:
            result[f"decoder.layers.{int(index) - offset}.{tail}"] = weight.clone()
    return result
