"""The answers of a masked language model, a VECO or any other of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, PreTrainedModel

from analysis.masking.questions import LABELS, PLACES, Question, rows_of
from finetune.encoders import Encoder
from finetune.placement import Placement, batch_tokens
from finetune.understanding.heads.build_model import load_model
from finetune.understanding.rows.encoding import TextEncoder, text_encoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from veco.labels import IGNORED

POSITIONS = 256  # whose logits over the vocabulary are in float32 at once
UNUSED = "cross_attention"  # in the names of weights that a text alone does not reach


@dataclass(frozen=True)
class Answers:
    """For each asked piece, in the order of the questions: −log of its probability, and whether it is the likeliest."""

    nats: np.ndarray
    is_right: np.ndarray


@dataclass
class MaskedLM:
    """A masked language model and its tokenizer; a VECO is plugged out."""

    model: PreTrainedModel
    encoder: TextEncoder
    mask: int
    max_tokens: int  # largest batch with padding

    @classmethod
    def load(cls, opened: Encoder, max_tokens: int | None, placement: Placement) -> Self:
        """Load the weights of a directory; `max_tokens` None is what suits the device.

        Raises ValueError for a model without the weights of a head that predicts masked pieces.
        """
        model, absent = load_model(AutoModelForMaskedLM, opened.directory, None, placement.dtype)
        if missing := sorted(name for name in absent if UNUSED not in name):
            raise ValueError(
                f"{opened.directory}: lacks {len(missing)} weights of a masked language model, such as {missing[0]}; "
                "expected a model that was pre-trained, with its head"
            )
        model.eval().to(placement.chosen_device)
        return cls(model, text_encoder(opened), mask_of(opened), batch_tokens(max_tokens, placement.chosen_device))

    def answers(self, questions: Sequence[Question]) -> Answers:
        """The answers to some questions, in batches of similar length."""
        rows = rows_of(questions, self.encoder.single, self.mask)
        num_asked = int((rows.token_targets[LABELS] != IGNORED).sum())
        found = Answers(np.zeros(num_asked), np.zeros(num_asked, dtype=bool))
        batches = EvaluationBatches(PairedRows.alone(rows), self.max_tokens, self.encoder.pad)
        for number in range(len(batches)):
            batch = batches[number]
            places, labels = batch.pop(PLACES), batch.pop(LABELS)
            is_asked = labels != IGNORED
            own = places[is_asked].numpy()
            found.nats[own], found.is_right[own] = self._answers_of(batch, is_asked, labels[is_asked])
        return found

    def _answers_of(self, batch: dict[str, Tensor], is_asked: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        device = self.model.device
        labels = labels.to(device)
        with torch.inference_mode():
            logits = self.logits({name: one.to(device) for name, one in batch.items()}, is_asked.to(device))
            parts = list(zip(logits.split(POSITIONS), labels.split(POSITIONS), strict=True))
            nats = torch.cat([cross_entropy(part.float(), own, reduction="none") for part, own in parts])
        return nats.cpu().numpy(), (logits.argmax(dim=-1) == labels).cpu().numpy()

    def logits(self, batch: dict[str, Tensor], is_asked: Tensor) -> Tensor:
        """The logits (N, V) of the N positions where `is_asked` (B, T); only those are projected to the vocabulary.

        Over a vocabulary of 250,000 pieces, the logits of all positions would take most of the memory.
        """

        def narrow(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            states = given[0]
            return (states[is_asked], *given[1:]) if states.shape[:2] == is_asked.shape else given

        projection = self.model.get_output_embeddings()
        hook = None if projection is None else projection.register_forward_pre_hook(narrow)
        try:
            logits = self.model(**batch).logits
        finally:
            if hook is not None:
                hook.remove()
        return logits if logits.dim() == 2 else logits[is_asked]


def mask_of(opened: Encoder) -> int:
    """The id of the mask. Raises ValueError for a tokenizer without one."""
    if opened.tokenizer.mask_token_id is None:
        raise ValueError(f"{opened.directory}: its tokenizer has no mask, so that no word can be masked")
    return int(opened.tokenizer.mask_token_id)


def longest_line(opened: Encoder, encoder: TextEncoder, max_length: int | None) -> int:
    """The pieces of the longest line that a model takes, without special tokens, in rows of at most `max_length`.

    Raises ValueError for a `max_length` that it cannot take.
    """
    specials = encoder.single.num_specials
    if max_length is not None and not specials < max_length <= opened.max_tokens:
        raise ValueError(
            f"--max-length {max_length}: {opened.directory} takes {specials + 1} to {opened.max_tokens:,} tokens"
        )
    return (max_length or opened.max_tokens) - specials
