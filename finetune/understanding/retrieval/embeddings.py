"""Sentence embeddings: the mean of a layer's states over the tokens of a sentence, as in XTREME, or that of the first.

The states come from a model of transformers or from an exported encoder, see `finetune.exported`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModel, PreTrainedModel

from finetune.encoders import Encoder, open_encoder
from finetune.exported.encoder import ExportedEncoder
from finetune.exported.settings import ExportedSettings, Pooling, is_exported
from finetune.placement import Placement, batch_tokens, name_of
from finetune.pretrained import VECO, XLM_ROBERTA, pretrained_masked_lm
from finetune.understanding.heads.build_model import with_pretrained_encoder
from finetune.understanding.rows.encoding import TextEncoder, in_blocks, text_encoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.rows.token_rows import TokenRows
from veco import VecoConfig, VecoModel
from veco.convert.weights import open_complete
from veco.opening import open_config
from veco.sentence_transformers_files import usual_layer
from veco.tokenizer import open_tokenizer


def num_layers(directory: Path) -> int:
    """The number of layers of the model in a directory, without the embeddings."""
    if is_exported(directory):
        return ExportedSettings.read(directory).layer
    return int(open_encoder(directory, "model").config.num_hidden_layers)


def layers_with_states(directory: Path) -> list[int]:
    """The layers whose states the model in a directory computes: 0, the embeddings, and all; or the exported one."""
    most = num_layers(directory)
    return [most] if is_exported(directory) else list(range(most + 1))


def described(layers: Sequence[int]) -> str:
    """What `layers_with_states` found, in words for a message."""
    return (
        f"layers 1 to {layers[-1]}, and 0" if len(layers) > 1 else f"layer {layers[0]} alone, at which it was exported"
    )


def check_layers(directory: Path, layers: Sequence[int], known: Sequence[int]) -> None:
    """Raise ValueError for layers that are not among those whose states the model in a directory computes."""
    if wrong := [layer for layer in layers if layer not in known]:
        raise ValueError(f"layer {wrong[0]}: {directory} has {described(known)}")


class PluggedOutEncoder(VecoModel):
    """The H path alone; cross-attention and head of the checkpoint are not loaded."""

    _keys_to_ignore_on_load_unexpected = [r"\.cross_attention", r"^lm_head\.", r"^classifier\.", r"^qa_outputs\."]

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config, has_cross_attention=False)


@dataclass
class Embedder:
    """An encoder and the layers whose states to use: 0 are the embeddings, n is the output of layer n."""

    model: PreTrainedModel | ExportedEncoder
    encoder: TextEncoder
    layers: Sequence[int]
    max_length: int  # in tokens; longer sentences are truncated
    max_tokens: int  # largest batch with padding
    pooling: Pooling = Pooling.MEAN
    num_truncated: int = field(default=0, init=False)  # sentences so far

    @classmethod
    def load(
        cls,
        directory: Path,
        layers: Sequence[int] | int | None,
        max_length: int | None,
        max_tokens: int | None = None,
        placement: Placement | None = None,
        plug_in: bool = False,
    ) -> Self:
        """Load a model directory, a VECO without the layers above the last requested one; with `plug_in` all of it.

        `layers` None is the usual layer for sentences, `max_length` None the most that the model takes; of an exported
        encoder the layer is the exported one, and sentences are pooled as it says. `placement` None is in float32, on
        a card if there is one; `max_tokens` None is what suits the device.

        Raises ValueError for layers that the model does not have, for a `max_length` that it cannot take, for what an
        exported encoder does not have, for batches of nothing, and with `plug_in` for a model without trained
        cross-attention.
        """
        placement = placement or Placement()
        if is_exported(directory):
            return cls._load_exported(directory, layers, max_length, max_tokens, placement, plug_in)
        encoder = open_encoder(directory, "model")
        most = int(encoder.config.num_hidden_layers)
        layers = usual_layer(most) if layers is None else layers
        layers = [layers] if isinstance(layers, int) else layers
        check_layers(directory, layers, range(most + 1))
        text = text_encoder(encoder)
        max_length = checked_length(max_length, text, encoder.max_tokens)
        dtype = placement.dtype
        model = plugged_in(encoder, dtype) if plug_in else encoder_alone(encoder, max(layers), dtype)
        max_tokens = batch_tokens(max_tokens, placement.chosen_device)
        return cls(model.eval().to(placement.chosen_device), text, layers, max_length, max_tokens)

    @classmethod
    def _load_exported(
        cls,
        directory: Path,
        layers: Sequence[int] | int | None,
        max_length: int | None,
        max_tokens: int | None,
        placement: Placement,
        plug_in: bool,
    ) -> Self:
        """An exported encoder, whose precision was chosen when it was exported."""
        settings = ExportedSettings.read(directory)
        check_exported(directory, settings, placement, plug_in)
        layers = settings.layer if layers is None else layers
        layers = [layers] if isinstance(layers, int) else layers
        check_layers(directory, layers, [settings.layer])
        text = TextEncoder(open_tokenizer(directory))
        max_length = checked_length(max_length, text, settings.max_length)
        max_tokens = batch_tokens(max_tokens, ExportedEncoder.device)
        return cls(ExportedEncoder.load(directory), text, layers, max_length, max_tokens, settings.pooling)

    def embed(self, sentences: Sequence[str], name: str = "") -> np.ndarray:
        """float32 (layers, sentences, D): the mean over all tokens of a sentence with `<s>` and `</s>`, or the first.

        Batches have sentences of similar length; only one batch's states exist at a time. `name` labels the progress
        bar.
        """
        return self.embed_rows(self.rows(sentences), name)

    def embed_rows(self, rows: TokenRows, name: str = "") -> np.ndarray:
        """What `embed` computes of sentences, of their rows."""
        batches = EvaluationBatches(PairedRows.alone(rows), self.max_tokens, self.encoder.pad)
        vectors = np.zeros((len(self.layers), len(rows), self.model.config.hidden_size), dtype=np.float32)
        with tqdm(total=len(rows), desc=name, unit=" sentences", disable=None, leave=False) as progress:
            for number in range(len(batches)):
                own = batches.units_of(number)
                vectors[:, own] = self._pooled(batches[number]).cpu().numpy()
                progress.update(len(own))
        return vectors

    def rows(self, sentences: Sequence[str]) -> TokenRows:
        """A row for each sentence, cut to `max_length`; those that are cut are counted."""
        return self.rows_and_cuts(sentences)[0]

    def rows_and_cuts(self, sentences: Sequence[str]) -> tuple[TokenRows, np.ndarray]:
        """(`rows`, whether each sentence was cut: bool (sentences,))."""
        frame = self.encoder.single
        blocks, is_cut = list[TokenRows](), list[bool]()
        for block in in_blocks(sentences):
            texts = self.encoder.encode(block)
            is_cut += [len(pieces) > self.max_length - frame.num_specials for pieces in texts]
            rows = [frame.row(*frame.fitting([pieces], self.max_length)) for pieces in texts]
            blocks.append(TokenRows.of(rows, np.arange(len(block))))
        self.num_truncated += sum(is_cut)
        return TokenRows.concatenate(blocks), np.array(is_cut)

    def _pooled(self, batch: dict[str, Tensor]) -> Tensor:
        """float32 (layers, batch, D)."""
        states = self.states(batch)
        if self.pooling is Pooling.CLS:
            return torch.stack([states_BTD[:, 0] for states_BTD in states])
        return mean_of_tokens(states, batch["attention_mask"].to(self.model.device))

    def states(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """The states of each layer, float32 (B, T, D) on the model's device; `batch` are the model's arguments."""
        on_device = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        with torch.inference_mode():
            states = self.model(**on_device, output_hidden_states=True).hidden_states
        return [states[layer].float() for layer in self.layers]


def check_exported(directory: Path, settings: ExportedSettings, placement: Placement, plug_in: bool) -> None:
    """Raise ValueError for what an exported encoder does not have: another precision, a card, cross-attention."""
    wanted = {
        "cross-attention to plug in": plug_in,
        f"other precision ({name_of(placement.dtype)}) than its own, {settings.precision}": placement.dtype
        is not torch.float32,
        "engine on a card": placement.device is not None and placement.device.type != "cpu",
    }
    if asked := [name for name, is_wanted in wanted.items() if is_wanted]:
        raise ValueError(f"{directory}: an exported encoder has no {asked[0]}; use the model that it was made from")


def checked_length(max_length: int | None, text: TextEncoder, most: int) -> int:
    """The longest sentence in tokens, by default `most`. Raises ValueError for one that cannot be."""
    max_length = max_length or most
    shortest = text.single.num_specials + 1
    if not shortest <= max_length <= most:
        raise ValueError(f"max-length {max_length}: expected {shortest} to {most} tokens")
    return max_length


def mean_of_tokens(states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
    """The means (layers, B, D) of each layer's states (B, T, D) over the tokens of the mask (B, T)."""
    weight_BT1 = (attention_mask / attention_mask.sum(dim=1, keepdim=True)).float().unsqueeze(2)
    return torch.stack([(states_BTD * weight_BT1).sum(dim=1) for states_BTD in states])


