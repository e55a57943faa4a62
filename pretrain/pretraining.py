"""A pre-training run: data, model, objective, the two phases, checkpoints."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from data_tools.shards.manifest import Manifest
from pretrain.batches import SAMPLES, PretrainingBatches, PretrainingOptions, ValidationBatches
from pretrain.export import export
from pretrain.flops import forward_flops
from pretrain.masking import IGNORED
from pretrain.recipe import SHAPE_FIELDS, PretrainRecipe
from pretrain.totals import Totals, training_line
from pretrain.validation import validate
from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import RECIPE_FILE, checkpoints_of, find_checkpoint, read_state
from training.checkpoints.saving import Ahead, Background, save_checkpoint, together
from training.cpu_timing import with_timed_choices
from training.engine.build import build_engine, check_engine, connect
from training.engine.interface import Engine
from training.engine.processes import shut_down
from training.guards import Guards
from training.launch import launched_rank, launched_ranks, quiet_libraries, tell
from training.loop import check_ranks_agree, describe_run, fit, seed_everything
from training.lr_schedule import linear_warmup_linear_decay
from training.meters import Meters
from training.plot import plot_curves
from training.runs.directory import check_run_directory
from training.runs.kinds import LAST, MODEL_DIR, is_model, link_model, no_model
from training.runs.ownership import Ownership
from training.runs.resuming import Start, begin, nothing_to_train
from training.step import Batch
from training.vocabularies import check_data_pieces, check_own_tokenizer
from veco import VecoConfig, VecoForPreTraining
from veco.convert import from_xlm_roberta
from veco.tokenizer import has_tokenizer, open_tokenizer


@dataclasses.dataclass(frozen=True)
class Phase:
    """Updates `begin` to `end` of a run, trained by one engine with one learning-rate schedule."""

    begin: int
    end: int
    only_cross_attention: bool

    def lr_factor(self, step: int, warmup_steps: int, schedule_start: int) -> float:
        """Factor of the peak learning rate for update number `step` of the run.

        The schedule begins with the phase, or at update `schedule_start` if that comes later.
        """
        begin = max(self.begin, schedule_start)
        length = self.end - begin
        return linear_warmup_linear_decay(step - begin, min(warmup_steps, length), length)


def phases(recipe: PretrainRecipe) -> list[Phase]:
    """The cross-attention alone, if the recipe says so, then everything (paper, section 4.1)."""
    border = recipe.cross_attention_steps
    first = [Phase(0, border, only_cross_attention=True)] if border else []
    return [*first, Phase(border, recipe.total_steps, only_cross_attention=False)]


def pretrain(recipe: PretrainRecipe, data_dir: Path, run_dir: Path) -> bool:
    """Train both phases, from a checkpoint if the recipe says so; whether they are over, rather than ended early.

    Everything that can be wrong is looked at first. RUN/last is the model of a run that is over.
    """
    guards = Guards(recipe)
    with Ownership(run_dir) as ownership:
        is_done = train_phases(recipe, data_dir, run_dir, guards, ownership)
        if is_done:
            shut_down()  # the other ranks have nothing to wait for
            if launched_rank() == 0:
                export_last(run_dir)
                print(f"curves in {plot_curves(run_dir)}", file=sys.stderr)
    shut_down()
    return is_done


def export_last(run_dir: Path) -> None:
    """Make RUN/last the model of the newest checkpoint, as `pretrain.export` writes it; a failure is told, no more."""
    found = checkpoints_of(run_dir)
    newest = found[max(found)]
    try:
        if not (newest / MODEL_DIR).exists():
            export(run_dir, newest / MODEL_DIR)
        link_model(run_dir / LAST, newest / MODEL_DIR)
        tell(f"model in {run_dir / LAST}")
    except (OSError, ValueError) as error:
        tell(f"the run is over, but its model could not be written ({error}): python -m pretrain.export {run_dir}")


def train_phases(recipe: PretrainRecipe, data_dir: Path, run_dir: Path, guards: Guards, ownership: Ownership) -> bool:
    """Whether all phases came to their end, in a directory that is owned."""
    quiet_libraries()
    check_engine(recipe)
    manifest = Manifest.load(data_dir)
    check_own_tokenizer(data_dir, manifest)
    batches, valid = read_batches(recipe, data_dir, manifest)
    models = [Path(recipe.init_from)] if recipe.init_from else []
    check_run_directory(run_dir, [data_dir, *models], tokenizer=data_dir / "tokenizer")
    found = find_checkpoint(run_dir, recipe.resume)
    start = begin(found, recipe, {"data_fingerprint": manifest.fingerprint})
    recipe = start.settled(recipe)
    model = build_model(recipe, data_dir, manifest, start.checkpoint)
    ahead = Ahead(run_dir, start.step)
    ranks = connect(recipe, run_dir / "logs")
    recipe_before = None if start.checkpoint is None else start.checkpoint / RECIPE_FILE
    recipe, choices = with_timed_choices(recipe, recipe.attention_dropout, ranks, recipe_before)
    check_ranks_agree(ranks, checkpoint=start, recipe=recipe, data=manifest.fingerprint, model=model.config.to_dict())
    is_first = ranks.rank == 0
    if is_first:
        shutil.copytree(data_dir / "tokenizer", run_dir / "tokenizer", dirs_exist_ok=True)
        print(introduction(recipe, model, batches, manifest, start.step, choices), file=sys.stderr)
    meters = Meters(
        run_dir,
        recipe.log_every,
        start.step,
        recipe.total_steps,
        enabled=is_first,
        wandb_project=recipe.wandb_project,
        settings=dataclasses.asdict(recipe),
        is_held=bool(ahead.steps),
    )
    if start.step >= recipe.total_steps:
        tell(nothing_to_train(start.step, recipe.total_steps, ahead))
    is_done = True
    with meters, guards:
        for phase in phases(recipe):
            if not is_done or start.step >= phase.end:
                continue
            if 0 < start.step == phase.begin:
                # From the checkpoint of the phase before, whether that is just over or was long ago.
                checkpoint = checkpoints_of(run_dir)[start.step]
                start = dataclasses.replace(start, checkpoint=checkpoint, takes_only_weights=True)
                model = build_model(recipe, data_dir, manifest, checkpoint)
            is_done = train_phase(
                recipe,
                phase,
                model,
                batches,
                valid,
                manifest.fingerprint,
                run_dir,
                meters,
                guards,
                start,
                ownership,
                ahead,
            )
            start = dataclasses.replace(start, step=phase.end)
    if not is_done:
        tell(guards.ended_early())
    return is_done


def train_phase(
    recipe: PretrainRecipe,
    phase: Phase,
    model: VecoForPreTraining,
    batches: PretrainingBatches,
    valid: ValidationBatches,
    data_fingerprint: str,
    run_dir: Path,
    meters: Meters,
    guards: Guards,
    start: Start,
    ownership: Ownership,
    ahead: Ahead,
) -> bool:
    """Whether the updates from `start` to the end of a phase were all made.

    A live DeepSpeed engine cannot change what it trains, so each phase builds its own on the same weights. From a
    checkpoint that the phase before made at its end only the weights are taken, before the engine exists.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name, phase, recipe))
    if start.checkpoint is not None:
        guards.load_state(read_state(start.checkpoint))
    start.prepare(model, recipe)

    def lr_factor(step: int) -> float:
        return phase.lr_factor(step, recipe.warmup_steps, start.schedule_start)

    engine = build_engine(model, recipe, lr_factor, run_dir / "logs", start.step)
    start.restore(engine)
    clean_up(engine, run_dir)

    def add_config(directory: Path) -> None:
        if engine.rank == 0:
            model.config.save_pretrained(directory)

    background = Background(engine)

    def save(step: int) -> None:
        state = {"data_fingerprint": data_fingerprint, **start.state(), **guards.state()}
        together(engine, ownership.check)
        save_checkpoint(
            engine,
            run_dir,
            step,
            recipe,
            state,
            add_config,
            background=background,
            ahead=ahead,
            # The model in it was that of an end which is none any more.
            announce=lambda kept: link_model(run_dir / LAST, kept[max(kept)] / MODEL_DIR),
        )
        meters.settle()
        guards.note_duration("save", background.seconds)

    losses = PretrainingLosses(recipe, phase, model.config, batches, engine)
    meters.watch(losses.line)
    try:
        is_done = fit(
            engine,
            recipe,
            batches,
            data_fingerprint,
            batches.kind_of,
            losses,
            count_predicted,
            meters,
            guards,
            start.step,
            phase.end,
            save,
            validate=(lambda: validate(engine, valid, path_objective(recipe))) if valid.groups else None,
            source_of=lambda first, part, rank: batches.source_of(first + part, rank),
        )
    except BaseException:
        background.join()  # a whole checkpoint is worth more than a quick end
        raise
    background.wait()
    if told := losses.cut_report():
        tell(told)
    engine.destroy()
    return is_done


