"""Masked words of a sentence, filled in with the help of its translation: path S, plugged into the H of the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from finetune.model_directory import model_directory
from finetune.placement import Placement
from finetune.pretrained import open_pretrained
from inference.unfit_text import UnfitTextError
from training.run_directory.kinds import Kind
from veco import VecoForMaskedLM
from veco.convert.weights import open_complete

BATCH_PAIRS = 32
BATCH_MASKS = 256
SHOWN = 40  # characters of a sentence that is refused


class Filling(NamedTuple):
    """A piece that may stand in place of a mask, and its probability."""

    piece: str
    probability: float


class MaskFiller:
    """A VECO with its masked-LM head: a finished run of pre-training, or a model directory.

    It computes in float32, on a card if there is one, unless `placement` says otherwise. Raises ValueError for another
    model, and for one that lacks weights, such as those of cross-attention.
    """

    def __init__(self, path: str | Path, placement: Placement | None = None) -> None:
        directory = model_directory(Path(path), [Kind.PRETRAINING])
        self.tokenizer, config = open_pretrained(directory, "model")
        if self.tokenizer.mask_token is None:
            raise ValueError(f"{directory}: its tokenizer has no mask")
        model = open_complete(VecoForMaskedLM, directory)
        self._max_tokens = config.max_tokens
        self._is_piece = torch.zeros(config.vocab_size, dtype=torch.bool)
        self._is_piece[list(self.tokenizer.get_vocab().values())] = True
        placement = placement or Placement()
        self._model = model.eval().to(device=placement.chosen_device, dtype=placement.dtype)

    def fill(
        self, sentences: Sequence[str], others: Sequence[str] | None = None, count: int = 5
    ) -> list[list[list[Filling]]]:
        """For each sentence, for each mask in it (`<mask>`, as the tokenizer writes it), the most likely pieces.

        `others` are sentences of the same meaning in any language, one for each, that the model reads plugged in;
        without them it is plugged out. Raises UnfitTextError for a sentence without a mask and one that is too long,
        and ValueError for another number of `others`.
        """
        if others is not None and len(others) != len(sentences):
            raise ValueError(f"expected one other sentence for each, found {len(others)} for {len(sentences)}")
        mask = self.tokenizer.mask_token
        if without := [sentence for sentence in sentences if mask not in sentence]:
            raise UnfitTextError(f"{without[0][:SHOWN]!r}: expected {mask} where a piece is to be filled in")
        batches = [slice(start, start + BATCH_PAIRS) for start in range(0, len(sentences), BATCH_PAIRS)]
        # All are read before any is computed, since one may be too long.
        xs = [self._encode(sentences[own]) for own in batches]
        ys = [None if others is None else self._encode(others[own]) for own in batches]
        return [found for x, y in zip(xs, ys, strict=True) for found in self._fill_batch(x, y, count)]

    @torch.inference_mode()
    def _fill_batch(self, x: dict[str, Tensor], y: dict[str, Tensor] | None, count: int) -> list[list[list[Filling]]]:
        device, plugged = self._model.device, {}
        x = {name: of_x.to(device) for name, of_x in x.items()}
        if y is not None:
            y = {name: of_y.to(device) for name, of_y in y.items()}
            h = self._model.veco(**y).last_hidden_state
            plugged = {"encoder_hidden_states": h, "encoder_attention_mask": y["attention_mask"]}
        states_BTD = self._model.veco(**x, **plugged).last_hidden_state
        is_mask = x["input_ids"] == self.tokenizer.mask_token_id
        # Of some masked tokens at a time: logits over the vocabulary take more memory than the model.
        found = [filling for part in states_BTD[is_mask].split(BATCH_MASKS) for filling in self._fillings(part, count)]
        remaining = iter(found)
        return [[next(remaining) for _ in range(number)] for number in is_mask.sum(dim=1).tolist()]

    def _fillings(self, states_MD: Tensor, count: int) -> list[list[Filling]]:
        """The most likely pieces at each of M masks; rows of the model without a piece have no part in it."""
        logits = self._model.lm_head(states_MD).float()
        probabilities = logits.masked_fill(~self._is_piece.to(logits.device), float("-inf")).softmax(dim=1)
        best = probabilities.topk(min(count, int(self._is_piece.sum())), dim=1)
        return [
            [Filling(*one) for one in zip(self.tokenizer.convert_ids_to_tokens(ids), values, strict=True)]
            for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _encode(self, sentences: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask (B, T), on the CPU."""
        encoded = self.tokenizer(list(sentences), padding=True, return_tensors="pt", verbose=False)
        if (length := encoded["input_ids"].shape[1]) > self._max_tokens:
            raise UnfitTextError(f"a sentence has {length} tokens; the model takes {self._max_tokens}")
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}
