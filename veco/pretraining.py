"""VecoForPreTraining: the model with its language-modelling head, and the losses of a sum of objectives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput, can_return_tuple

from veco.config import VecoConfig
from veco.labels import check_labels
from veco.masked_lm import VecoLMHead, VecoWithLMHead
from veco.model import VecoModel, check_input_ids, check_mask
from veco.objectives.objective import Count, ItemLosses
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.states import Batch, States
from veco.packing import PackedViews, Sizes
from veco.views import View, X, Y, prefix_of, views_of

DEFAULT_OBJECTIVE = "ca_mlm+tlm"
OWN_PARAMETERS = "objective_modules."  # the start of the names of what objectives have beside the model


@dataclass
class VecoForPreTrainingOutput(ModelOutput):
    """`loss` is the sum of `losses`, those of the objectives' terms by name, each times its weight.

    `row_totals` has for each term, float32 (B, 3) without gradient and without the weight, every pair's sum of losses,
    number of items (predicted tokens, as a rule) and number of those that came out right.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    row_totals: dict[str, Tensor] | None = None


class VecoForPreTraining(VecoWithLMHead):
    """Pre-training of VECO (ACL 2021): by default CA-MLM, eq. 1, plus TLM on bilingual batches.

    `objective` may be any sum of `veco.objectives`, of which some have parameters of their own,
    `objective_modules`: these serve pre-training alone.
    """

    # A model that was exported, or trained for another objective, has none of this one's own parameters.
    _keys_to_ignore_on_load_unexpected = [f"^{re.escape(OWN_PARAMETERS)}"]
    # transformers' Trainer would pass one number, of `labels` alone, for all counts of the objective.
    accepts_loss_kwargs = False

    def __init__(self, config: VecoConfig, objective: str | ObjectiveSum = DEFAULT_OBJECTIVE) -> None:
        super().__init__(config)
        self.objective = ObjectiveSum.of(objective)
        check_layers(self.objective, config)
        self.veco = VecoModel(config)
        self.lm_head = VecoLMHead(config, self.veco.embeddings)
        modules = {part.name: part.module(config) for part in self.objective}
        self.objective_modules = nn.ModuleDict({name: module for name, module in modules.items() if module is not None})
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        pair_input_ids: Tensor | None = None,
        pair_attention_mask: Tensor | None = None,
        pair_labels: Tensor | None = None,
        tlm_input_ids: Tensor | None = None,
        tlm_attention_mask: Tensor | None = None,
        tlm_labels: Tensor | None = None,
        num_items_in_batch: Tensor | None = None,
        objective: str | ObjectiveSum | None = None,
        packed: PackedViews | None = None,
        output_attentions: bool | None = None,
        **more_views: Tensor,
    ) -> VecoForPreTrainingOutput:
        """Losses of a batch of pairs: x is `input_ids` (B, X), y is `pair_input_ids` (B, Y), both already masked.

        TLM reads both in one row, `tlm_input_ids`; other objectives read `more_views`, named as in `veco.views`. The
        parts of `objective` (by default the model's own) apply whose views are there, and of these, if `packed` tells
        the kind of the batch, those that are for it. Each cross-entropy, such as
        P(x|x^) or P(x|y^,x^), is a float32 sum over its predicted positions (`labels` not -100) divided by their
        number: that of this batch, or that of the global batch if `num_items_in_batch` gives it for each of the
        objective's `counts`, in their order (x, y and TLM by default). The latter makes a sum over ranks and
        accumulation steps the exact mean. A batch without a predicted token counts as zero, not as NaN.

        The views go through the layers packed, without padding, and as many together as can: CA-MLM and TLM take two
        sweeps, H of x, y and TLM, then S of x and y. All start from the same embedded tokens. The vocabulary is
        projected once, at predicted positions only.

        `packed` says where the tokens of these very tensors stand, as a loader can tell on the CPU. Without it they are
        looked for here, and the host waits for an accelerator to find them.
        Raises ValueError for tensors that do not fit each other or the vocabulary, where no part applies, and for
        `output_attentions`: over packed tokens no weights are formed.
        """
        if output_attentions:
            raise ValueError(
                "output_attentions: the views of pre-training go through the layers packed, where no weights of "
                "attention are formed; ask the encoder for them, model.veco(..., output_attentions=True)"
            )
        of_pairs = {
            **{"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels},
            **{"pair_input_ids": pair_input_ids, "pair_attention_mask": pair_attention_mask},
            **{"pair_labels": pair_labels, "tlm_input_ids": tlm_input_ids},
            **{"tlm_attention_mask": tlm_attention_mask, "tlm_labels": tlm_labels},
        }
        views = views_of({**of_pairs, **more_views})
        whole = self.objective if objective is None else self._checked(ObjectiveSum.of(objective))
        applying = whole.of_batch(views, None if packed is None else packed.kind)
        if not applying.parts:
            expected = " or ".join(f"{part.name} ({', '.join(part.views)})" for part in whole)
            raise ValueError(f"found the views {', '.join(views) or 'none'}, expected those of {expected}")
        self._check(views, applying)
        if packed is None:
            packed = PackedViews.of(views, self.config.pad_token_id)
        packed.check_fits(views)

        modules = dict(self.objective_modules.items())
        states = States(Batch.of(self.veco, self.lm_head, packed, views), list(applying), modules)
        items = self._predicted(states, applying)
        for part in applying:
            items += part.losses(states, modules.get(part.name))
        output = added_up(items, applying, packed, num_items_of(whole.counts, num_items_in_batch, packed.sizes))
        idle = [module for name, module in modules.items() if name not in {part.name for part in applying}]
        return with_gradients_of(output, idle)

    def _checked(self, objective: ObjectiveSum) -> ObjectiveSum:
        """The objective, for which this model has the layers and the parameters."""
        check_layers(objective, self.config)
        others = [part for part in objective if part.name not in self.objective_modules]
        with torch.device("meta"):  # whether they have some does not depend on the values
            lacking = [part.name for part in others if part.module(self.config) is not None]
        if lacking:
            known = " + ".join(part.name for part in self.objective)
            raise ValueError(
                f"objective {lacking[0]} has parameters of its own, which this model, for {known}, was built without; "
                "build it for both"
            )
        return objective

    def _predicted(self, states: States, objectives: ObjectiveSum) -> list[ItemLosses]:
        """The cross-entropies of the objectives' predictions, by one projection to the vocabulary."""
        wanted = [prediction for objective in objectives for prediction in objective.predictions]
        states_PD, targets, ordered = states.predicting(wanted)
        if not ordered:
            return []
        cross_entropies, is_right = self.lm_head(states_PD, targets)
        packed = states.batch.packed
        views = [prediction.route.view for prediction in ordered]
        sizes = [packed.sizes.num_predicted[view] for view in views]
        return [
            ItemLosses(prediction.term, losses, packed.rows[packed.predictions(view)], right, Count(view))
            for prediction, view, losses, right in zip(
                ordered, views, cross_entropies.split(sizes), is_right.split(sizes), strict=True
            )
        ]

    def _check(self, views: dict[str, View], objectives: ObjectiveSum) -> None:
        """Raise ValueError as `VecoModel` and `check_labels` do, for each view's (ids, mask, labels), (R, T)."""
        num_rows = {name: len(view.input_ids) for name, view in views.items()}
        crossed = [(route.view, route.keys) for part in objectives for route in part.all_routes if route.keys]
        for view, paired in [(X, Y), *crossed]:
            if num_rows.get(view) != num_rows.get(paired):
                raise ValueError(
                    f"expected one paired sequence for each sequence, found {num_rows.get(paired, 0)} for "
                    f"{num_rows.get(view, 0)} ({paired} for {view})"
                )
        for name, (input_ids, attention_mask, labels) in views.items():
            prefix = prefix_of(name)
            check_input_ids(input_ids, self.config)
            check_mask(f"{prefix}attention_mask", attention_mask, input_ids.shape)
            check_labels(f"{prefix}labels", labels, input_ids.shape, self.config.vocab_size)


def with_gradients_of(output: VecoForPreTrainingOutput, idle: Sequence[nn.Module]) -> VecoForPreTrainingOutput:
    """The same losses, which give 0 as gradient to the weights of modules that no loss of this batch depends on.

    torch's optimizers pass over a weight without a gradient, ZeRO's take it for 0: so both decay it, and go on with its
    moments. ZeRO-3, which has no such weight at hand here, does so in any case.
    """
    weights = [weight for module in idle for weight in module.parameters() if weight.requires_grad and weight.numel()]
    if not weights:
        return output
    assert output.loss is not None and output.losses is not None
    nothing = torch.stack([weight.float().sum() for weight in weights]).sum() * 0.0
    name = next(iter(output.losses))
    losses = output.losses | {name: output.losses[name] + nothing}
    return VecoForPreTrainingOutput(output.loss + nothing, losses, output.row_totals)


def check_layers(objectives: ObjectiveSum, config: VecoConfig) -> None:
    """Raise ValueError for an objective that reads a layer which the model does not have."""
    for objective in objectives:
        for layer in objective.layers(config):
            if not 0 <= layer <= config.num_hidden_layers:
                raise ValueError(
                    f"objective {objective.name}: layer {layer} must be -1, the last, or from 0, the embeddings, to "
                    f"{config.num_hidden_layers}"
                )


def num_items_of(counts: Sequence[Count], given: Tensor | None, sizes: Sizes) -> dict[Count, Tensor | float]:
    """The number of items of each count, at least 1: those `given` (counts,) for a global batch, or this batch's.

    Raises ValueError for given ones of another shape.
    """
    if given is not None:
        if given.shape != (len(counts),):
            raise ValueError(
                f"num_items_in_batch {tuple(given.shape)}: expected a number for each of {len(counts)} counts of the "
                f"objective ({', '.join(count.view for count in counts)})"
            )
        return dict(zip(counts, given.clamp(min=1).float().unbind(), strict=True))
    return {count: float(max(1, count.of(sizes))) for count in counts if count.view in sizes.lengths}


def added_up(
    items: Sequence[ItemLosses], objectives: ObjectiveSum, packed: PackedViews, num_items: dict[Count, Tensor | float]
) -> VecoForPreTrainingOutput:
    """Losses by term, and totals of each row, from the losses of all items."""
    losses: dict[str, Tensor] = {}
    row_totals: dict[str, Tensor] = {}
    for term, values, rows, is_right, counted in items:
        weight = objectives.weights[term]
        share = values.sum() / num_items[counted]
        losses[term] = (share if weight == 1 else weight * share) + losses.get(term, 0.0)
        facts = torch.stack([values.detach(), torch.ones_like(values), is_right.float()], dim=1)
        totals = row_totals.setdefault(term, facts.new_zeros(packed.num_pairs, 3))
        totals.index_add_(0, rows, facts)
    named = [term.name for term in objectives.terms]
    losses = {name: losses[name] for name in named}
    loss = torch.stack(list(losses.values())).sum()
    return VecoForPreTrainingOutput(loss=loss, losses=losses, row_totals={name: row_totals[name] for name in named})
