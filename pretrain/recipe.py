"""The recipe of pre-training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self

from pretrain.masking import MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE
from training.recipe.base import Phase, TrainingRecipe
from training.recipe.checks import above_zero, at_least, below_one, between_zero_and_one, not_negative
from training.recipe.option import BY_NAME, FREE, UNREAD, option

SHAPE_FIELDS = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "initializer_range"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe(TrainingRecipe):
    """Pre-train VECO on prepared shards. Values of the paper: VECO (ACL 2021), table 8."""

    data: str = option(
        "embedded", "directory that data_tools.prepare made; 'embedded' = the corpus that ships with us", on_resume=FREE
    )
    init_from: str | None = option(
        None,
        "directory of an XLM-R or a VECO to start from; null = random weights",
        on_resume=UNREAD,
        decides=SHAPE_FIELDS,
    )
    num_hidden_layers: int = option(
        4, "layers of a new model (the following shape fields, too, are for init_from: null)"
    )
    hidden_size: int = option(128, "width")
    num_attention_heads: int = option(4, "attention heads")
    intermediate_size: int = option(512, "width of the feed-forward module")
    max_position_embeddings: int = option(514, "positions: the longest sequence + 2")
    initializer_range: float = option(0.02, "standard deviation of new weights; XLM-R's 0.02 suits a width of 1024")
    dropout: float = option(0.1, "dropout behind every module and the embeddings", on_resume=BY_NAME)
    attention_dropout: float = option(0.1, "dropout of attention weights", on_resume=BY_NAME)
    cross_attention_steps: int = option(
        0, "updates of a first phase that trains the cross-attention alone (from XLM-R)"
    )
    objective: str = option(
        "ca_mlm+tlm",
        "a sum of objectives, each perhaps with a weight and options, such as ca_mlm + tlm + "
        "0.1 * contrast(temperature=0.05); ca_mlm is eq. 1 of VECO, mlm + tlm is XLM's; all are in docs/objectives.md",
    )
    contrast_pairs: int = option(
        32,
        "pairs that are contrasted with each other, by objectives that do: groups of so many never straddle ranks or "
        "accumulation steps, so that the losses are the same for any number of these",
        on_resume=BY_NAME,
    )
    alpha: float = option(
        0.5, "languages and pairs are drawn in proportion to (number of sentences) ^ alpha", on_resume=BY_NAME
    )
    mono_batch_pairs: int = option(64, "pairs of adjacent segments in a global monolingual batch", on_resume=BY_NAME)
    bilingual_batch_pairs: int = option(64, "sentence pairs in a global bilingual batch", on_resume=BY_NAME)
    micro_batch_tokens: int = option(
        0,
        "most tokens of a device's micro-batch, x and y together and each as long as may be: decides "
        "accumulation_steps, the fewest that suffice, for any number of devices; 0 = accumulation_steps decides",
        on_resume=FREE,
        decides=("accumulation_steps",),
    )
    mono_max_length: int = option(
        128, "longest segment of a monolingual batch, in tokens with <s> and </s>", on_resume=BY_NAME
    )
    bilingual_max_length: int = option(
        64, "longest sentence of a bilingual batch, in tokens with <s> and </s>", on_resume=BY_NAME
    )
    mono_mask_rate: float = option(0.15, "share of tokens to predict in monolingual batches", on_resume=BY_NAME)
    bilingual_mask_rate: float = option(0.25, "share of tokens to predict in bilingual batches", on_resume=BY_NAME)
    bilingual_mask_spread: float = option(
        0.0,
        "the sentences of a pair have the shares bilingual_mask_rate + d and - d, d uniform in +- this: where one is "
        "hidden the other can be read (rates as varied as in Mask-Predict, Ghazvininejad et al., 2019)",
        on_resume=BY_NAME,
    )
    mask_token_share: float = option(
        MASK_TOKEN_SHARE, "share of the tokens to predict that become <mask>", on_resume=BY_NAME
    )
    random_token_share: float = option(
        RANDOM_TOKEN_SHARE, "share of the tokens to predict that become random ones; the rest stay", on_resume=BY_NAME
    )
    span_length: float = option(
        0.0, "mean length of masked spans, geometric as in SpanBERT (3.8); 0 = single tokens", on_resume=BY_NAME
    )
    validate_batches: int = option(
        8,
        "most batches of 16 held-out pairs in a validation, of each language and language pair; 0 = no validation",
        on_resume=FREE,
    )
    peak_tflops: float | None = option(
        None,
        "dense peak of one device at the trained precision, TFLOP/s, to show utilisation; null = not shown",
        on_resume=FREE,
    )

    def phases(self) -> list[Phase]:
        """The cross-attention alone, if the recipe says so, then everything (paper, section 4.1)."""
        border = self.cross_attention_steps
        return [*([Phase(0, border)] if border else []), Phase(border, border + self.steps)]

    def accumulated(self, num_ranks: int, kinds: Collection[str]) -> Self:
        """This recipe with the accumulation steps that `micro_batch_tokens`, if set, asks for on so many ranks.

        `kinds` are the kinds of batches that the data have, "mono" and "bilingual". Ranks and steps divide their global
        batches, which stay as they are. Raises ValueError where they cannot, or one pair is too much.
        """
        if not self.micro_batch_tokens or not kinds:
            return self
        values = vars(self)
        pairs = {kind: values[f"{kind}_batch_pairs"] for kind in kinds}
        if uneven := [f"{kind}_batch_pairs {count}" for kind, count in pairs.items() if count % num_ranks]:
            raise ValueError(f"{' and '.join(uneven)} cannot be divided evenly by {num_ranks} ranks")
        allowed = {kind: self.micro_batch_tokens // (2 * values[f"{kind}_max_length"]) for kind in kinds}
        most = self._most_steps({kind: count // num_ranks for kind, count in pairs.items()})
        for steps in range(1, most + 1):
            if most % steps == 0 and all(pairs[kind] // (num_ranks * steps) <= allowed[kind] for kind in kinds):
                return dataclasses.replace(self, accumulation_steps=steps)
        needed = max(2 * values[f"{kind}_max_length"] * pairs[kind] // (num_ranks * most) for kind in kinds)
        told = " and ".join(f"{kind}_batch_pairs {count}" for kind, count in pairs.items())
        raise ValueError(
            f"micro_batch_tokens {self.micro_batch_tokens} is too little: on {num_ranks} ranks the smallest "
            f"micro-batches that divide {told} need {needed}"
        )

    def _most_steps(self, pairs: Mapping[str, int]) -> int:
        """The accumulation steps of which a number may be taken that divides them, for a rank's `pairs` by kind.

        Pairs that belong together stay in one micro-batch. 1 where that is impossible: the batches will say so.
        """
        # Importing torch takes seconds: --help should not wait for it.
        from pretrain.views.table import pairs_together
        from veco.objectives.objective_sum import ObjectiveSum

        objective = ObjectiveSum.of(self.objective)
        together = {kind: pairs_together(objective, kind, self.contrast_pairs) for kind in pairs}
        if any(count % together[kind] for kind, count in pairs.items()):
            return 1
        return math.gcd(*(count // together[kind] for kind, count in pairs.items()))

    def inputs(self) -> list[Path]:
        return [Path(self.init_from)] if self.init_from else []

    def problems(self) -> list[str]:
        return [
            *super().problems(),
            *self._problems_of_objective(),
            *self._problems_of_masks(),
            *not_negative(self, "validate_batches", "micro_batch_tokens"),
            *([] if self.peak_tflops is None else above_zero(self, "peak_tflops")),
            *below_one(self, "mono_mask_rate", "bilingual_mask_rate", "dropout", "attention_dropout"),
            *between_zero_and_one(self, "alpha"),
            *self._problems_of_first_phase(),
            *at_least(self, 1, "mono_batch_pairs", "bilingual_batch_pairs"),
            *at_least(self, 2, "contrast_pairs"),
            *self._problems_of_lengths(),
        ]

    def _problems_of_masks(self) -> list[str]:
        found = []
        shares = (self.mask_token_share, self.random_token_share)
        if min(shares) < 0 or sum(shares) > 1:
            found.append(
                f"mask_token_share {self.mask_token_share} and random_token_share {self.random_token_share} "
                "must not be negative, nor above 1 together"
            )
        if self.span_length != 0 and self.span_length < 1:
            found.append(f"span_length {self.span_length} must be 0 or at least 1")
        rate, spread = self.bilingual_mask_rate, self.bilingual_mask_spread
        if spread < 0 or rate - spread < 0 or rate + spread > 1:
            found.append(
                f"bilingual_mask_spread {spread} must not be negative, nor lead bilingual_mask_rate {rate} "
                "out of 0 to 1"
            )
        return found

    def _problems_of_objective(self) -> list[str]:
        # Importing torch takes seconds: --help should not wait for it.
        from veco.objectives.objective_sum import ObjectiveSum

        try:
            objective = ObjectiveSum.of(self.objective)
        except ValueError as error:
            return [str(error)]
        if self.cross_attention_steps and not objective.trains_cross_attention:
            return [f"cross_attention_steps: objective {self.objective!r} does not train the cross-attention"]
        with_momentum = [part.name for part in objective if part.has_momentum]
        if with_momentum and self.cuts_weights:
            return [
                f"objective {self.objective!r}: {with_momentum[0]} has a momentum copy of the encoder, whose weights "
                f"ZeRO-3 ({self.ds_config}) cuts into parts; take a ds_config of ZeRO-1 or -2, or contrast instead"
            ]
        return []

    def _problems_of_first_phase(self) -> list[str]:
        found = not_negative(self, "cross_attention_steps")
        if self.cross_attention_steps and not self.init_from:
            found.append("cross_attention_steps needs init_from: a random encoder gives the cross-attention nothing")
        return found

    def _problems_of_lengths(self) -> list[str]:
        found = []
        if min(self.mono_max_length, self.bilingual_max_length) < 4:
            found.append("mono_max_length and bilingual_max_length must be at least 4")
        longest = max(self.mono_max_length, 2 * self.bilingual_max_length)
        if not self.init_from and longest > self.max_position_embeddings - 2:
            found.append(
                f"max_position_embeddings {self.max_position_embeddings} must be at least {longest + 2}: "
                "mono_max_length, or both sentences of a bilingual pair, + 2"
            )
        return found
