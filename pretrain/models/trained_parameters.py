"""Which of a model's parameters a stage trains."""

from __future__ import annotations

import re
from collections.abc import Collection

from pretrain.recipe import PretrainRecipe
from pretrain.stages import ADAPTERS, BODY, CROSS_ATTENTION, EMBEDDINGS, EVERYTHING
from training.low_rank import LORA
from veco.adapters.attach import adapter_of
from veco.pretraining import OWN_PARAMETERS

OF_CROSS_ATTENTION = ".cross_attention"  # in the names of theta_c
OF_HEAD = "lm_head."  # the start of the names of the language-modelling head's; a tied projection has an embedding's
# What has a row for each piece of the vocabulary; the output projection is tied to the first, unless it is untied.
OF_VOCABULARY = ("veco.embeddings.word_embeddings.weight", "lm_head.decoder.weight", "lm_head.decoder.bias")


def is_trained(name: str, recipe: PretrainRecipe, active: Collection[str]) -> bool:
    """Whether the parameter of that name is trained; `active` are the adapters that work in the model.

    One that no loss depends on is not: weight decay would shrink it.
    """
    adapter = adapter_of(name)
    if adapter is not None and adapter not in active:
        return False
    if OF_CROSS_ATTENTION in name and not recipe.uses_cross_attention:
        return False
    if name.startswith(OF_HEAD) and not recipe.uses_head:
        return False
    layer, deepest = layer_of(name), recipe.deepest_layer
    if layer is not None and deepest is not None and layer > deepest:
        return False
    return is_of_part(name, adapter, recipe)


def layer_of(name: str) -> int | None:
    """The layer that a parameter of that name is in, 1 = the first; None where it is in none."""
    found = re.match(r"veco\.layers\.(\d+)\.", name)
    return None if found is None else int(found[1]) + 1


def is_of_part(name: str, adapter: str | None, recipe: PretrainRecipe) -> bool:
    """Whether a parameter, perhaps of an adapter, belongs to what a recipe trains.

    Parameters of objectives' own, which are no part of the model, learn with all parts but the cross-attention.
    """
    if recipe.trains == EVERYTHING:
        return True
    if recipe.trains == CROSS_ATTENTION:
        return OF_CROSS_ATTENTION in name
    if name.startswith(OWN_PARAMETERS):
        return True
    if recipe.trains == EMBEDDINGS:
        return name in OF_VOCABULARY
    if recipe.trains == BODY:
        return name not in OF_VOCABULARY
    assert recipe.trains == ADAPTERS, recipe.trains
    return LORA in name or (adapter is not None and adapter == recipe.adapter_name)