def encoder_alone(encoder: Encoder, last_layer: int, dtype: torch.dtype) -> PreTrainedModel:
    """The encoder without a head and, if it is a VECO, without cross-attention and the layers above the last one.

    The states of layers that transformers' models end with may be normed, so others keep all their layers. Raises
    ValueError for a directory without the encoder's weights.
    """
    if not isinstance(encoder.config, VecoConfig):
        model = with_pretrained_encoder(AutoModel, encoder.directory, encoder.config, dtype)
        check_states(model, encoder)
        return model
    if open_config(encoder.directory).model_type == XLM_ROBERTA:
        model = PluggedOutEncoder(encoder.config).to(dtype)
        model.load_state_dict(pretrained_masked_lm(encoder.directory).veco.state_dict(), strict=False)
    else:
        model = open_complete(PluggedOutEncoder, encoder.directory, dtype=dtype)
    model.layers = model.layers[:last_layer]
    model.skip_padding = True
    return model


def plugged_in(encoder: Encoder, dtype: torch.dtype) -> PreTrainedModel:
    """The whole VECO: the states S of each layer read the last layer's H.

    Raises ValueError for another model, and for a directory without the weights of cross-attention.
    """
    if (kind := open_config(encoder.directory).model_type) != VECO:
        raise ValueError(f"{encoder.directory}: a {kind} has no cross-attention to plug in; expected a VECO")
    encoder.config.plug_in = True
    model = with_pretrained_encoder(VecoModel, encoder.directory, encoder.config, dtype)
    model.skip_padding = True
    return model


def check_states(model: PreTrainedModel, encoder: Encoder) -> None:
    """Raise ValueError for a model whose layers do not have a state for each token, such as a Funnel."""
    inputs = encoder.tokenizer("a a a", return_tensors="pt")
    with torch.inference_mode():
        states = model.eval()(inputs["input_ids"], output_hidden_states=True).hidden_states
    shapes = [state.shape[:2] for state in states]
    if shapes != [inputs["input_ids"].shape] * (encoder.config.num_hidden_layers + 1):
        kind = encoder.config.model_type
        raise ValueError(
            f"{encoder.directory}: the layers of a {kind} have no state for each token; use another encoder"
        )
