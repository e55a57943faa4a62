"""The model that pre-training starts from, or resumes, and checks that it fits the data."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from data_tools.shards.manifest import Manifest
from pretrain.models.kept_layers import keep_layers
from pretrain.recipe import SHAPE_FIELDS, PretrainRecipe
from pretrain.recipe_checks import problems_of_new_model
from training.launch import tell
from training.loop import seed_everything
from training.low_rank import inject_low_rank
from training.run_directory.kinds import is_model, no_model
from training.tokenizer_checks import check_data_pieces
from veco import VecoConfig, VecoForPreTraining
from veco.adapter_config import AdapterConfig
from veco.adapters.attach import active_adapters, adapters_of, attach_adapter
from veco.convert import from_xlm_roberta
from veco.convert.families import how_to_convert
from veco.convert.weights import open_complete
from veco.objectives.objective_sum import ObjectiveSum
from veco.opening import open_config
from veco.pretraining import OWN_PARAMETERS, check_layers
from veco.tokenizer import has_tokenizer, open_tokenizer

XLM_ROBERTA = "xlm-roberta"


def build_model(
    recipe: PretrainRecipe, data_dir: Path, manifest: Manifest, checkpoint: Path | None = None
) -> VecoForPreTraining:
    """A new model of the recipe's shape, or the XLM-R or VECO that it names, in float32.

    For a run that is resumed, one like its checkpoint's, which has the weights: `init_from` is not read again. Raises
    ValueError when there is no model, or it does not fit the data or the recipe.
    """
    seed_everything(recipe.seed)
    objective = ObjectiveSum.union(recipe.objectives())
    dropouts = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    if checkpoint is not None:
        model = VecoForPreTraining(VecoConfig.from_pretrained(checkpoint, **dropouts), objective)
        tokenizer_dir = Path(recipe.output) / "tokenizer"
        check_vocabulary(model.config.vocab_size, tokenizer_dir, data_dir, manifest)
    elif recipe.init_from is None:
        if problems := problems_of_new_model(recipe):
            raise ValueError("; ".join(problems))
        shape = {name: value for name, value in dataclasses.asdict(recipe).items() if name in SHAPE_FIELDS}
        ids = special_ids_of(manifest)
        model = VecoForPreTraining(VecoConfig(vocab_size=manifest.vocab_size, **ids, **shape, **dropouts), objective)
    else:
        model = pretrained_model(Path(recipe.init_from), dropouts, objective)
        check_vocabulary(model.config.vocab_size, Path(recipe.init_from), data_dir, manifest)
        check_special_ids(model.config, Path(recipe.init_from), manifest)
        if recipe.keep_layers:
            keep_layers(model, recipe.keep_layers)
    if recipe.adapter and checkpoint is None:
        with named(f"adapter {recipe.adapter}: "):
            add_adapter(model, recipe)
    if recipe.lora_rank:
        inject_low_rank(model, recipe)
    for stage in recipe.stages_in_turn():
        with named(f"stage {stage.number}: " if recipe.stages else ""):
            check_suffices(model.config, recipe.at(stage.begin))
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def add_adapter(model: VecoForPreTraining, recipe: PretrainRecipe) -> None:
    """Attach the recipe's adapter on top of those that work in the model it starts from; a checkpoint's has it.

    Raises ValueError as `attach_adapter` does, and for a second invertible one, which would do nothing.
    """
    lower = [name for name in active_adapters(model) if adapters_of(model)[name].invertible]
    if lower and recipe.adapter_invertible:
        raise ValueError(f"the model has an invertible one already, {lower[0]}; leave adapter_invertible out")
    layers = recipe.adapter_layers(model.config.num_hidden_layers)
    adapter = AdapterConfig(recipe.adapter, recipe.adapter_reduction, recipe.adapter_invertible, layers=layers)
    attach_adapter(model, recipe.adapter_name, adapter, recipe.seed)


def pretrained_model(
    directory: Path, dropouts: dict[str, float], objective: ObjectiveSum, field: str = "init_from"
) -> VecoForPreTraining:
    """The XLM-R or VECO in a transformers directory, as a VECO to continue with for an objective.

    `field` names it in messages. Raises ValueError for another model, and for a VECO that lacks weights, such as a
    translation model, or a classifier that was trained plugged out.
    """
    if not is_model(directory):
        raise ValueError(f"{field} {directory}: expected a model directory, found {no_model(directory)}")
    kind = kind_of_model(directory)
    if kind == VecoConfig.model_type:
        settings = {"objective": objective, "dtype": torch.float32, **dropouts}
        with named(f"{field} "):
            return open_complete(VecoForPreTraining, directory, OWN_PARAMETERS, **settings)
    if kind == XLM_ROBERTA:
        converted = from_xlm_roberta(directory)
        for name, value in dropouts.items():
            setattr(converted.config, name, value)
        model = VecoForPreTraining(converted.config, objective)
        model.load_state_dict(converted.state_dict() | own_parameters(model))
        return model
    raise ValueError(not_to_begin_from(field, directory, kind))


def not_to_begin_from(field: str, directory: Path, kind: str) -> str:
    """The message for a model of a kind that pre-training takes nothing from."""
    return f"{field} {directory}: expected an xlm-roberta or a veco, found a {kind}{how_to_convert(kind)}"


def kind_of_model(directory: Path) -> str:
    """The type of the model in a transformers directory, such as veco."""
    return str(open_config(directory).model_type)


def own_parameters(model: VecoForPreTraining) -> dict[str, Tensor]:
    """The parameters that the model's objectives have beside the model's."""
    return {name: weight for name, weight in model.state_dict().items() if name.startswith(OWN_PARAMETERS)}


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Begin the message of a ValueError with the place that it comes from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def check_suffices(config: VecoConfig, recipe: PretrainRecipe) -> None:
    """Raise ValueError where a stage's recipe has longer rows than the model takes, or reads layers that it lacks."""
    check_layers(ObjectiveSum.of(recipe.objective), config)
    if recipe.longest_row > config.max_tokens:
        raise ValueError(
            f"batches may have {recipe.longest_row} tokens a row, the model only takes {config.max_tokens}"
        )


