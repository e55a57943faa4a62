"""Pre-training as a task of `training.run`: the data, the model, the objective, and the stages."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.data import Dataset

from data_tools.shards.manifest import Manifest
from pretrain import momentum
from pretrain.batches import PretrainingBatches, ValidationBatches
from pretrain.course import RecipeCourse, options_of
from pretrain.export import export
from pretrain.exporting.adapter import export_adapter, has_adapter
from pretrain.loss_and_metrics import PretrainingLosses, count_items, count_tokens
from pretrain.models.initial_model import build_model
from pretrain.models.teacher import (
    PROJECTED_TO,
    check_projection,
    distillations,
    open_teacher,
    teach,
    width_of_projection,
)
from pretrain.models.trained_parameters import is_trained
from pretrain.recipe import PretrainRecipe
from pretrain.sources import BILINGUAL, MONO, num_sentences
from pretrain.stages import EVERYTHING
from pretrain.validation import validate
from pretrain.words.lexicons import Lexicons
from pretrain.words.reading import read_lexicons
from training.checkpoints.finding import checkpoints_of
from training.engine.interface import Engine
from training.launch import launched_rank, launched_ranks, tell
from training.meters import Scalars
from training.random_order import mix
from training.recipe.base import Phase
from training.run_directory.checks import check_run_directory
from training.run_directory.kinds import ADAPTER_DIR, LAST, MODEL_DIR, link_model
from training.step import Batch
from training.task import Task
from training.tokenizer_checks import check_own_tokenizer
from veco import VecoForPreTraining
from veco.adapters.attach import active_adapters
from veco.objectives.objective import LEXICON, THESAURUS
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES

PAIRS_LOOKED_AT = 200  # for words of a lexicon: each rank looks, as it starts, at so many of each language pair
QUEUE_SALT = 0x71  # of the seed that draws what fills queues


class PretrainingTask(Task[PretrainRecipe]):
    """Prepared shards and a VECO, trained in the stages of a recipe."""

    model: VecoForPreTraining
    losses: PretrainingLosses
    stage: PretrainRecipe  # the recipe as it is at the beginning of the stage that is trained

    def __init__(self, recipe: PretrainRecipe, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.manifest = Manifest.load(data_dir)
        check_own_tokenizer(data_dir, self.manifest)
        languages, pairs = languages_of(self.manifest)
        recipe = recipe.with_languages_of(languages, pairs)
        self.recipe = recipe.accumulated(launched_ranks(), kinds_of(self.manifest, recipe.objectives()))
        self.train, self.valid = read_batches(self.recipe, data_dir, self.manifest)
        check_run_directory(Path(recipe.output), [data_dir], tokenizer=data_dir / "tokenizer")
        self.teacher = open_teacher(self.recipe, data_dir, self.manifest)
        self.fingerprint = self.manifest.fingerprint
        self.stage = self.recipe.at(0)
        self.checkpoint: Path | None = None

    @classmethod
    def on(cls, data_dir: Path) -> Callable[[PretrainRecipe, Path | None], Self]:
        """A function that builds the task of a run on the data in `data_dir`."""
        return lambda recipe, checkpoint: cls(recipe, data_dir)

    @property
    def attention_dropout(self) -> float:
        return self.recipe.attention_dropout

    def resolved(self, recipe: PretrainRecipe) -> PretrainRecipe:
        """The recipe with the languages of its stages, and the accumulation steps that fit the ranks."""
        return self.recipe

    def compared(self, recipe: PretrainRecipe) -> dict[str, Any]:
        """The data and, where an objective has some, the words and links of the lexicons, and the teacher."""
        lexicons = self.train.lexicons
        of_words = {} if lexicons is None else {"lexicon_fingerprint": lexicons.fingerprint()}
        teacher = "" if self.teacher is None else self.teacher.fingerprint  # one that comes or goes is a change, too
        return {**super().compared(recipe), **of_words, "teacher_fingerprint": teacher}

    def build_model(self, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.model = build_model(self.recipe, self.data_dir, self.manifest, checkpoint)
        if self.teacher is not None:
            teach(self.model, self.teacher, distillations(self.recipe))
        if checkpoint is not None:
            check_projection(self.model, checkpoint)

    def introduction(self, recipe: PretrainRecipe) -> dict[str, Any]:
        stages, active = len(recipe.stages), active_adapters(self.model)
        of_first = [
            parameter.numel()
            for name, parameter in self.model.named_parameters()
            if is_trained(name, self.stage, active)
        ]
        return {
            **({} if self.stage.trains == EVERYTHING else {"trained parameters": sum(of_first)}),
            **({"stages": stages} if stages else {}),
            "vocabulary": self.manifest.vocab_size,
            "languages": len(self.manifest.mono),
            "pairs": len(self.manifest.parallel),
            "batches": "/".join(self.train.kinds),
            **({} if self.teacher is None else {"teacher": self.teacher}),
            "engine": f"{recipe.engine} {recipe.ds_config}",
            "accumulation": recipe.accumulation_steps,
        }

    def begin(self, run_dir: Path) -> None:
        """Copy the tokenizer of the data."""
        shutil.copytree(self.data_dir / "tokenizer", run_dir / "tokenizer", dirs_exist_ok=True)

    def enter(self, phase: Phase) -> None:
        self.stage = self.recipe.at(phase.begin)
        self.valid.options = dataclasses.replace(self.valid.options, objective=self.stage.objective)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(is_trained(name, self.stage, active_adapters(self.model)))

    def batches(self, rank: int, world_size: int) -> Dataset:
        return self.train

    def kind_of(self, step: int) -> str:
        return self.train.kind_of(step)

    def source_of(self, number: int, rank: int) -> str:
        return self.train.source_of(number, rank)

    def watch(self, engine: Engine) -> Callable[[float], Scalars]:
        """The losses by language and pair; the sums begin again with each phase."""
        # With most weights frozen the backward pass is another one than the formula's.
        counts_flops = self.stage.trains == EVERYTHING
        teacher = None if self.teacher is None else self.teacher.config
        self.losses = PretrainingLosses(self.stage, self.model.config, self.train.groups, engine, counts_flops, teacher)
        if self.teacher is not None:
            self.teacher.to(engine.device, self.model.dtype)
        momentum.begin(self.model, engine, self.losses.objective, self.checkpoint, self.other_batches)
        self.checkpoint = None  # a later phase goes on with what there is then
        return self.losses.line

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        return self.losses(model, batch, num_items)

    def count_items(self, batch: Batch) -> Tensor:
        return count_items(batch, self.losses.objective)

    def count_tokens(self, batch: Batch) -> Tensor:
        return count_tokens(batch)

    def after_update(self, engine: Engine) -> None:
        momentum.after_update(self.model, engine)

    def other_batches(self) -> PretrainingBatches:
        """Batches of a stage in another order than those that are trained on: a function of data and seed.

        They fill queues. The first keys of the training would otherwise be among their own negatives.
        """
        recipe = dataclasses.replace(self.stage, seed=mix(self.stage.seed, QUEUE_SALT))
        ranks = launched_rank(), launched_ranks(), self.recipe.accumulation_steps
        return PretrainingBatches(self.data_dir, self.manifest, RecipeCourse(recipe), *ranks, self.train.lexicons)

    def phase_report(self) -> str:
        return self.losses.cut_report()

    def validates(self) -> bool:
        return any(self.valid.batches.values())

    def validate(self, engine: Engine) -> dict[str, float]:
        return validate(engine, self.valid, ObjectiveSum.of(self.stage.objective))

    def state(self) -> dict[str, Any]:
        return {PROJECTED_TO: width_of_projection(self.model)}

    def add_files(self, engine: Engine, directory: Path) -> None:
        if engine.rank == 0:
            self.model.config.save_pretrained(directory)
            momentum.save(self.model, directory)

    def kept(self, steps: Collection[int]) -> Collection[int]:
        """The checkpoints at the ends of stages, from which others can follow."""
        stages = self.recipe.stages_in_turn()
        ends = {stage.end for stage in stages} if self.recipe.stages or len(stages) > 1 else set()
        return ends.intersection(steps)

    def announce(self, run_dir: Path, checkpoints: Mapping[int, Path]) -> None:
        """Unlink RUN/last, which belonged to an end of the run that no longer is one."""
        link_model(run_dir / LAST, checkpoints[max(checkpoints)] / MODEL_DIR)

    def finish(self, run_dir: Path) -> None:
        export_last(run_dir)


def export_last(run_dir: Path) -> None:
    """Make RUN/last the model of the newest checkpoint, as `pretrain.export` writes it; a failure is only reported."""
    found = checkpoints_of(run_dir)
    newest = found[max(found)]
    try:
        if not (newest / MODEL_DIR).exists():
            export(run_dir, newest / MODEL_DIR)
        if has_adapter(newest) and not (newest / ADAPTER_DIR).exists():
            tell(f"adapter alone in {export_adapter(run_dir, newest / ADAPTER_DIR)}")
        link_model(run_dir / LAST, newest / MODEL_DIR)
        tell(f"model in {run_dir / LAST}")
    except (OSError, ValueError) as error:
        tell(f"the run is over, but its model could not be written ({error}): python -m pretrain.export {run_dir}")


def languages_of(manifest: Manifest) -> tuple[set[str], set[str]]:
    """The languages of the training data, with text of their own or in a pair, and the pairs."""
    pairs = {name for name in manifest.parallel if num_sentences(manifest, BILINGUAL, name)}
    mono = {name for name in manifest.mono if num_sentences(manifest, MONO, name)}
    return mono.union(*(name.split("-") for name in pairs)), pairs


def kinds_of(manifest: Manifest, objectives: Collection[str]) -> list[str]:
    """The kinds of batches that the training data and the objectives of a run are for.

    Raises ValueError where a part of an objective has no data of any kind that it is for.
    """
    named = {MONO: list(manifest.mono), BILINGUAL: list(manifest.parallel)}
    there = [kind for kind, names in named.items() if any(num_sentences(manifest, kind, name) for name in names)]
    texts = {MONO: "monolingual text", BILINGUAL: "parallel text"}
    sums = [ObjectiveSum.of(objective) for objective in objectives]
    for objective, whole in zip(objectives, sums, strict=True):
        if idle := [part for part in whole if not set(part.kinds) & set(there)]:
            needed = " or ".join(texts[kind] for kind in idle[0].kinds)
            raise ValueError(
                f"objective {objective!r}: {idle[0].name} needs {needed}, of which the data have none; leave it out, "
                "or prepare data that have some"
            )
    return [kind for kind in there if any(whole.of_kind(kind).parts for whole in sums)]


def read_batches(
    recipe: PretrainRecipe, data_dir: Path, manifest: Manifest
) -> tuple[PretrainingBatches, ValidationBatches]:
    """The batches that this rank trains on, and those of validation.

    Raises ValueError as `PretrainingBatches`, `check_all_are_trained` and `check_words_are_listed` do.
    """
    ranks = launched_rank(), launched_ranks(), recipe.accumulation_steps
    lexicons = read_resources(recipe, data_dir, manifest)
    # Held-out text is cut and masked by the recipe's own fields, so that its losses are comparable over the stages.
    valid = ValidationBatches(data_dir, manifest, options_of(recipe), recipe.validate_batches, lexicons)
    train = PretrainingBatches(data_dir, manifest, RecipeCourse(recipe), *ranks, lexicons)
    check_all_are_trained(train)
    check_words_are_listed(train)
    return train, valid


def check_all_are_trained(batches: PretrainingBatches) -> None:
    """Raise ValueError for a part of the objectives of a run that has no text, or no lexicon, in any update."""
    found: dict[str, bool] = {}
    for stretch in batches.stretches:
        for part in ObjectiveSum.of(batches.course.at(stretch.begin).objective):
            names = [name for kind in part.kinds if kind in stretch.kinds for name in stretch.kinds[kind].groups]
            if LEXICON in part.needs and batches.lexicons is not None:
                names = [name for name in names if batches.lexicons.links(name)]
            found[part.name] = found.get(part.name, False) or bool(names)
    if idle := [name for name, is_trained in found.items() if not is_trained]:
        needed = "sentence pairs with a lexicon" if LEXICON in OBJECTIVES[idle[0]].needs else "text of its kind"
        raise ValueError(
            f"objective {idle[0]}: in no update do the languages and pairs to train have {needed}; choose others, or "
            "leave it out"
        )


def check_words_are_listed(batches: PretrainingBatches) -> None:
    """Tell which share of the words of the first pairs the lexicons list; raise ValueError where they list none."""
    lexicons = batches.lexicons
    if lexicons is None:
        return
    found: dict[str, tuple[float, float]] = {}
    for stretch in batches.stretches:
        groups = stretch.kinds[BILINGUAL].groups if BILINGUAL in stretch.kinds else {}
        for name, group in groups.items():
            if name not in found and lexicons.links(name):
                first = (group.source[number] for number in range(min(PAIRS_LOOKED_AT, len(group.source))))
                found[name] = lexicons.shares_listed(name, ((pair.x, pair.y) for pair in first))
    for name, shares in found.items():
        languages = name.split("-")
        told = " and ".join(f"{share:.1%} of {language}" for share, language in zip(shares, languages, strict=True))
        if not all(shares):
            raise ValueError(
                f"lexicon for {name}: of the words of the first {PAIRS_LOOKED_AT:,} pairs it lists {told}; are its "
                "columns, or the languages of its name, exchanged?"
            )
        tell(f"lexicon for {name}: of the words of the first {PAIRS_LOOKED_AT:,} pairs it lists {told}")


def read_resources(recipe: PretrainRecipe, data_dir: Path, manifest: Manifest) -> Lexicons | None:
    """The lexicons and thesauri that some stage's objective reads, for the data's pairs.

    Raises ValueError as `read_lexicons` does.
    """
    objective = ObjectiveSum.union(recipe.objectives())
    if recipe.thesaurus is not None and not any(THESAURUS in part.uses for part in objective):
        tell(f"thesaurus {recipe.thesaurus} is not read: no part of the objective uses one")
    if LEXICON not in objective.needs:
        if recipe.lexicon is not None:
            tell(f"lexicon {recipe.lexicon} is not read: no part of the objective needs one")
        return None
    assert recipe.lexicon is not None, "a recipe without it was refused"
    thesaurus = recipe.thesaurus if any(THESAURUS in part.uses for part in objective) else None
    return read_lexicons(data_dir, list(manifest.parallel), recipe.lexicon, thesaurus)
