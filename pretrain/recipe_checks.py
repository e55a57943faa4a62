"""The rules that the values of a recipe of pre-training follow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pretrain.stages import ADAPTERS, CROSS_ATTENTION, EVERYTHING, TRAINS
from training.recipe.adapters import KINDS_IN_WORDS
from training.recipe.checks import above_zero, at_least, below_one, between_zero_and_one, not_negative, one_of

if TYPE_CHECKING:
    from pretrain.recipe import PretrainRecipe

SCHEDULES = ("linear", "cosine", "inverse_sqrt", "constant", "decay")


def problems_of(recipe: PretrainRecipe) -> list[str]:
    """One sentence for each problem with what pre-training adds to a recipe."""
    return [
        *problems_of_objective(recipe),
        *problems_of_masks(recipe),
        *not_negative(recipe, "validate_batches", "micro_batch_tokens"),
        *([] if recipe.peak_tflops is None else above_zero(recipe, "peak_tflops")),
        *below_one(recipe, "mono_mask_rate", "bilingual_mask_rate", "dropout", "attention_dropout"),
        *between_zero_and_one(recipe, "alpha"),
        *one_of(recipe, TRAINS, "trains"),
        *one_of(recipe, SCHEDULES, "schedule"),
        *at_least(recipe, 1, "mono_batch_pairs", "bilingual_batch_pairs"),
        *at_least(recipe, 2, "contrast_pairs"),
        *problems_of_lengths(recipe),
        *problems_of_parts(recipe),
    ]


def problems_of_run(recipe: PretrainRecipe) -> list[str]:
    """One sentence for each problem with the stages of a run."""
    found = problems_of_stages(recipe)
    added = {"adapter": recipe.adapter, "lora_rank": recipe.lora_rank}
    trained = {recipe.at(stage.begin).trains for stage in recipe.stages_in_turn()}
    found += [
        f"{name} {value}: no stage trains adapters alone; give trains: {ADAPTERS}, or leave {name} out"
        for name, value in added.items()
        if value and ADAPTERS not in trained
    ]
    if recipe.adapter and recipe.lora_rank:
        found.append("adapter and lora_rank exclude one another: give one of them")
    if recipe.resume == "no":  # else there may be a checkpoint; `build_model` looks where there is none
        found += problems_of_new_model(recipe)
    return found + problems_of_teacher(recipe)


def problems_of_new_model(recipe: PretrainRecipe) -> list[str]:
    """What a run that begins with random weights cannot do: some is left to what a model to start from has learned."""
    if recipe.init_from:
        return []
    found = ["keep_layers are those of init_from: give it"] if recipe.keep_layers else []
    for stage in recipe.stages_in_turn():
        own = recipe.at(stage.begin)
        if own.trains == EVERYTHING:  # from here on nothing is random any more
            break
        name = f"trains {own.trains}" if recipe.stages or recipe.trains == own.trains else "cross_attention_steps"
        reason = (
            "a random encoder gives the cross-attention nothing"
            if own.trains == CROSS_ATTENTION
            else "the rest of the model would stay random"
        )
        found.append(f"{f'stage {stage.number}: ' if recipe.stages else ''}{name} needs init_from: {reason}")
    return found


def problems_of_teacher(recipe: PretrainRecipe) -> list[str]:
    """A teacher from which no objective of any stage learns."""
    from veco.objectives.objective import TEACHER
    from veco.objectives.objective_sum import ObjectiveSum

    try:
        learns = any(TEACHER in ObjectiveSum.of(objective).needs for objective in recipe.objectives())
    except ValueError:  # told by `problems_of_objective`
        return []
    return [] if learns or not recipe.teacher else [f"teacher {recipe.teacher}: only objective distil reads it; add it"]


def problems_of_parts(recipe: PretrainRecipe) -> list[str]:
    """What stands against training a part of the model alone, and adapters without which they mean nothing."""
    found = recipe.needs_adapter("adapter_name", "adapter_invertible", "adapter_reduction", "adapter_skips_last")
    if recipe.adapter:
        found += problems_of_name(recipe.adapter_name)
    if recipe.trains == ADAPTERS and not (recipe.adapter or recipe.lora_rank):
        found.append(f"trains {ADAPTERS} needs adapter: {KINDS_IN_WORDS}, or lora_rank")
    return found


def problems_of_name(adapter: str) -> list[str]:
    """What is wrong with the name of an adapter."""
    from veco.adapter_config import check_name

    try:
        check_name(adapter)
    except ValueError as error:
        return [str(error)]
    return []


def problems_of_stages(recipe: PretrainRecipe) -> list[str]:
    """What is wrong with the recipe of a stage, at its beginning or its end, and not with the run's own."""
    if not recipe.stages:
        return []
    own = dataclasses.replace(recipe, stages=()).problems_of_values()
    found = [
        f"stage {stage.number}: {problem}"
        for stage in recipe.stages_in_turn()
        for step in (stage.begin, stage.end - 1)
        for problem in recipe.at(step).problems_of_values()
        if problem not in own
    ]
    for stage in recipe.stages_in_turn():
        lengths = sorted(recipe.at(step).span_length for step in (stage.begin, stage.end - 1))
        if lengths[0] < 1 and lengths[0] != lengths[1]:
            found.append(
                f"stage {stage.number}: span_length changes between {lengths[0]} and {lengths[1]}, over lengths below "
                "1, which no span has; begin and end at 1 or more"
            )
    return list(dict.fromkeys(found))


