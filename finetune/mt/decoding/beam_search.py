"""Beam search by fairseq's rules, with a key-value cache that is not copied when beams are reordered.

The rules: a hypothesis ends with `</s>`, and its score is the sum of its log-probabilities divided by length ** lenpen,
where the length includes `</s>`. Of 2 * beam candidates, those among the best `beam` that end are finalized; the best
`beam` of the others continue. A sentence is finished once `beam` hypotheses are finalized; further candidates that end
in the same step are discarded. `<pad>` and other special tokens are never chosen, and probabilities are not
renormalised for that. A translation has at least min_len pieces, and `</s>` is forced after max_len_a * x + max_len_b
pieces (x = source tokens, `</s>` and the like included). In fairseq, x is the longest source of the batch; here it is
the sentence's own, so that a translation does not depend on its batch. fairseq's default is 0 x + 200; ours,
1.2 x + 10, is that of its IWSLT recipe and saves time with half-trained models, which repeat themselves up to the
limit. A model converted from fairseq may end its translations with another token, such as `[de]`, before which `</s>`
is an ordinary piece.

Shape suffixes: B unfinished sentences, K beams, C candidates, T pieces so far, V vocabulary, S source, D width,
H heads.
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

MAX_LENPEN = 10  # with larger exponents, powers of lengths overflow
FIRST_SLOTS = 64  # initial capacity of a pool of keys, which grows by doubling


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search. Raises ValueError listing every invalid value."""

    beam: int = 5  # beam size; 1 is greedy search
    lenpen: float = 1.0  # length penalty, the exponent of the length: above 1 favours longer translations
    nbest: int = 1  # hypotheses returned for each sentence
    min_len: int = 1  # minimum length of a translation in pieces
    max_len_a: float = 1.2  # maximum length in pieces: max_len_a * source tokens + max_len_b
    max_len_b: int = 10
    unkpen: float = 0.0  # subtracted from the log-probability of <unk>: above 0 yields fewer of them
    no_repeat_ngram: int = 0  # no n-gram of this many pieces occurs twice in a translation; 0 = off
    max_tokens: int = 1000  # source tokens of a batch, padding included; on a GPU, more is faster

    def __post_init__(self) -> None:
        if problems := search_problems(vars(self)):
            raise ValueError("; ".join(problems))

    def max_pieces(self, num_source_tokens: int, max_tokens: int) -> int:
        """Maximum length of a translation in pieces; with the start token it fits the decoder's `max_tokens`."""
        return min(int(self.max_len_a * num_source_tokens + self.max_len_b), max_tokens - 1)


def search_problems(values: Mapping[str, Any], spelled: Callable[[str], str] = str) -> list[str]:
    """One sentence for each invalid value of SearchOptions; `spelled` maps the name of a field to the user's."""
    beam, nbest, min_len = values["beam"], values["nbest"], values["min_len"]
    # name -> (is it invalid, what it must be, what else to say besides its value)
    rules = {
        "beam": (beam < 1, "at least 1", ""),
        "nbest": (not 1 <= nbest <= beam, f"between 1 and {spelled('beam')}", f" with {spelled('beam')} {beam}"),
        "lenpen": (not abs(values["lenpen"]) <= MAX_LENPEN, f"between -{MAX_LENPEN} and {MAX_LENPEN}", ""),
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
        f"{spelled(name)} must be {expected}, found {values[name]}{more}"
        for name, (is_wrong, expected, more) in rules.items()
        if is_wrong
    ]


@dataclass(frozen=True)
class TargetIds:
    """Ids that the search treats specially."""

    start: int  # starts the decoder: the tag of the target language
    eos: int  # ends a translation
    unk: int | None  # None: every text has pieces
    forbidden: list[int]  # special tokens, and ids of the model without a piece


@dataclass(frozen=True)
class Found:
    """A finalized hypothesis."""

    ids: list[int]  # pieces, then the id that ends a translation
    log_probs: list[float]  # natural logarithm of the probability of each id; empty if no scores were asked for

    def score(self, lenpen: float) -> float:
        """fairseq's score, in nats: the sum of the log-probabilities / length ** lenpen; 0 if there are none."""
        if not self.log_probs:
            return 0.0
        return sum(self.log_probs) / len(self.log_probs) ** lenpen


