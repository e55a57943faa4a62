"""The losses of pre-training, and what lines of metrics show beside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrain.flops import training_flops
from pretrain.micro_batch import NUM_TOKENS, PACKED, SAMPLES
from pretrain.recipe import PretrainRecipe
from pretrain.totals import Totals, training_line
from training.engine.interface import Engine
from training.step import Batch
from veco import VecoConfig
from veco.objectives.objective_sum import ObjectiveSum


class PretrainingLosses:
    """The losses of a phase, which also adds up their sums by language and pair for lines of metrics."""

    def __init__(
        self,
        recipe: PretrainRecipe,
        config: VecoConfig,
        groups: Sequence[tuple[str, str]],
        engine: Engine,
        counts_flops: bool,
        teacher: VecoConfig | None = None,
    ) -> None:
        """`teacher` is the shape of the model that an objective learns from."""
        self.objective = ObjectiveSum.of(recipe.objective)
        self.peak_tflops = recipe.peak_tflops
        self.config = config
        self.engine = engine
        self.counts_flops = counts_flops
        self.teacher = teacher
        self.totals = Totals(groups, self.objective.terms, engine.device)
        self.cut: dict[str, tuple[float, float]] = {}

    def __call__(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The terms of the objective, each normalised by the global batch's items."""
        inputs = {name: tensor for name, tensor in batch.items() if name != SAMPLES}
        output = model(**inputs, num_items_in_batch=num_items, objective=self.objective)
        packed = batch[PACKED]
        applying = self.objective.of_batch(packed.sizes.lengths, packed.kind)
        flops = training_flops(self.config, packed.sizes, applying, self.teacher) if self.counts_flops else 0.0
        self.totals.add(batch, output.row_totals, flops)
        return output.losses

    def line(self, seconds: float) -> dict[str, float | str]:
        """The values for a line of metrics, of the time since the line before; every rank calls it."""
        summary = self.totals.read(self.engine.sum_over_ranks)
        for name, (seen, cut) in summary.tokens_by_group().items():
            all_seen, all_cut = self.cut.get(name, (0.0, 0.0))
            self.cut[name] = (all_seen + seen, all_cut + cut)
        return training_line(summary, seconds, self.engine.world_size, self.peak_tflops)

    def cut_report(self) -> str:
        """One line about the tokens truncated in this phase by this process; empty where none were."""
        shares = [
            f"{name} {cut:,.0f} tokens ({cut / (seen + cut):.2%})" for name, (seen, cut) in self.cut.items() if cut
        ]
        return f"truncated to max_length: {', '.join(shares)}" if shares else ""


def count_items(batch: Batch, objective: ObjectiveSum) -> Tensor:
    """The items of a micro-batch by each of the objective's counts, such as the predicted tokens of x, of y and of TLM.

    A count of a view that the batch does not have is 0.
    """
    sizes = batch[PACKED].sizes
    return torch.tensor([count.of(sizes) if count.view in sizes.lengths else 0 for count in objective.counts])


def count_tokens(batch: Batch) -> Tensor:
    """Tokens (1,) of a micro-batch's x and y, each once, in however many views they are."""
    return batch[SAMPLES][:, NUM_TOKENS].sum().reshape(1)