def is_trained(name: str, phase: Phase, recipe: PretrainRecipe) -> bool:
    """Whether a parameter of that name learns. What no loss depends on does not: weight decay would shrink it."""
    is_cross_attention = ".cross_attention" in name
    if phase.only_cross_attention:
        return is_cross_attention
    return not is_cross_attention or path_objective(recipe) == "ca_mlm"


def path_objective(recipe: PretrainRecipe) -> str:
    """What `VecoForPreTraining` calls the objective: TLM comes with the batches."""
    return recipe.objective.removesuffix("+tlm")


def read_batches(
    recipe: PretrainRecipe, data_dir: Path, manifest: Manifest
) -> tuple[PretrainingBatches, ValidationBatches]:
    """What this rank trains on, and what is validated on. Raises ValueError as `PretrainingBatches` does."""
    fields = dataclasses.fields(PretrainingOptions)
    options = PretrainingOptions(**{field.name: recipe.__dict__[field.name] for field in fields})
    ranks = launched_rank(), launched_ranks(), recipe.accumulation_steps
    valid = ValidationBatches(data_dir, manifest, options, recipe.validate_batches)
    return PretrainingBatches(data_dir, manifest, options, *ranks), valid


def build_model(
    recipe: PretrainRecipe, data_dir: Path, manifest: Manifest, checkpoint: Path | None = None
) -> VecoForPreTraining:
    """A new model of the recipe's shape, or the XLM-R or VECO that it names, in float32.

    For a run that goes on, one like its checkpoint's, which has the weights: `init_from` is not read again. Raises
    ValueError when there is no model, or it does not fit the data or the recipe.
    """
    seed_everything(recipe.seed)
    dropouts = {"hidden_dropout_prob": recipe.dropout, "attention_probs_dropout_prob": recipe.attention_dropout}
    if checkpoint is not None:
        model = VecoForPreTraining(VecoConfig.from_pretrained(checkpoint, **dropouts))
        tokenizer_dir = Path(recipe.output) / "tokenizer"
        check_vocabulary(model.config.vocab_size, tokenizer_dir, data_dir, manifest)
    elif recipe.init_from is None:
        shape = {name: recipe.__dict__[name] for name in SHAPE_FIELDS}
        model = VecoForPreTraining(VecoConfig(vocab_size=manifest.vocab_size, **shape, **dropouts))
    else:
        model = pretrained_model(Path(recipe.init_from), dropouts)
        check_vocabulary(model.config.vocab_size, Path(recipe.init_from), data_dir, manifest)
    longest = max(recipe.mono_max_length, 2 * recipe.bilingual_max_length)
    if longest > model.config.max_tokens:
        raise ValueError(f"batches may have {longest} tokens a row, the model only takes {model.config.max_tokens}")
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def pretrained_model(directory: Path, dropouts: dict[str, float]) -> VecoForPreTraining:
    """The XLM-R or VECO in a transformers directory, as a VECO to go on with."""
    if not is_model(directory):
        raise ValueError(f"init_from {directory}: expected a model directory, found {no_model(directory)}")
    kind = AutoConfig.from_pretrained(directory).model_type
    if kind == "veco":
        return VecoForPreTraining.from_pretrained(directory, dtype=torch.float32, **dropouts)
    if kind == "xlm-roberta":
        converted = from_xlm_roberta(directory)
        for name, value in dropouts.items():
            setattr(converted.config, name, value)
        model = VecoForPreTraining(converted.config)
        model.load_state_dict(converted.state_dict())
        return model
    raise ValueError(f"init_from {directory}: expected an xlm-roberta or a veco, found a {kind}")


