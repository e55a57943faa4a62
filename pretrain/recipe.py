"""The recipe of pre-training."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from pretrain.masking import MASK_TOKEN_SHARE, RANDOM_TOKEN_SHARE
from pretrain.models.layer_numbers import read_layers
from pretrain.recipe_checks import problems_of, problems_of_run
from pretrain.stages import (
    CROSS_ATTENTION,
    EMBEDDINGS,
    EVERYTHING,
    RATE_FIELDS,
    STAGE_FIELDS,
    STEPS,
    Stage,
    at,
    difference_of_parameters,
    past_difference,
    problems_of_languages,
    read_stages,
    stage_of,
    stages_in_turn,
    with_languages_of,
)
from training.lr_schedule import INVERSE_SQRT, lr_factor
from training.recipe.adapters import AdapterRecipe
from training.recipe.base import Phase
from training.recipe.option import BY_NAME, FREE, UNREAD, option

SHAPE_FIELDS = (
    *("num_hidden_layers", "hidden_size", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "initializer_range"),
)


class BatchSize(NamedTuple):
    """Pairs of a global batch, the most tokens of x and of y, and the pairs of it that stay together on a device."""

    pairs: int
    max_length: int
    together: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe(AdapterRecipe):
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
    keep_layers: tuple[int, ...] = option(
        (),
        "layers of init_from to start with, counted from 1, such as [2, 4, 6] for half of six; [] = all",
        on_resume=UNREAD,
        read=read_layers,
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
        0, "updates of a first stage that trains the cross-attention alone (from XLM-R); those of steps follow"
    )
    stages: tuple[Mapping[str, Any], ...] = option(
        (),
        "one after the other, such as [{steps: 100, trains: cross_attention}, {steps: 900, alpha: 0.3}]: updates and "
        f"other values of {', '.join(STAGE_FIELDS)}, or languages to train from there on, add_languages; "
        "{from: 0.3, to: 0.15} changes linearly, with over: 50 in the first 50 updates. [] = steps decides",
        on_resume=BY_NAME,
        decides=("steps", "cross_attention_steps"),
        read=read_stages,
    )
    trains: str = option(
        EVERYTHING,
        "what is trained: everything, or alone the cross_attention, the embeddings of tokens with the output bias, the "
        "body, which is all but these, or the adapters",
    )
    adapter_name: str = option("language", "adapter: its name in the model, such as sw")
    adapter_invertible: bool = option(
        False, "adapter: an invertible one behind the embeddings, too, and inverted before the output (MAD-X)"
    )
    schedule: str = option(
        "linear",
        "learning rate after the warm-up: linear or cosine to 0, inverse_sqrt, constant, or decay, the end of warm-up, "
        "stable, decay: 1 - sqrt(share made)",
        on_resume=BY_NAME,
    )
    languages: tuple[str, ...] | None = option(
        None, "languages to train, such as en,de, their text and the pairs between them; null = all", on_resume=BY_NAME
    )
    pairs: tuple[str, ...] | None = option(
        None, "language pairs to train, such as de-en; null = those of the languages to train", on_resume=BY_NAME
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
    lexicon: str | None = option(
        None,
        "bilingual lexicons for objectives that need them: a directory, a file such as de.txt (English and German) or "
        "en-de.txt, or en-de=FILE, several with commas between; null = none",
        on_resume=BY_NAME,
    )
    thesaurus: str | None = option(
        None,
        "thesauri in MyThes' format, whose synonyms add to the lexicon's: a directory, a file such as th_de_DE_v2.dat, "
        "or de=FILE, several with commas between; null = none",
        on_resume=BY_NAME,
    )
    teacher: str | None = option(
        None,
        "for objective distil: directory of the VECO or XLM-R to learn from, with the data's tokenizer; each device "
        "holds all of it (docs/distillation.md); null = none",
        on_resume=FREE,
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

    def stages_in_turn(self) -> list[Stage]:
        """The stages of the run: those given, or the paper's two (section 4.1), or one."""
        if self.stages:
            return stages_in_turn(self.stages)
        first = {STEPS: self.cross_attention_steps, "trains": CROSS_ATTENTION}
        return stages_in_turn([*([first] if self.cross_attention_steps else []), {STEPS: self.steps}])

    def at(self, step: int) -> Self:
        """The recipe of update `step`, from 0: with the values that its fields have there, without stages."""
        return at(self, stage_of(self.stages_in_turn(), step).values_at(step))

    def phases(self) -> list[Phase]:
        """The stages, with the parameters that each trains."""
        return [Phase(stage.begin, stage.end, self.at(stage.begin).trained) for stage in self.stages_in_turn()]

    @property
    def trained(self) -> str:
        """What a stage trains, in words: a part of the model, without what of it no loss depends on.

        All that decides in `pretrain.models.trained_parameters` is in it: stages of equal words share an engine.
        """
        left_out = [] if self.uses_head else ["head"]
        if self.trains != EMBEDDINGS:
            left_out += [] if self.uses_cross_attention else ["cross_attention"]
            left_out += [] if self.deepest_layer is None else [f"layers above {self.deepest_layer}"]
        return f"{self.trains}{' without ' * bool(left_out)}{', '.join(left_out)}"

    def lr_factor(self, step: int, schedule_start: int = 0) -> float:
        """Factor of the recipe's learning rate for update number `step`, from 0.

        A schedule begins with a stage that names a learning rate, a schedule or a warm-up, or that trains other
        parameters, and goes on to the next such stage. Its warm-up is the recipe's where Adam begins anew, elsewhere
        none but a stage's own. From update `schedule_start` on it begins once more, warm-up included.
        """
        stage, end, begins_anew = self._schedule_of(step)
        begin = max(stage.begin, schedule_start)
        recipe, length = self.at(stage.begin), end - begin
        warms_up = begins_anew or schedule_start >= stage.begin or "warmup_steps" in stage.values
        warmup_steps = min(recipe.warmup_steps, length) if warms_up else 0
        if recipe.schedule == INVERSE_SQRT and not warms_up:  # it falls as it does after its warm-up
            warmup_steps, begin, length = recipe.warmup_steps, begin - recipe.warmup_steps, length + recipe.warmup_steps
        factor = lr_factor(recipe.schedule, step - begin, warmup_steps, length)
        return factor * (recipe.learning_rate / self.learning_rate)

    def _schedule_of(self, step: int) -> tuple[Stage, int, bool]:
        """The stage with which the schedule of an update begins, where the schedule ends, and whether Adam begins."""
        stages = self.stages_in_turn()
        trained = ["", *(phase.trained for phase in self.phases())]
        first, end, begins_anew = stages[0], stages[-1].end, True
        for stage, (before, now) in zip(stages, itertools.pairwise(trained), strict=True):
            if before == now and stage.values.keys().isdisjoint(RATE_FIELDS):
                continue
            if stage.begin > step:
                return first, stage.begin, begins_anew
            first, begins_anew = stage, before != now
        return first, end, begins_anew

    def past_difference(self, before: Mapping[str, Any], step: int) -> str:
        earlier = type(self)(**before)
        of_stages = past_difference(earlier.stages_in_turn(), self.stages_in_turn(), step)
        return of_stages or difference_of_parameters(earlier.objectives(), self.objectives())

    def with_languages_of(self, languages: Collection[str], pairs: Collection[str]) -> Self:
        """This recipe with the languages of each stage that add some, out of the data's.

        Raises ValueError where it names a language or a pair that the data do not have.
        """
        known = {"languages": languages, "pairs": pairs}
        if problems := problems_of_languages(self.stages, vars(self), known):
            raise ValueError("; ".join(problems))
        return dataclasses.replace(self, stages=with_languages_of(self.stages, sorted(languages), self.languages))

    def objectives(self) -> list[str]:
        """The objectives of all stages, each once."""
        return list(dict.fromkeys(self.at(stage.begin).objective for stage in self.stages_in_turn()))

    @property
    def uses_cross_attention(self) -> bool:
        """Whether some loss depends on the cross-attention."""
        # Importing torch takes seconds: --help should not wait for it.
        from veco.objectives.objective_sum import ObjectiveSum

        return ObjectiveSum.of(self.objective).trains_cross_attention

    @property
    def uses_head(self) -> bool:
        """Whether some loss depends on the language-modelling head."""
        from veco.objectives.objective_sum import ObjectiveSum

        return ObjectiveSum.of(self.objective).trains_head

    @property
    def deepest_layer(self) -> int | None:
        """The deepest layer that some loss depends on, 0 = the embeddings; None: the last."""
        from veco.objectives.objective_sum import ObjectiveSum

        return ObjectiveSum.of(self.objective).deepest_layer

    def accumulated(self, num_ranks: int, kinds: Collection[str]) -> Self:
        """This recipe with the accumulation steps that `micro_batch_tokens`, if set, asks for on so many ranks.

        `kinds` are the kinds of batches that the data have, "mono" and "bilingual". Ranks and steps divide their global
        batches, which stay as they are. Raises ValueError where they cannot, or one pair is too much.
        """
        if not self.micro_batch_tokens or not kinds:
            return self
        sizes = self.batch_sizes(kinds)
        if uneven := [name for name, size in sizes.items() if size.pairs % num_ranks]:
            raise ValueError(f"{' and '.join(uneven)} cannot be divided evenly by {num_ranks} ranks")
        # Where a rank has less than stays together, one step: the batches will tell what is wrong.
        most = max(1, math.gcd(*(size.pairs // num_ranks // size.together for size in sizes.values())))
        for steps in range(1, most + 1):
            tokens = max(2 * size.max_length * (size.pairs // (num_ranks * steps)) for size in sizes.values())
            if most % steps == 0 and tokens <= self.micro_batch_tokens:
                return dataclasses.replace(self, accumulation_steps=steps)
        needed = max(2 * size.max_length * size.pairs // (num_ranks * most) for size in sizes.values())
        told = " and ".join(sizes)
        raise ValueError(
            f"micro_batch_tokens {self.micro_batch_tokens} is too little: on {num_ranks} ranks the smallest "
            f"micro-batches that divide {told} need {needed}"
        )

    def batch_sizes(self, kinds: Collection[str]) -> dict[str, BatchSize]:
        """Each size of a global batch that the run has, by its name, for those kinds of batches."""
        # Importing torch takes seconds: --help should not wait for it.
        from pretrain.views.table import pairs_together
        from veco.objectives.objective_sum import ObjectiveSum

        found: dict[str, BatchSize] = {}
        for stage in self.stages_in_turn():
            for step in (stage.begin, stage.end - 1):  # a size that changes is a multiple of what divides both
                recipe = self.at(step)
                values, objective = vars(recipe), ObjectiveSum.of(recipe.objective)
                for kind in kinds:
                    pairs, length = values[f"{kind}_batch_pairs"], values[f"{kind}_max_length"]
                    together = pairs_together(objective, kind, recipe.contrast_pairs)
                    before = found.get(f"{kind}_batch_pairs {pairs}", BatchSize(pairs, 0, 1))
                    found[f"{kind}_batch_pairs {pairs}"] = BatchSize(
                        pairs, max(length, before.max_length), math.lcm(together, before.together)
                    )
        return found

    def inputs(self) -> list[Path]:
        return [Path(directory) for directory in (self.init_from, self.teacher) if directory]

    def problems(self) -> list[str]:
        return [*self.problems_of_values(), *problems_of_run(self)]

    def problems_of_values(self) -> list[str]:
        """One sentence for each wrong value, whatever the stages."""
        return [*super().problems(), *problems_of(self)]

    @property
    def longest_row(self) -> int:
        """The most tokens that a row of a batch may have."""
        return max(self.sequences_in_mono_rows() * self.mono_max_length, 2 * self.bilingual_max_length)

    def sequences_in_mono_rows(self) -> int:
        """Two where the objective writes something as long behind a segment, else one."""
        from pretrain.views.table import VIEWS
        from veco.objectives.objective_sum import ObjectiveSum

        try:
            views = ObjectiveSum.of(self.objective).of_kind("mono").views
        except ValueError:  # told by `problems_of_objective`
            views = ()
        return max((VIEWS[view].sequences for view in views), default=1)
