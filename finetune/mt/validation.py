"""Validation of a translation model in training: likelihood of held-out pairs, and BLEU of its translations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from sacrebleu.metrics import BLEU
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator
from finetune.mt.scoring.tokenizers import sacrebleu_tokenizer
from finetune.mt.token_batches import TranslationBatches
from training.engine.interface import Engine
from training.random_order import evaluation_indices
from veco import VecoForConditionalGeneration
from veco.labels import IGNORED

MAX_NGRAM_ORDER = 4


@dataclass(frozen=True)
class HeldOut:
    """The validation set of one direction: its batches, and its text for BLEU (empty if BLEU is not wanted)."""

    batches: TranslationBatches
    target_language: str
    decoder_start_id: int
    sources: Sequence[str]
    references: Sequence[str]


def likelihoods(engine: Engine, held_out: Mapping[str, HeldOut]) -> dict[str, float]:
    """Mean negative log-likelihood in nats per target token, and perplexity, over all directions.

    With several directions also that of each, as `en-de/nll`.
    """
    sums = torch.stack([likelihood_sums(engine, direction.batches) for direction in held_out.values()])
    sums = engine.sum_over_ranks(sums)
    nll_sum, num_tokens = sums.sum(dim=0).tolist()
    nll = nll_sum / num_tokens
    found = {"nll": nll, "perplexity": math.exp(min(nll, 100.0))}
    if len(held_out) > 1:
        means = (sums[:, 0] / sums[:, 1]).tolist()
        found |= {f"{name}/nll": mean for name, mean in zip(held_out, means, strict=True)}
    return found


def likelihood_sums(engine: Engine, batches: TranslationBatches) -> Tensor:
    """This rank's sum of negative log-likelihoods and number of target tokens, float64 (2,); called on every rank."""
    sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
    engine.model.eval()
    with torch.no_grad():
        for number, counts in evaluation_indices(len(batches), engine.rank, engine.world_size):
            batch = {name: tensor.to(engine.device) for name, tensor in batches[number].items()}
            with engine.forward_context():
                nll_sum = engine.model(**batch, use_cache=False, label_smoothing=0.0).loss
            if counts:
                sums += torch.stack([nll_sum.double(), batch["labels"].ne(IGNORED).sum().double()])
    engine.model.train()
    return sums


def bleu_scores(
    engine: Engine,
    model: VecoForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Mapping[str, HeldOut],
    options: SearchOptions,
) -> dict[str, float]:
    """sacreBLEU (cased) over the translations of all ranks, each of which translates its share; called on every rank.

    With several directions their mean, and also that of each, as `en-de/bleu`.
    """
    copied = gathered_copy(engine, model)
    scores = {}
    for name, text in held_out.items():
        translator = Translator.of_model(copied, tokenizer, options, text.decoder_start_id)
        share = slice(engine.rank, None, engine.world_size)
        translations = [found[0].text for found in translator.translate(text.sources[share], with_scores=False)]
        counts = bleu_counts(translations, text.references[share], text.target_language)
        scores[name] = bleu_of(engine.sum_over_ranks(counts.to(engine.device)))
    found = {"bleu": sum(scores.values()) / len(scores)}
    if len(scores) > 1:
        found |= {f"{name}/bleu": score for name, score in scores.items()}
    return found


def bleu_counts(translations: Sequence[str], references: Sequence[str], language: str) -> Tensor:
    """int64 (10,): matching and total n-grams of orders 1 to 4, words of the translations and of the references.

    The counts of the parts of a corpus add up to those of the corpus.
    """
    if not references:
        return torch.zeros(2 * MAX_NGRAM_ORDER + 2, dtype=torch.int64)
    metric = BLEU(tokenize=sacrebleu_tokenizer(language))
    score = metric.corpus_score(list(translations), [list(references)])
    return torch.tensor([*score.counts, *score.totals, score.sys_len, score.ref_len])


def bleu_of(counts: Tensor) -> float:
    """BLEU, 0 to 100, from the `bleu_counts` of a whole corpus, by sacreBLEU's own formula and smoothing."""
    *ngrams, num_words, num_reference_words = counts.tolist()
    matching, total = ngrams[:MAX_NGRAM_ORDER], ngrams[MAX_NGRAM_ORDER:]
    score = BLEU.compute_bleu(matching, total, num_words, num_reference_words, smooth_method="exp")
    return float(score.score)


def gathered_copy(engine: Engine, model: VecoForConditionalGeneration) -> VecoForConditionalGeneration:
    """A complete float32 copy of the model in training on every rank; called on every rank.

    Under ZeRO-3 all ranks must run each forward pass together, but their translations need different numbers of them.
    """
    weights = engine.full_state_dict()
    with torch.device(engine.device):
        copied = type(model)(model.config)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if engine.rank == 0:
                parameter.copy_(weights[name])
            else:
                parameter.zero_()
            parameter.copy_(engine.sum_over_ranks(parameter.detach()))
    return copied.eval()
