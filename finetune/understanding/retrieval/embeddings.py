"""Sentences as vectors for retrieval: the mean of a layer's states over the tokens of a sentence (XTREME's choice)."""

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
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.rows.windows import PairedRows, Rows
from veco import VecoConfig, VecoModel
from veco.sentence_files import usual_layer

SPECIALS = 2  # <s> and </s>


def num_layers(directory: Path) -> int:
    """How many layers the model in a directory has, without the embeddings."""
    _, config = open_pretrained(directory, "model")
    return config.num_hidden_layers


class PluggedOutEncoder(VecoModel):
    """The H path alone; the cross-attention and the head of what it is loaded from stay behind."""

    _keys_to_ignore_on_load_unexpected = [r"\.cross_attention", r"^lm_head\.", r"^classifier\.", r"^qa_outputs\."]

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config, has_cross_attention=False)


@dataclass
class Embedder:
    """An encoder, plugged out, and which layers' states to take: 0 are the embeddings, n the output of layer n."""

    model: PluggedOutEncoder
    encoder: TextEncoder
    layers: Sequence[int]
    max_length: int  # longest sentence in tokens; longer ones are cut, and counted
    max_tokens: int  # largest batch with padding
    num_cut: int = field(default=0, init=False)

    @classmethod
    def load(
        cls,
        directory: Path,
        layers: Sequence[int] | int | None,
        max_length: int | None,
        max_tokens: int,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """The encoder of a model directory, without the layers behind the last that is asked for.

        `layers` None is the usual one for sentences, `max_length` None the longest that the model takes. Raises
        ValueError for layers that it does not have, and for too long sentences.
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
        """float32 (layers, sentences, D): the mean over all tokens of a sentence, `<s>` and `</s>` among them.

        Batches hold sentences of like length; only one batch's states exist at a time. `name` is shown beside the
        progress.
        """
        rows = PairedRows.alone(self._rows(sentences))
        batches = EvaluationBatches(rows, self.max_tokens, self.encoder.special.pad)
        vectors = np.zeros((len(self.layers), len(sentences), self.model.config.hidden_size), dtype=np.float32)
        with tqdm(total=len(sentences), desc=name, unit=" sentences", disable=None, leave=False) as progress:
            for number in range(len(batches)):
                own = batches.rows_of(number)
                vectors[:, own] = self._means(batches[number]).cpu().numpy()
                progress.update(len(own))
        return vectors

    def _rows(self, sentences: Sequence[str]) -> Rows:
        special = self.encoder.special

        def framed(pieces: Pieces) -> np.ndarray:
            self.num_cut += len(pieces) > self.max_length - SPECIALS
            kept = pieces[: self.max_length - SPECIALS]
            return np.array([special.bos, *kept, special.eos], dtype=np.int32)

        blocks = [
            Sentences.of(framed(pieces) for pieces in self.encoder.encode(block)) for block in in_blocks(sentences)
        ]
        return Rows(Sentences.concatenate(blocks), np.arange(len(sentences)))

    def _means(self, batch: dict[str, Tensor]) -> Tensor:
        """float32 (layers, batch, D)."""
        device = self.model.device
        mask_BT = batch["attention_mask"].to(device)
        with torch.inference_mode():
            output = self.model(batch["input_ids"].to(device), mask_BT, output_hidden_states=True)
        weight_BT1 = (mask_BT / mask_BT.sum(dim=1, keepdim=True)).float().unsqueeze(2)
        return torch.stack([(output.hidden_states[layer].float() * weight_BT1).sum(dim=1) for layer in self.layers])
