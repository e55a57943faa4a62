"""Beam search by fairseq's rules, in which beams change places without a copy of what they have read.

The rules: a hypothesis ends with `</s>`, and its score is the sum of its log-probabilities over length ** lenpen, where
the length counts `</s>`. The `beam` best of 2 * beam candidates are looked at: those that end are put aside, the others
go on with the next best that have not ended. A sentence is done once `beam` hypotheses have ended; of candidates that
end with the last of them, the worse ones are none. `<pad>` and other special tokens are never chosen, and probabilities
are not shared out again for that. A translation has at least min_len pieces, and at max_len_a * x + max_len_b pieces
(x = tokens of the source, `</s>` and the like included) `</s>` is forced. fairseq takes the longest source of the batch
as x; here it is the sentence's own, so that a translation does not depend on its batch. fairseq's default is
0 x + 200; ours, 1.2 x + 10, is that of its IWSLT recipe and spares the time of half-trained models, which repeat
themselves to the limit. A model converted from fairseq may end its translations with another token, such as `[de]`, in
front of which `</s>` is a piece like others.

Shape suffixes: B sentences still open, K beams, C candidates, T pieces so far, V vocabulary, S source, D width, H
heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache

from veco import VecoForConditionalGeneration

MOST_LENPEN = 10  # beyond it, powers of lengths leave the range of the numbers that hold scores
FIRST_SLOTS = 64  # of a pool of keys, before it grows by doubling


@dataclass(frozen=True)
class SearchOptions:
    """How to search. Raises ValueError listing every value that makes no sense."""

    beam: int = 5  # hypotheses kept; 1 is greedy search
    lenpen: float = 1.0  # exponent of the length that a score is divided by: above 1 favours longer translations
    nbest: int = 1  # hypotheses returned for each sentence
    min_len: int = 1  # shortest translation in pieces
    max_len_a: float = 1.2  # longest translation in pieces: max_len_a * source tokens + max_len_b
    max_len_b: int = 10
    unkpen: float = 0.0  # taken from the log-probability of <unk>: above 0 fewer of them
    no_repeat_ngram: int = 0  # no n-gram of this many pieces occurs twice in a translation; 0: no such rule
    max_tokens: int = 1000  # source tokens of a batch, padding included; on a GPU, more is faster

    def __post_init__(self) -> None:
        if problems := search_problems(vars(self)):
            raise ValueError("; ".join(problems))

    def max_pieces(self, num_source_tokens: int, max_tokens: int) -> int:
        """Largest number of pieces of a translation; with the tag before them they fill the decoder, `max_tokens`."""
        return min(int(self.max_len_a * num_source_tokens + self.max_len_b), max_tokens - 1)


def search_problems(values: Mapping[str, Any], spelled: Callable[[str], str] = str) -> list[str]:
    """One sentence for each of the values of SearchOptions that makes no sense, under its name as it was `spelled`."""
    beam, nbest, min_len = values["beam"], values["nbest"], values["min_len"]
    # name -> (whether it is wrong, what it must be, what is told beside its value)
    rules = {
        "beam": (beam < 1, "at least 1", ""),
        "nbest": (not 1 <= nbest <= beam, f"between 1 and {spelled('beam')}", f" with {spelled('beam')} {beam}"),
        "lenpen": (not abs(values["lenpen"]) <= MOST_LENPEN, f"between -{MOST_LENPEN} and {MOST_LENPEN}", ""),
        "unkpen": (not math.isfinite(values["unkpen"]), "finite", ""),
        "min_len": (min_len < 1, "at least 1", ""),
        "max_len_a": (not 0 <= values["max_len_a"] < math.inf, "a number that is not negative", ""),
        "max_len_b": (
            values["max_len_b"] < max(1, min_len),
            f"at least {spelled('min_len')}",
            f" with {spelled('min_len')} {min_len}",
        ),
        "no_repeat_ngram": (values["no_repeat_ngram"] < 0, "0 or more", ""),
        "max_tokens": (values["max_tokens"] < 1, "at least 1", ""),
    }
    return [
        f"{spelled(name)} must be {expected}, found {values[name]}{beside}"
        for name, (is_wrong, expected, beside) in rules.items()
        if is_wrong
    ]


@dataclass(frozen=True)
class TargetIds:
    """Ids that mean something to the search."""

    start: int  # the tag of the target language
    eos: int  # what ends a translation
    unk: int
    forbidden: list[int]  # special tokens, and rows of the model without a piece


@dataclass(frozen=True)
class Found:
    """A hypothesis as the search gives it."""

    ids: list[int]  # pieces, then what ends a translation
    log_probs: list[float]  # natural logarithm of the probability of each id; empty where nobody asked

    def score(self, lenpen: float) -> float:
        """fairseq's score, in nats: the sum of the log-probabilities over length ** lenpen; 0 without them."""
        return sum(self.log_probs) / len(self.log_probs) ** lenpen if self.log_probs else 0.0