class PoolLayer(CacheLayerMixin):
    """One layer's keys and values (B, H, slots, D / H) of all beams of each sentence, a slot for each beam and step.

    The beams of a sentence attend to a shared pool, and a mask says which slots are each beam's ancestors. So a beam's
    history is not copied when several beams continue it, and the attention of a sentence's beams is one product. The
    cost is attention scores for other beams' slots too, which is small compared with the projections.
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
        """All keys and values so far, with those of each beam's new piece, (B * beams, H, 1, D / H), appended."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.num_slots, self.num_slots + len(key_states) // self.num_sentences
        if end > self.keys.shape[2]:
            self.keys, self.values = (self._wider(pool, 2 * end) for pool in (self.keys, self.values))
        for pool, new in ((self.keys, key_states), (self.values, value_states)):
            # The rows are the beams of each sentence in turn: (B * beams, H, 1, ·) -> (B, H, beams, ·).
            pool[:, :, start:end] = new.squeeze(2).unflatten(0, (self.num_sentences, -1)).transpose(1, 2)
        self.num_slots = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _wider(self, old: Tensor, capacity: int) -> Tensor:
        """A pool of `capacity` slots with the content of `old`."""
        pool = old.new_empty(self.num_sentences, old.shape[1], capacity, old.shape[3])
        pool[:, :, : self.num_slots] = old[: self.num_sentences, :, : self.num_slots]
        return pool

    def keep(self, kept: Kept) -> None:
        """Keep only those sentences."""
        self.keys, self.values = kept.of(self.keys), kept.of(self.values)
        self.num_sentences = len(self.keys)

    def get_seq_length(self) -> int:
        return self.num_slots

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.num_slots + query_length, 0

    def get_max_length(self) -> int:
        return -1