def problems_of_masks(recipe: PretrainRecipe) -> list[str]:
    """Shares and spans that are not allowed."""
    found = []
    shares = (recipe.mask_token_share, recipe.random_token_share)
    if min(shares) < 0 or sum(shares) > 1:
        found.append(
            f"mask_token_share {recipe.mask_token_share} and random_token_share {recipe.random_token_share} "
            "must not be negative, nor above 1 together"
        )
    if recipe.span_length != 0 and recipe.span_length < 1:
        found.append(f"span_length {recipe.span_length} must be 0 or at least 1")
    rate, spread = recipe.bilingual_mask_rate, recipe.bilingual_mask_spread
    if spread < 0 or rate - spread < 0 or rate + spread > 1:
        found.append(
            f"bilingual_mask_spread {spread} must not be negative, nor lead bilingual_mask_rate {rate} out of 0 to 1"
        )
    return found


def problems_of_objective(recipe: PretrainRecipe) -> list[str]:
    """What is wrong with the objective, and what it needs that is not given."""
    from veco.objectives.objective_sum import ObjectiveSum

    try:
        objective = ObjectiveSum.of(recipe.objective)
    except ValueError as error:
        return [str(error), *not_negative(recipe, "cross_attention_steps")]
    with_momentum = [part.name for part in objective if part.momentum_view]
    cut = [
        f"objective {recipe.objective!r}: {name} has a momentum copy of the encoder, whose weights ZeRO-3 "
        f"({recipe.ds_config}) cuts into parts; take a ds_config of ZeRO-1 or -2, or contrast instead"
        for name in with_momentum
        if recipe.cuts_weights
    ]
    cut += [
        f"objective {recipe.objective!r}: {name} has a momentum copy of the encoder, for lora_rank it "
        "has no place; take adapter instead"
        for name in with_momentum
        if recipe.lora_rank
    ]
    needs = objective.needs
    missing = [
        f"objective {needs[need]} needs a {need}, and none is given: name it in the field {need}"
        for need in needs
        if not vars(recipe)[need]
    ]
    return [*cut, *missing, *problems_of_cross_attention(recipe)]


def problems_of_cross_attention(recipe: PretrainRecipe) -> list[str]:
    """What stands against training the cross-attention alone."""
    found = not_negative(recipe, "cross_attention_steps")
    asking = [
        *(["cross_attention_steps"] if recipe.cross_attention_steps else []),
        *([f"trains {CROSS_ATTENTION}"] if recipe.trains == CROSS_ATTENTION else []),
    ]
    for name in asking:
        if not recipe.uses_cross_attention:
            found.append(f"{name}: objective {recipe.objective!r} does not train the cross-attention")
    return found


def problems_of_lengths(recipe: PretrainRecipe) -> list[str]:
    """Rows that are too short, or longer than the model."""
    found = []
    if min(recipe.mono_max_length, recipe.bilingual_max_length) < 4:
        found.append("mono_max_length and bilingual_max_length must be at least 4")
    # Else the shape is another model's, as `build_model` checks.
    is_new = recipe.resume == "no" and not recipe.init_from
    if is_new and recipe.longest_row > recipe.max_position_embeddings - 2:
        found.append(
            f"max_position_embeddings {recipe.max_position_embeddings} must be at least {recipe.longest_row + 2}: "
            f"{'' if recipe.sequences_in_mono_rows() == 1 else 'twice '}mono_max_length, or both sentences of a "
            "bilingual pair, + 2"
        )
    return found
