"""Sentence embeddings for retrieval: the mean of a layer's states over the tokens of a sentence, as in XTREME."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from finetune.encoded_text import Pieces, Sentences
from finetune.pretrained import open_pretrained
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.rows.token_rows import TokenRows
from veco import VecoConfig, VecoModel
from veco.sentence_transformers_files import usual_layer

SPECIALS = 2  # <s> and </s>


def num_layers(directory: Path) -> int:
    """The number of layers of the model in a directory, without the embeddings."""
    _, config = open_pretrained(directory, "model")
    return config.num_hidden_layers


class PluggedOutEncoder(VecoModel):
    """The H path alone; cross-attention and head of the checkpoint are not loaded."""

    _keys_to_ignore_on_load_unexpected = [r"\.cross_attention", r"^lm_head\.", r"^classifier\.", r"^qa_outputs\."]

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config, has_cross_attention=False)


@dataclass
class Embedder:
    """An encoder, plugged out, and the layers whose states to use: 0 are the embeddings, n is the output of layer n."""

    model: PluggedOutEncoder
    encoder: TextEncoder
    layers: Sequence[int]
    max_length: int  # in tokens; longer sentences are truncated
    max_tokens: int  # largest batch with padding
    num_truncated: int = field(default=0, init=False)  # sentences so far

    @classmethod
    def load(
        cls,
        directory: Path,
        layers: Sequence[int] | int | None,
        max_length: int | None,
        max_tokens: int,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load a model directory, without the layers above the last requested one.

        `layers` None is the usual layer for sentences, `max_length` None the most that the model takes. Raises
        ValueError for layers that the model does not have, and for a `max_length` that it cannot take.
        """
        tokenizer, config = open_pretrained(directory, "model")
        if layers is None:
            layers = usual_layer(config.num_hidden_layers)
        layers = [layers] if isinstance(layers, int) else layers
        max_length = max_length or config.max_tokens
        if wrong := [layer for layer in layers if not 0 <= layer <= config.num_hidden_layers]:
            raise ValueError(f"layer {wrong[0]}: {directory} has layers 1 to {config.num_hidden_layers}, and 0")
        if not SPECIALS < max_length <= config.max_tokens:
            raise ValueError(f"max-length {max_length}: expected {SPECIALS + 1} to {config.max_tokens} tokens")
        model = PluggedOutEncoder.from_pretrained(directory, dtype=dtype).eval()
        model.layers = model.layers[: max(layers)]
        model.skip_padding = True
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model, TextEncoder(tokenizer), layers, max_length, max_tokens)

    def embed(self, sentences: Sequence[str], name: str = "") -> np.ndarray:
        """float32 (layers, sentences, D): the mean over all tokens of a sentence, including `<s>` and `</s>`.

        Batches have sentences of similar length; only one batch's states exist at a time. `name` labels the progress
        bar.
        """
        rows = PairedRows.alone(self._rows(sentences))
        batches = EvaluationBatches(rows, self.max_tokens, self.encoder.special.pad)
        vectors = np.zeros((len(self.layers), len(sentences), self.model.config.hidden_size), dtype=np.float32)
        with tqdm(total=len(sentences), desc=name, unit=" sentences", disable=None, leave=False) as progress:
            for number in range(len(batches)):
                own = batches.units_of(number)
                vectors[:, own] = self._means(batches[number]).cpu().numpy()
                progress.update(len(own))
        return vectors

    def _rows(self, sentences: Sequence[str]) -> TokenRows:
        special = self.encoder.special

        def framed(pieces: Pieces) -> np.ndarray:
            self.num_truncated += len(pieces) > self.max_length - SPECIALS
            kept = pieces[: self.max_length - SPECIALS]
            return np.array([special.bos, *kept, special.eos], dtype=np.int32)

        blocks = [
            Sentences.of(framed(pieces) for pieces in self.encoder.encode(block)) for block in in_blocks(sentences)
        ]
        return TokenRows(Sentences.concatenate(blocks), np.arange(len(sentences)))

    def _means(self, batch: dict[str, Tensor]) -> Tensor:
        """float32 (layers, batch, D)."""
        device = self.model.device
        mask_BT = batch["attention_mask"].to(device)
        with torch.inference_mode():
            output = self.model(batch["input_ids"].to(device), mask_BT, output_hidden_states=True)
        weight_BT1 = (mask_BT / mask_BT.sum(dim=1, keepdim=True)).float().unsqueeze(2)
        return torch.stack([(output.hidden_states[layer].float() * weight_BT1).sum(dim=1) for layer in self.layers])