class BeamCache(EncoderDecoderCache):
    """Pools of the decoder's own keys and values, and those of the source, which the beams of a sentence share."""

    def __init__(self, num_layers: int, num_sentences: int) -> None:
        super().__init__(Cache(layers=[PoolLayer(num_sentences) for _ in range(num_layers)]), DynamicCache())
        self.num_pieces = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of pieces so far, which is the position of the next one; a pool has more slots."""
        return self.num_pieces

    def keep(self, kept: Kept) -> None:
        """Keep only those sentences."""
        for layer in self.self_attention_cache.layers:
            layer.keep(kept)
        for layer in self.cross_attention_cache.layers:
            layer.keys, layer.values = kept.of(layer.keys), kept.of(layer.values)


class Kept:
    """The rows of unfinished sentences, compacted: the last ones take the places of the finished ones."""

    def __init__(self, is_kept: Sequence[bool], device: torch.device) -> None:
        self.number = sum(is_kept)
        self._free = torch.tensor([i for i in range(self.number) if not is_kept[i]], device=device)
        self._moved = torch.tensor([i for i in range(self.number, len(is_kept)) if is_kept[i]], device=device)

    def of(self, x: Tensor) -> Tensor:
        """The kept rows of `x` (B, ...), a view of it, which is changed in place."""
        if len(self._free):
            x[self._free] = x[self._moved]
        return x[: self.number]


class BeamSearch:
    """The beam search of one batch."""

    def __init__(
        self,
        model: VecoForConditionalGeneration,
        target: TargetIds,
        options: SearchOptions,
        input_ids_BS: Tensor,
        mask_BS: Tensor,
        limits: Sequence[int],
    ) -> None:
        """`input_ids_BS` are sources as the model reads them, `limits` the maximum lengths of the translations."""
        self.model, self.target, self.options = model, target, options
        device = input_ids_BS.device
        self.found: list[list[Found]] = [[] for _ in limits]
        # State of the unfinished sentences; the first step has one beam, from which all others branch.
        self.sentences = list(range(len(limits)))
        self.limits = list(limits)
        self.source_BSD = model.get_encoder()(input_ids_BS, mask_BS).last_hidden_state
        self.mask_BS = None if mask_BS.all() else mask_BS
        self.cache = BeamCache(model.config.decoder_layers, len(limits))
        self.ids_BKT = torch.full((len(limits), 1, 1), target.start, device=device)  # the start token, then the pieces
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
        """Length so far of every unfinished hypothesis, in pieces."""
        return self.log_probs_BKT.shape[2]

    def _next_log_probs(self) -> Tensor:
        """Log-probabilities (B, K, V) of the next piece of each beam, at least in float32."""
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
        """Set the log-probability of pieces that must not come next to minus infinity."""
        eos = self.target.eos
        if self.target.unk is not None:
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
        """Choose the next piece of each beam; finalize hypotheses that end, and remove finished sentences."""
        beam = self.options.beam
        totals_BKV = log_probs_BKV.add_(self.scores_BK.unsqueeze(2))  # in place, since it is large
        _, num_beams, vocab_size = totals_BKV.shape
        best_BC, where_BC = totals_BKV.flatten(1).topk(min(2 * beam, num_beams * vocab_size))
        parents_BC, pieces_BC = where_BC // vocab_size, where_BC % vocab_size
        log_probs_BC = best_BC - self.scores_BK.gather(1, parents_BC)
        ends_BC = pieces_BC == self.target.eos
        self._finalize(ends_BC[:, :beam] & best_BC[:, :beam].isfinite(), parents_BC, log_probs_BC)

        continuing_BK = ends_BC.long().argsort(dim=1, stable=True)[:, :beam]
        parents_BK = parents_BC.gather(1, continuing_BK)
        pieces_BK = pieces_BC.gather(1, continuing_BK)
        log_probs_BK = log_probs_BC.gather(1, continuing_BK)
        num_pieces = self.num_pieces
        self.scores_BK = best_BC.gather(1, continuing_BK)
        self.ids_BKT = torch.cat([of_parents(self.ids_BKT, parents_BK), pieces_BK.unsqueeze(2)], dim=2)
        self.log_probs_BKT = torch.cat([of_parents(self.log_probs_BKT, parents_BK), log_probs_BK.unsqueeze(2)], dim=2)
        self.ancestors_BKT = of_parents(self.ancestors_BKT, parents_BK)
        pairs = zip(self.sentences, self.limits, strict=True)
        self._keep([len(self.found[sentence]) < beam and num_pieces < limit for sentence, limit in pairs])

    def _finalize(self, ends_BK: Tensor, parents_BC: Tensor, log_probs_BC: Tensor) -> None:
        """Add the candidates that end to their sentence's hypotheses, best first, until it has `beam` of them."""
        rows, candidates = ends_BK.nonzero(as_tuple=True)
        parents = parents_BC[rows, candidates]
        ids = self.ids_BKT[rows, parents, 1:]
        last_log_probs = log_probs_BC[rows, candidates].unsqueeze(1)
        log_probs = torch.cat([self.log_probs_BKT[rows, parents], last_log_probs], dim=1)
        for row, pieces, values in zip(rows.tolist(), ids.tolist(), log_probs.tolist(), strict=True):
            found = self.found[self.sentences[row]]
            if len(found) < self.options.beam:
                found.append(Found([*pieces, self.target.eos], values))

    def _keep(self, is_kept: Sequence[bool]) -> None:
        """Remove the other sentences."""
        if all(is_kept):
            return
        device = self.ids_BKT.device
        kept = Kept(is_kept, device)
        order = kept.of(torch.arange(len(is_kept), device=device)).tolist()
        self.sentences = [self.sentences[i] for i in order]
        self.limits = [self.limits[i] for i in order]
        self.cache.keep(kept)
        if self.mask_BS is not None:
            self.mask_BS = kept.of(self.mask_BS)
        self.source_BSD = kept.of(self.source_BSD)
        self.scores_BK = kept.of(self.scores_BK)
        self.ids_BKT = kept.of(self.ids_BKT)
        self.log_probs_BKT = kept.of(self.log_probs_BKT)
        self.ancestors_BKT = kept.of(self.ancestors_BKT)


def of_parents(x_BKT: Tensor, parents_BK: Tensor) -> Tensor:
    """The row of each beam's parent, (B, K, T)."""
    return x_BKT.gather(1, parents_BK.unsqueeze(2).expand(-1, -1, x_BKT.shape[2]))


def forbid_repeats(log_probs_BKV: Tensor, ids_BKT: Tensor, n: int) -> None:
    """Set to minus infinity each piece that would complete an n-gram that the beam already contains."""
    if ids_BKT.shape[2] < n:
        return
    grams_BKTn = ids_BKT.unfold(2, n, 1)
    last_BKn = ids_BKT[:, :, ids_BKT.shape[2] - n + 1 :]
    sentences, beams, starts = (grams_BKTn[..., :-1] == last_BKn.unsqueeze(2)).all(dim=3).nonzero(as_tuple=True)
    log_probs_BKV[sentences, beams, grams_BKTn[sentences, beams, starts, -1]] = -math.inf
