"""COMPARE.yaml: the initialisations and decoders to compare, the seeds and the budget.

    recipe: multi30k_en_de.yaml          # shared by all runs; the path is relative to this file
    fields: {steps: 500}                 # changes to the recipe, for all runs
    models:                              # the initialisations to compare
      veco: {init_from: "${VECO_RUNS}/veco/model"}
      xlm: {init_from: "${VECO_RUNS}/xlm/model", cross_attention: random}
      random: {init_from: "${VECO_RUNS}/veco/model", init: random}
    decoders: [last-3, first-3]          # default: only the recipe's decoder
    seeds: [1, 2]
    baseline: random                     # a model; reports how many updates the others need to be as good
    average: {best: 1}                   # or {last: 10}
    test: {source: test.en, target: test.de}
    generate: {beam: 5, lenpen: 1.0}     # flags of finetune.mt.generate
    processes: 2                         # of each training run, each with a GPU where there are GPUs

Every model gets the same data, updates and batch sizes: fields that would change these for a single model are refused.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.cli import FlagParser
from finetune.command_stages import Stage
from finetune.comparison import flags_of, parse_comparison, problems_of_counts, problems_of_models
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.command_line import add_decoding_arguments, check_numbers, search_options
from finetune.mt.recipe import TranslationRecipe
from training.recipe.parsing import build_recipe, laid_over, read_yaml

# Initialisation, regularisation and learning rate may differ between models; the data and how often they are seen not.
MODEL_FIELDS = (
    *("init_from", "init", "cross_attention", "tie_self_attention"),
    *("learning_rate", "warmup_steps", "dropout", "attention_dropout"),
)
# Fields that the comparison sets itself; the decoder's, too, if there are `decoders`.
DECIDED = ("seed", "output", "resume")
DECODER_FIELDS = ("decoder_layers_from", "decoder_layers")
DECODING_FLAGS = ("dtype", "workers")  # of generate, besides those of the search
DECODER = re.compile(r"(last|first)-([1-9]\d*)")
TRAIN_SCRIPT = "finetune/mt/train.py"


@dataclass(frozen=True)
class Run:
    """One run of the comparison: a model, a decoder ("" = the recipe's), a seed, and its resolved recipe."""

    model: str
    decoder: str
    seed: int
    recipe: TranslationRecipe

    @property
    def name(self) -> str:
        parts = [self.model, self.decoder, f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    @property
    def group(self) -> str:
        """Model and decoder, the same for all seeds."""
        return f"{self.model}, {self.decoder}" if self.decoder else self.model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The content of a COMPARE.yaml, see the module's docstring."""

    recipe: str
    models: dict[str, dict[str, Any]]
    test: dict[str, str]
    seeds: list[int]
    fields: dict[str, Any] = field(default_factory=dict)
    decoders: list[str] = field(default_factory=list)
    baseline: str | None = None
    average: dict[str, int] = field(default_factory=lambda: {"last": 1})
    generate: dict[str, Any] = field(default_factory=dict)
    processes: int = 1

    def problems(self) -> list[str]:
        """One sentence for each mistake."""
        found = problems_of_models(self.models, MODEL_FIELDS)
        found += problems_of_counts(self.seeds, self.processes)
        decided = {*DECIDED, *(DECODER_FIELDS if self.decoders else ())}
        if refused := sorted(decided & set(self.fields)):
            found.append(f"fields: {', '.join(refused)} cannot be set here; the seeds and decoders say it")
        for decoder in self.decoders:
            if not DECODER.fullmatch(str(decoder)):
                found.append(f"decoder {decoder!r} must look like last-3 or first-3")
        if self.baseline is not None and self.baseline not in self.models:
            found.append(f"baseline {self.baseline!r} must be one of the models: {', '.join(self.models)}")
        counts = [count for count in self.average.values() if type(count) is int and count >= 1]
        if len(self.average) != 1 or set(self.average) - {"last", "best"} or not counts:
            found.append(f"average {self.average} must be {{last: N}} or {{best: N}}, N a number from 1")
        if set(self.test) != {"source", "target"}:
            found.append("test must have source and target, and nothing else")
        return found + self._problems_of_search()

    def _problems_of_search(self) -> list[str]:
        """Mistakes in the flags of generate, which would otherwise be found only after the first training."""
        names = {option.name.replace("_", "-") for option in dataclasses.fields(SearchOptions)}
        found = [f"generate has no {name!r} here" for name in self.generate if name not in names | set(DECODING_FLAGS)]
        if found:
            return found
        parser = FlagParser()
        add_decoding_arguments(parser)
        try:
            arguments = parser.parse_args(["MODEL", *self.search_flags()])
            check_numbers(arguments)
            search_options(arguments)
        except ValueError as error:
            found.append(f"generate: {error}")
        return found

    def search_flags(self) -> list[str]:
        """The flags of finetune.mt.generate."""
        return [word for flag, value in self.generate.items() for word in (f"--{flag}", str(value))]


def read_comparison(path: Path) -> Comparison:
    """The comparison in a file, with environment variables expanded. Raises ValueError with every mistake."""
    types: dict[str, type] = dict.fromkeys(("models", "test", "fields", "average", "generate"), dict)
    types |= {"seeds": list, "decoders": list, "processes": int}
    comparison = parse_comparison(path, Comparison, types, "finetune.mt.compare")
    return dataclasses.replace(comparison, recipe=str(path.parent / comparison.recipe))


def runs_of(comparison: Comparison, output: Path) -> list[Run]:
    """All runs, seed by seed, so that an interrupted comparison has results for all models.

    Raises ValueError with all problems of a recipe.
    """
    shared = laid_over(TranslationRecipe, read_yaml(Path(comparison.recipe)), comparison.fields)
    runs = []
    for seed in comparison.seeds:
        for decoder in comparison.decoders or [""]:
            layers = dict(zip(DECODER_FIELDS, decoder.split("-"), strict=False))
            for model, fields in comparison.models.items():
                values = {**shared, **(layers if decoder else {}), **fields, "seed": seed, "output": "run"}
                run = Run(model, decoder, seed, build_recipe(TranslationRecipe, values, Path(comparison.recipe)))
                recipe = dataclasses.replace(run.recipe, output=str(output / "runs" / run.name), resume="auto")
                runs.append(dataclasses.replace(run, recipe=recipe))
    check_kept(runs[0].recipe, comparison)
    return runs


def check_kept(recipe: TranslationRecipe, comparison: Comparison) -> None:
    """Raise ValueError when training would not keep as many checkpoints as are averaged."""
    (kind, count), *_ = comparison.average.items()
    if kind == "last":
        name, kept = "keep_checkpoints", recipe.keep_checkpoints
    else:
        name, kept = "keep_best", recipe.keep_best
    if kept < count:
        raise ValueError(f"average {{{kind}: {count}}}: the recipe's {name} is {kept}; raise it")
    every = recipe.validate_every or recipe.save_every if kind == "best" else recipe.save_every
    num_found = recipe.epochs or math.ceil(recipe.steps / every)
    if num_found < count:
        what, how = ("validations", "validated") if kind == "best" else ("checkpoints", "saved")
        length = f"{recipe.epochs} epochs" if recipe.epochs else f"{recipe.steps:,} steps, {how} every {every:,},"
        raise ValueError(f"average {{{kind}: {count}}}: {length} have {num_found:,} {what}; average fewer")


def stages_of(run: Run, comparison: Comparison) -> list[Stage]:
    """Train, average, translate, score: the commands of a run."""
    directory = Path(run.recipe.output)
    (kind, count), *_ = comparison.average.items()
    averaged, output = directory / "averaged", directory / "test.hyp"
    target = run.recipe.all_directions()[0].target
    language_flags = [] if run.recipe.is_one_target() else ["--target-language", target]
    source, reference = comparison.test["source"], comparison.test["target"]
    return [
        Stage(
            f"{run.name}: train",
            (TRAIN_SCRIPT, *flags_of(run.recipe)),
            directory / "curves.png",
            is_distributed=True,
        ),
        Stage(
            f"{run.name}: average",
            ("finetune.mt.average", f"{directory}", f"--{kind}", f"{count}", "--output", f"{averaged}"),
            averaged,
        ),
        Stage(
            f"{run.name}: translate",
            (
                *("finetune.mt.generate", f"{averaged}", "--input", source, "--output", f"{output}", "--quiet"),
                *(*language_flags, *comparison.search_flags()),
            ),
            output,
        ),
        Stage(
            f"{run.name}: score",
            (
                *("finetune.mt.score", "--system", f"{output}", "--reference", reference),
                *("--target-language", target, "--json", f"{directory / 'score.json'}"),
            ),
            directory / "score.json",
        ),
    ]