def check_vocabulary(model_size: int, model_dir: Path, data_dir: Path, manifest: Manifest) -> None:
    """Raise ValueError when data were prepared with another tokenizer than the model's.

    The model may have more ids: tokens added behind `<mask>`, such as language tags, which no text becomes. Of a model
    without tokenizer there is only the number of ids to compare, which is told.
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


def introduction(
    recipe: PretrainRecipe,
    model: nn.Module,
    batches: PretrainingBatches,
    manifest: Manifest,
    start: int,
    choices: dict[str, str],
) -> str:
    """What is going to happen, in one line; `choices` are those that were timed."""
    return describe_run(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": manifest.vocab_size,
            "languages": len(manifest.mono),
            "pairs": len(manifest.parallel),
            "batches": "/".join(batches.kinds),
            "ranks": launched_ranks(),
            "engine": f"{recipe.engine} {recipe.ds_config}",
            **choices,
            "updates": recipe.total_steps,
            "from": start,
        }
    )


class PretrainingLosses:
    """The loss function of a phase; beside the losses it adds up what lines of metrics show by language and pair."""

    def __init__(
        self, recipe: PretrainRecipe, phase: Phase, config: VecoConfig, batches: PretrainingBatches, engine: Engine
    ) -> None:
        self.objective = path_objective(recipe)
        # With most weights frozen the backward pass is another one than the formula's.
        self.counts_flops = not phase.only_cross_attention
        self.peak_tflops = recipe.peak_tflops
        self.config = config
        self.engine = engine
        self.totals = Totals(batches.groups, engine.device)
        self.cut: dict[str, tuple[float, float]] = {}

    def __call__(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The terms of the objective, each normalised by the global batch's predicted tokens."""
        inputs = {name: tensor for name, tensor in batch.items() if name != SAMPLES}
        output = model(**inputs, num_items_in_batch=num_items, objective=self.objective)
        flops = forward_flops(self.config, inputs, self.objective) if self.counts_flops else None
        self.totals.add(batch, output.row_totals, flops)
        return output.losses

    def line(self, seconds: float) -> dict[str, float | str]:
        """What a line of metrics shows of the time since the line before; every rank calls it."""
        summary = self.totals.read(self.engine.sum_over_ranks)
        for name, (seen, cut) in summary.tokens_by_group().items():
            all_seen, all_cut = self.cut.get(name, (0.0, 0.0))
            self.cut[name] = (all_seen + seen, all_cut + cut)
        return training_line(summary, seconds, self.engine.world_size, self.peak_tflops)

    def cut_report(self) -> str:
        """What was cut off in this phase by this process, in one line; empty where nothing was."""
        shares = [
            f"{name} {cut:,.0f} tokens ({cut / (seen + cut):.2%})" for name, (seen, cut) in self.cut.items() if cut
        ]
        return f"cut off, as longer than the longest sequence: {', '.join(shares)}" if shares else ""


def count_predicted(batch: Batch) -> Tensor:
    """Predicted tokens (3,) of x, y and TLM in a micro-batch."""
    names = ("labels", "pair_labels", "tlm_labels")
    return torch.stack([batch[name].ne(IGNORED).sum() if name in batch else torch.tensor(0) for name in names])
