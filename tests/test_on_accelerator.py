"""Everything beside pre-training on a pretend GPU: no tensor is left on the CPU, and the results are the CPU's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretend_device import DEVICE
from pretend_kernels import pretend_card
from small_runs import run_on
from torch import Tensor

from analysis.attending.shares import Shares
from analysis.forced_decoding import ForcedDecoder, State
from analysis.weights import self_attention
from data_tools.shards.manifest import Manifest
from finetune.mt.decoding.beam_search import SearchOptions, TargetIds
from finetune.mt.decoding.generators import PairBatch, SourceBatch, TorchGenerator
from finetune.understanding.retrieval.embeddings import Embedder, PluggedOutEncoder
from pretrain.batches import ValidationBatches
from pretrain.validation import validate
from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
)
from veco.classification import VecoClassifier
from veco.labels import IGNORED
from veco.objectives.objective_sum import ObjectiveSum

START, END, UNKNOWN, VOCABULARY = 5, 2, 3, 60
SOURCES = [[0, *range(10, 10 + length), 2] for length in (4, 9, 6)]
TARGETS = [[20, 21, 2], [30, 2], [40, 41, 42, 2]]

Numbers = list[float]


def small(**fields: Any) -> VecoConfig:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return VecoConfig(vocab_size=VOCABULARY, **shape, **dropouts, **fields)


def on(device: str, make: Callable[[], Any]) -> Any:
    """A module with the same weights on every device."""
    torch.manual_seed(0)
    with torch.device(device):
        return make()


def rows(*lengths: int) -> tuple[Tensor, Tensor]:
    """Ids, and which of them are no padding."""
    draws = torch.Generator().manual_seed(len(lengths) + sum(lengths))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return torch.randint(4, VOCABULARY - 1, mask.shape, generator=draws).masked_fill(~mask, 1), mask.long()


def loss_and_norms(model: torch.nn.Module, device: str, inputs: dict[str, Tensor], **options: Any) -> Numbers:
    """The loss, and the size of each gradient."""
    loss = model(**{name: tensor.to(device) for name, tensor in inputs.items()}, **options).loss
    loss.backward()
    return [float(loss.detach()), *(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)]


def translation_step(device: str) -> Numbers:
    model = on(device, lambda: VecoForConditionalGeneration(small(decoder_start_token_id=START))).train()
    source, source_mask = rows(5, 12, 9)
    target, target_mask = rows(7, 4, 11)
    inputs = {
        "input_ids": source,
        "attention_mask": source_mask,
        "decoder_input_ids": torch.cat([torch.full((3, 1), START), target[:, :-1]], 1),
        "labels": target.masked_fill(~target_mask.bool(), -100),
    }
    smoothed = loss_and_norms(model, device, inputs, use_cache=False, label_smoothing=0.1)
    return smoothed + loss_and_norms(model, device, inputs, use_cache=False)


def generator(device: str) -> TorchGenerator:
    model = on(device, lambda: VecoForConditionalGeneration(small(decoder_start_token_id=START)))
    options = SearchOptions(beam=3, nbest=2, no_repeat_ngram=2, min_len=2)
    return TorchGenerator(model, TargetIds(START, END, UNKNOWN, [0, 1, 3]), options, pad_token_id=1)


def translation_search(device: str) -> Numbers:
    (found,) = generator(device).search([SourceBatch(SOURCES, [12, 8, 10])], with_scores=True)
    return [number for of_one in found for one in of_one for number in (*map(float, one.ids), *one.log_probs)]


def translation_scores(device: str) -> Numbers:
    (found,) = generator(device).score([PairBatch(SOURCES, TARGETS)])
    return [score for of_one in found for score in of_one]


def generate(device: str) -> Numbers:
    model = on(device, lambda: VecoForConditionalGeneration(small(decoder_start_token_id=START))).eval()
    ids, mask = rows(5, 12, 9)
    found = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), num_beams=2, max_new_tokens=5)
    return [float(i) for row in found.tolist() for i in row]


def head(make: type[VecoClassifier], plug_in: bool, targets: dict[str, Tensor], device: str) -> Numbers:
    model = on(device, lambda: make(small(plug_in=plug_in, num_labels=3)))
    model.veco.skip_padding = make is not VecoForQuestionAnswering
    (ids, mask), (pair_ids, pair_mask) = rows(9, 14, 5), rows(6, 16, 7)
    inputs = {"input_ids": ids, "attention_mask": mask} | targets
    pair = {"pair_input_ids": pair_ids, "pair_attention_mask": pair_mask}
    return loss_and_norms(model, device, inputs | (pair if plug_in else {}))


def sequence_head(device: str) -> Numbers:
    targets = {"labels": torch.tensor([0, 2, 1])}
    return [x for plug_in in (False, True) for x in head(VecoForSequenceClassification, plug_in, targets, device)]


def token_head(device: str) -> Numbers:
    ids, mask = rows(9, 14, 5)
    targets = {"labels": torch.where(mask.bool(), ids % 3, -100)}
    return [x for plug_in in (False, True) for x in head(VecoForTokenClassification, plug_in, targets, device)]


def span_head(device: str) -> Numbers:
    targets = {"start_positions": torch.tensor([1, 2, 3]), "end_positions": torch.tensor([2, 3, 4])}
    return [x for plug_in in (False, True) for x in head(VecoForQuestionAnswering, plug_in, targets, device)]


def masked_lm(device: str) -> Numbers:
    """Over path H, and over path S."""
    model = on(device, lambda: VecoForMaskedLM(small()))
    ids, mask = rows(9, 14, 5)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~mask.bool(), -100)}
    pair = {"encoder_hidden_states": torch.ones(3, 4, 32), "encoder_attention_mask": torch.ones(3, 4).long()}
    return loss_and_norms(model, device, inputs) + loss_and_norms(model, device, inputs | pair)


def embeddings(device: str) -> Numbers:
    model = on(device, lambda: PluggedOutEncoder(small())).eval()
    model.skip_padding = True
    ids, mask = rows(9, 14, 5)
    embedder = Embedder(model, None, layers=[1, 2], max_length=20, max_tokens=100)
    return np.asarray(embedder._pooled({"input_ids": ids, "attention_mask": mask}).cpu()).ravel().tolist()


def attention_shares(device: str) -> Numbers:
    model = on(device, lambda: PluggedOutEncoder(small())).eval()
    ids, mask = rows(9, 14, 5)
    embedder = Embedder(model, None, layers=[1, 2], max_length=20, max_tokens=100)
    words = torch.arange(ids.shape[1]).expand_as(ids).masked_fill(~mask.bool(), IGNORED).clone()
    words[:, 0] = IGNORED  # a special token
    batch = {"input_ids": ids, "attention_mask": mask}
    weights = self_attention(embedder, np.arange(3), batch, words, sides=words % 2)
    return np.asarray(Shares.of(weights).means()).ravel().tolist()


def decoder_attention(device: str) -> Numbers:
    model = on(device, lambda: VecoForConditionalGeneration(small(decoder_start_token_id=START))).eval()
    decoder = ForcedDecoder(model, None, None, layers=[1, 2], state=State.READS, max_length=20, max_tokens=100)
    (source, mask), (target, _) = rows(5, 12, 9), rows(7, 4, 11)
    by_layer = decoder._by_layer(source.to(device), mask.to(device), target.to(device))
    return torch.cat([weights.flatten().cpu() for weights in by_layer]).tolist()


PATHS = [
    translation_step,
    translation_search,
    translation_scores,
    generate,
    sequence_head,
    token_head,
    span_head,
    masked_lm,
    embeddings,
    attention_shares,
    decoder_attention,
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_card_gives_what_the_cpu_gives(path: Callable[[str], Numbers]) -> None:
    expected = path("cpu")
    with pretend_card():
        found = path(DEVICE)
    assert len(expected) > 2 and found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_validation_of_pre_training_is_that_of_the_cpu(random_data: Path) -> None:
    manifest = Manifest.load(random_data)
    held_out = dataclasses.replace(manifest, valid={"mono": manifest.mono, "parallel": manifest.parallel})

    def metrics(device: str) -> dict[str, float]:
        run = run_on(device, random_data, torch.float32, 2, 1, recompute=False, dropout=0.0)
        valid = ValidationBatches(random_data, held_out, run.batches.course.at(0), max_batches=2)
        return validate(run.engine, valid, ObjectiveSum.of("ca_mlm+tlm"))

    expected = metrics("cpu")
    with pretend_card():
        found = metrics(DEVICE)
    assert "de-en/tlm" in expected and found == pytest.approx(expected, rel=1e-4)