def special_ids_of(manifest: Manifest) -> dict[str, int]:
    """The special ids that a model's configuration has, by its fields: those of the data."""
    special = manifest.special
    return {"pad_token_id": special.pad, "bos_token_id": special.bos, "eos_token_id": special.eos}


def check_special_ids(config: VecoConfig, model_dir: Path, manifest: Manifest, field: str = "init_from") -> None:
    """Raise ValueError where a model takes other ids for padding, or for the ends of sentences, than the data have."""
    expected = special_ids_of(manifest)
    found = {name: vars(config)[name] for name in expected}
    if found != expected:
        raise ValueError(
            f"{field} {model_dir}: its config.json has the special ids {found}, the data's tokenizer {expected}; "
            "correct config.json, or prepare the data with the model's tokenizer"
        )


def check_vocabulary(model_size: int, model_dir: Path, data_dir: Path, manifest: Manifest) -> None:
    """Raise ValueError when data were prepared with another tokenizer than the model's.

    The model may have more ids: tokens added behind `<mask>`, such as language tags, which no text becomes. For a
    model without tokenizer only the number of ids is compared, and this is reported.
    """
    advice = f"prepare the data with the tokenizer of {model_dir}"
    if manifest.vocab_size > model_size:
        raise ValueError(
            f"the data's vocabulary has {manifest.vocab_size:,} pieces, the model's only {model_size:,}; {advice}"
        )
    if has_tokenizer(model_dir):
        check_data_pieces(data_dir, manifest, open_tokenizer(model_dir), model_dir)
    elif manifest.vocab_size != model_size:
        raise ValueError(f"{data_dir} was prepared with another tokenizer than the model's; {advice}")
    else:
        tell(f"{model_dir} has no tokenizer: whether {data_dir} was prepared with the model's cannot be checked")
