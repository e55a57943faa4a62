"""The cross-attention of a translation model that is made to write given translations, or writes its own.

The decoder's state at position t reads target token t - 1 and predicts token t. Which of the two tokens its weights
are taken for is a convention (`State`): the token that is read has been found to be aligned better, since the state
knows it (Chen et al., 2020, "Accurate Word Alignment Induction from Neural Machine Translation", shift-att); the token
that is predicted is what the weights are formed for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from analysis.states import WORDS, Words, pieces_of_words
from analysis.weights import SOURCE, TARGET, Tokens, Weights
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator, check_model
from finetune.placement import Placement, batch_tokens
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.framing import Row
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import EvaluationBatches
from finetune.understanding.rows.token_rows import TokenRows
from veco import VecoForConditionalGeneration
from veco.convert.weights import open_strictly
from veco.labels import IGNORED
from veco.opening import open_config
from veco.pairs import pair_argument

SHOWN = "shown"  # the token that a position of the decoder stands for, which comes along in a batch as a target does


class State(StrEnum):
    """The state of the decoder whose weights are those of a target token."""

    READS = "reads"  # the one whose input the token is
    PREDICTS = "predicts"  # the one before, which predicts it


def num_decoder_layers(directory: Path) -> int:
    """The number of layers of the decoder of the translation model in a directory."""
    return int(open_config(directory).decoder_layers)


@dataclass
class ForcedDecoder:
    """A translation model that writes what it is given, and the layers of its decoder whose weights to use, from 1."""

    model: VecoForConditionalGeneration
    encoder: TextEncoder
    translator: Translator
    layers: Sequence[int]
    state: State
    max_length: int  # in tokens, of a source and of a target; longer ones are truncated
    max_tokens: int  # largest batch with padding
    num_truncated: int = field(default=0, init=False)  # sentences so far

    @classmethod
    def load(
        cls,
        directory: Path,
        layers: Sequence[int],
        state: State,
        max_length: int | None,
        max_tokens: int | None = None,
        placement: Placement | None = None,
        target_language: str | None = None,
    ) -> Self:
        """Load a model directory; None is the longest that the model takes, and a batch that suits the device.

        Raises ValueError as `check_model` does, and for a `max_length` that the model cannot take.
        """
        tokenizer, start = check_model(directory, target_language)
        placement = placement or Placement()
        max_tokens = batch_tokens(max_tokens, placement.chosen_device)
        model = open_strictly(VecoForConditionalGeneration, directory, dtype=placement.dtype).eval()
        model.to(placement.chosen_device)
        translator = Translator.of_model(model, tokenizer, SearchOptions(max_tokens=max_tokens), start)
        frame, most = translator.frame, model.config.max_tokens
        max_length = max_length or most
        shortest = max(frame.num_source_ids, frame.num_target_ids) + 1
        if not shortest <= max_length <= most:
            raise ValueError(f"max-length {max_length}: expected {shortest} to {most} tokens")
        return cls(model, TextEncoder(tokenizer), translator, layers, state, max_length, max_tokens)

    def translations(self, sources: Sequence[Words]) -> list[Words]:
        """The words of the model's own translation of each sentence, by beam search."""
        found = self.translator.translate([" ".join(words) for words in sources], with_scores=False)
        return [hypotheses[0].text.split() for hypotheses in found]

    def weights(self, sources: Sequence[Words], targets: Sequence[Words]) -> Iterator[Weights]:
        """The weights of the target's tokens on those of the source, in batches of pairs of similar length."""
        rows = PairedRows.paired(self._sources(sources), self._targets(targets), np.arange(len(sources)))
        batches = EvaluationBatches(rows, self.max_tokens, self.translator.frame.pad)
        for number in range(len(batches)):
            batch = {name: tensor.to(self.model.device) for name, tensor in batches[number].items()}
            mask, target_mask = batch["attention_mask"], batch[pair_argument("attention_mask")]
            yield Weights(
                batches.units_of(number),
                Tokens.of(batch[pair_argument(SHOWN)], target_mask, batch[pair_argument(WORDS)], TARGET),
                Tokens.of(batch["input_ids"], mask, batch[WORDS], SOURCE),
                self._by_layer(batch["input_ids"], mask, batch[pair_argument("input_ids")]),
            )

    def _by_layer(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Iterator[Tensor]:
        with torch.inference_mode():
            # No label is predicted, so that nothing is projected to the vocabulary.
            output = self.model(
                attention_mask=attention_mask,
                encoder_outputs=self.model.veco(input_ids, attention_mask),
                decoder_input_ids=decoder_input_ids,
                labels=torch.full_like(decoder_input_ids, IGNORED),
                label_smoothing=0.0,
                output_attentions=True,
            )
        return (output.cross_attentions[layer - 1].float() for layer in self.layers)

    def _sources(self, sentences: Sequence[Words]) -> TokenRows:
        """A row for each sentence as the encoder reads it, with WORDS of its tokens."""
        frame = self.translator.frame
        before, behind = (np.full(len(ids), IGNORED) for ids in (frame.source_prefix, frame.source_suffix))
        rows, words = [], []
        for pieces, of_pieces in self._pieces(sentences, frame.num_source_ids):
            rows.append(Row(np.asarray(frame.source(pieces), dtype=np.int32), None))
            words += [before, of_pieces, behind]
        return TokenRows.of(rows, np.arange(len(rows)), token_targets={WORDS: np.concatenate(words)})

    def _targets(self, sentences: Sequence[Words]) -> TokenRows:
        """A row for each sentence as the decoder reads it, with WORDS and SHOWN of its positions."""
        frame, start = self.translator.frame, self.translator.generator.target.start
        rows, words, shown = [], [], []
        for pieces, of_pieces in self._pieces(sentences, frame.num_target_ids):
            predicted = frame.target(pieces)
            read = [start, *predicted[:-1]]
            is_read = self.state is State.READS
            rows.append(Row(np.asarray(read, dtype=np.int32), None))
            of_row = np.full(len(read), IGNORED)
            of_row[int(is_read) :][: len(of_pieces)] = of_pieces
            words.append(of_row)
            shown.append(np.asarray(read if is_read else predicted))
        targets = {WORDS: np.concatenate(words), SHOWN: np.concatenate(shown)}
        return TokenRows.of(rows, np.arange(len(rows)), token_targets=targets)

    def _pieces(self, sentences: Sequence[Words], num_specials: int) -> Iterator[tuple[list[int], np.ndarray]]:
        """The pieces of each sentence that fit beside special tokens, and their words' numbers."""
        budget = self.max_length - num_specials
        for block in in_blocks(sentences):
            pieces, words = pieces_of_words(block, self.encoder)
            self.num_truncated += int((pieces.lengths > budget).sum())
            for number, first in enumerate(pieces.offsets[:-1].tolist()):
                own = pieces[number][:budget].tolist()
                yield own, words[first : first + len(own)]