class PoolLayer(CacheLayerMixin):
    """Keys and values (B, H, slots, D / H) that one layer has made for all beams of each sentence, in turn.

    The beams of a sentence are queries over one pool, and a mask says which slots each descends from. So a beam's past
    is never copied when it goes on twice, and the attention of a sentence's beams is one product. The price is scores
    over the slots of other beams too, which are few beside the projections.
    """

    def __init__(self, num_sentences: int) -> None:
        super().__init__()
        self.num_sentences = num_sentences
        self.num_slots = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (self._wider(new, FIRST_SLOTS) for new in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """All keys and values so far, the given ones (B * beams, H, 1, D / H) of each beam's new piece behind them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.num_slots, self.num_slots + len(key_states) // self.num_sentences
        if end > self.keys.shape[2]:
            self.keys, self.values = (self._wider(pool, 2 * end) for pool in (self.keys, self.values))
        for pool, new in ((self.keys, key_states), (self.values, value_states)):
            # The rows are sentences and in each its beams: (B * beams, H, 1, ·) -> (B, H, beams, ·).
            pool[:, :, start:end] = new.squeeze(2).unflatten(0, (self.num_sentences, -1)).transpose(1, 2)
        self.num_slots = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _wider(self, old: Tensor, capacity: int) -> Tensor:
        """Room for `capacity` slots, which holds what is in the slots of `old`."""
        pool = old.new_empty(self.num_sentences, old.shape[1], capacity, old.shape[3])
        pool[:, :, : self.num_slots] = old[: self.num_sentences, :, : self.num_slots]
        return pool

    def keep(self, kept: Kept) -> None:
        """Nothing; goes on with those sentences alone."""
        self.keys, self.values = kept.of(self.keys), kept.of(self.values)
        self.num_sentences = len(self.keys)

    def get_seq_length(self) -> int:
        return self.num_slots

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.num_slots + query_length, 0

    def get_max_length(self) -> int:
        return -1


class BeamCache(EncoderDecoderCache):
    """Pools of the targets' keys and values, and those of the source, which the beams of a sentence share."""

    def __init__(self, num_layers: int, num_sentences: int) -> None:
        super().__init__(Cache(layers=[PoolLayer(num_sentences) for _ in range(num_layers)]), DynamicCache())
        self.num_pieces = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Pieces read so far, which the position of the next one is counted from; a pool holds more slots."""
        return self.num_pieces

    def keep(self, kept: Kept) -> None:
        for layer in self.self_attention_cache.layers:
            layer.keep(kept)
        for layer in self.cross_attention_cache.layers:
            layer.keys, layer.values = kept.of(layer.keys), kept.of(layer.values)


class Kept:
    """The sentences that are still open, moved together: the last ones take the places of those that are done."""

    def __init__(self, is_open: Sequence[bool], device: torch.device) -> None:
        self.number = sum(is_open)
        self._free = torch.tensor([i for i in range(self.number) if not is_open[i]], device=device)
        self._moved = torch.tensor([i for i in range(self.number, len(is_open)) if is_open[i]], device=device)

    def of(self, x: Tensor) -> Tensor:
        """The rows of `x` (B, ...) that are kept: a part of it, changed in place."""
        if len(self._free):
            x[self._free] = x[self._moved]
        return x[: self.number]


class BeamSearch:
    """The search for the translations of one batch."""

    def __init__(
        self,
        model: VecoForConditionalGeneration,
        target: TargetIds,
        options: SearchOptions,
        input_ids_BS: Tensor,
        mask_BS: Tensor,
        limits: Sequence[int],
    ) -> None:
        """`input_ids_BS` are sources as the model reads them, `limits` the most pieces of each translation."""
        self.model, self.target, self.options = model, target, options
        device = input_ids_BS.device
        self.found: list[list[Found]] = [[] for _ in limits]
        # Of the sentences that are still open; the first step has one beam, which all others come from.
        self.sentences = list(range(len(limits)))
        self.limits = list(limits)
        self.source_BSD = model.get_encoder()(input_ids_BS, mask_BS).last_hidden_state
        self.mask_BS = None if mask_BS.all() else mask_BS
        self.cache = BeamCache(model.config.decoder_layers, len(limits))
        self.ids_BKT = torch.full((len(limits), 1, 1), target.start, device=device)  # the tag, then the pieces
        self.log_probs_BKT = torch.empty(len(limits), 1, 0, device=device)
        self.scores_BK = torch.zeros(len(limits), 1, device=device)
        self.ancestors_BKT = torch.empty(len(limits), 1, 0, dtype=torch.bool, device=device)  # T: slots of the pools
        self._forbidden = torch.tensor(target.forbidden, dtype=torch.long, device=device)

    def run(self) -> list[list[Found]]:
        """At most `nbest` hypotheses of each source, best first."""
        while self.sentences:
            log_probs_BKV = self._next_log_probs()
            self._restrict(log_probs_BKV)
            self._advance(log_probs_BKV)
        lenpen = self.options.lenpen
        return [
            sorted(found, key=lambda one: one.score(lenpen), reverse=True)[: self.options.nbest] for found in self.found
        ]

    @property
    def num_pieces(self) -> int:
        """Pieces of every open hypothesis."""
        return self.log_probs_BKT.shape[2]

    def _next_log_probs(self) -> Tensor:
        """Log-probabilities (B, K, V) of the next piece of each beam, in float32 at least."""
        num_sentences, num_beams = self.ids_BKT.shape[:2]
        own = torch.eye(num_beams, dtype=torch.bool, device=self.ids_BKT.device).expand(num_sentences, -1, -1)
        self.ancestors_BKT = torch.cat([self.ancestors_BKT, own], dim=2)
        logits = self.model(
            decoder_input_ids=self.ids_BKT[:, :, -1].reshape(-1, 1),
            encoder_outputs=(self.source_BSD,),
            attention_mask=self.mask_BS,
            decoder_attention_mask=None if num_beams == 1 else self.ancestors_BKT.unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        self.cache.num_pieces += 1
        logits = logits.squeeze(1).unflatten(0, (num_sentences, num_beams))
        return logits.log_softmax(dim=2, dtype=torch.promote_types(logits.dtype, torch.float32))

    def _restrict(self, log_probs_BKV: Tensor) -> None:
        """Nothing; sets to minus infinity what must not come next."""
        eos = self.target.eos
        log_probs_BKV[:, :, self.target.unk] -= self.options.unkpen
        end_BK = log_probs_BKV[:, :, eos].clone()
        log_probs_BKV[:, :, self._forbidden] = -math.inf
        if self.num_pieces < self.options.min_len:
            log_probs_BKV[:, :, eos] = -math.inf
        if self.options.no_repeat_ngram:
            forbid_repeats(log_probs_BKV, self.ids_BKT, self.options.no_repeat_ngram)
        at_limit = [row for row, limit in enumerate(self.limits) if limit <= self.num_pieces]
        if at_limit:
            log_probs_BKV[at_limit] = -math.inf
            log_probs_BKV[at_limit, :, eos] = end_BK[at_limit]

    def _advance(self, log_probs_BKV: Tensor) -> None:
        """Nothing; chooses the next piece of each beam, puts aside hypotheses that end and sentences that are done."""
        beam = self.options.beam
        totals_BKV = log_probs_BKV.add_(self.scores_BK.unsqueeze(2))  # in place: large
        _, num_beams, vocab_size = totals_BKV.shape
        best_BC, where_BC = totals_BKV.flatten(1).topk(min(2 * beam, num_beams * vocab_size))
        parents_BC, pieces_BC = where_BC // vocab_size, where_BC % vocab_size
        log_probs_BC = best_BC - self.scores_BK.gather(1, parents_BC)
        ends_BC = pieces_BC == self.target.eos
        self._put_aside(ends_BC[:, :beam] & best_BC[:, :beam].isfinite(), parents_BC, log_probs_BC)

        going_on = ends_BC.long().argsort(dim=1, stable=True)[:, :beam]
        parents_BK, pieces_BK, log_probs_BK = (x.gather(1, going_on) for x in (parents_BC, pieces_BC, log_probs_BC))
        num_pieces = self.num_pieces
        self.scores_BK = best_BC.gather(1, going_on)
        self.ids_BKT = torch.cat([of_parents(self.ids_BKT, parents_BK), pieces_BK.unsqueeze(2)], dim=2)
        self.log_probs_BKT = torch.cat([of_parents(self.log_probs_BKT, parents_BK), log_probs_BK.unsqueeze(2)], dim=2)
        self.ancestors_BKT = of_parents(self.ancestors_BKT, parents_BK)
        pairs = zip(self.sentences, self.limits, strict=True)
        self._keep([len(self.found[sentence]) < beam and num_pieces < limit for sentence, limit in pairs])

    def _put_aside(self, ends_BK: Tensor, parents_BC: Tensor, log_probs_BC: Tensor) -> None:
        """Nothing; the candidates that end are found, the best ones, until their sentence has as many as the beam."""
        rows, ranks = ends_BK.nonzero(as_tuple=True)
        parents = parents_BC[rows, ranks]
        ids = self.ids_BKT[rows, parents, 1:]
        log_probs = torch.cat([self.log_probs_BKT[rows, parents], log_probs_BC[rows, ranks].unsqueeze(1)], dim=1)
        for row, pieces, values in zip(rows.tolist(), ids.tolist(), log_probs.tolist(), strict=True):
            found = self.found[self.sentences[row]]
            if len(found) < self.options.beam:
                found.append(Found([*pieces, self.target.eos], values))

    def _keep(self, is_open: Sequence[bool]) -> None:
        """Nothing; leaves the other sentences out of the steps to come."""
        if all(is_open):
            return
        device = self.ids_BKT.device
        kept = Kept(is_open, device)
        order = kept.of(torch.arange(len(is_open), device=device)).tolist()
        self.sentences, self.limits = [self.sentences[i] for i in order], [self.limits[i] for i in order]
        self.cache.keep(kept)
        self.mask_BS = None if self.mask_BS is None else kept.of(self.mask_BS)
        self.source_BSD, self.scores_BK, self.ids_BKT, self.log_probs_BKT, self.ancestors_BKT = (
            kept.of(x) for x in (self.source_BSD, self.scores_BK, self.ids_BKT, self.log_probs_BKT, self.ancestors_BKT)
        )


def of_parents(x_BKT: Tensor, parents_BK: Tensor) -> Tensor:
    """What each beam takes over from its parent, (B, K, T)."""
    return x_BKT.gather(1, parents_BK.unsqueeze(2).expand(-1, -1, x_BKT.shape[2]))


def forbid_repeats(log_probs_BKV: Tensor, ids_BKT: Tensor, n: int) -> None:
    """Nothing; sets to minus infinity each piece that would be the end of an n-gram which the beam has already."""
    if ids_BKT.shape[2] < n:
        return
    grams_BKTn = ids_BKT.unfold(2, n, 1)
    last_BKn = ids_BKT[:, :, ids_BKT.shape[2] - n + 1 :]
    sentences, beams, starts = (grams_BKTn[..., :-1] == last_BKn.unsqueeze(2)).all(dim=3).nonzero(as_tuple=True)
    log_probs_BKV[sentences, beams, grams_BKTn[sentences, beams, starts, -1]] = -math.inf
