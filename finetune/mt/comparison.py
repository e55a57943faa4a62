"""COMPARE.yaml: which initialisations and decoders to compare, over which seeds, with which budget.

    recipe: multi30k_en_de.yaml          # what all runs share; a path from this file's directory
    fields: {steps: 500}                 # fields of the recipe that are different here, for all runs
    models:                              # what is compared: how a run starts
      veco: {init_from: "${VECO_RUNS}/veco/model"}
      xlm: {init_from: "${VECO_RUNS}/xlm/model", cross_attention: random}
      random: {init_from: "${VECO_RUNS}/veco/model", init: random}
    decoders: [last-3, first-3]          # if not only the recipe's decoder
    seeds: [1, 2]
    baseline: random                     # a model; tells how many updates the others need to be as good
    average: {best: 1}                   # or {last: 10}
    test: {source: test.en, target: test.de}
    generate: {beam: 5, lenpen: 1.0}     # flags of finetune.mt.generate
    processes: 2                         # of each training run, on a machine without GPU

Every model gets the same data, updates and batch sizes: a field that would change these for one of them is refused.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.command_stages import Stage
from finetune.comparison import flags_of, parse_comparison, problems_of_counts, problems_of_models
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.recipe import TranslationRecipe
from training.recipe.parsing import build_recipe, laid_over, read_yaml

# A model may start otherwise and be regularised and stepped otherwise, but it sees the same data as often.
MODEL_FIELDS = (
    *("init_from", "init", "cross_attention", "tie_self_attention"),
    *("learning_rate", "warmup_steps", "dropout", "attention_dropout"),
)
# What the comparison decides; the decoder, too, where `decoders` names some.
DECIDED = ("seed", "output", "resume")
DECODER_FIELDS = ("decoder_layers_from", "decoder_layers")
DECODING_FLAGS = ("dtype", "workers")  # of generate, beside those of the search
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
        return "-".join([self.model, *([self.decoder] if self.decoder else []), f"seed{self.seed}"])

    @property
    def group(self) -> str:
        """What the seeds of a model and decoder have in common."""
        return f"{self.model}, {self.decoder}" if self.decoder else self.model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a COMPARE.yaml says; see there."""

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
        """One sentence for each thing that cannot be."""
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
        if len(self.average) != 1 or set(self.average) - {"last", "best"}:
            found.append(f"average {self.average} must be {{last: N}} or {{best: N}}")
        if set(self.test) != {"source", "target"}:
            found.append("test must have source and target, and nothing else")
        return found + self._problems_of_search()

    def _problems_of_search(self) -> list[str]:
        """Wrong flags of generate would else be met after the first training."""
        names = {one.name.replace("_", "-") for one in dataclasses.fields(SearchOptions)}
        found = [f"generate has no {name!r} here" for name in self.generate if name not in names | set(DECODING_FLAGS)]
        try:
            SearchOptions(**{name.replace("-", "_"): self.generate[name] for name in self.generate.keys() & names})
        except (ValueError, TypeError) as error:
            found.append(f"generate: {error}")
        return found


def read_comparison(path: Path) -> Comparison:
    """What the file says. Raises ValueError with all that is wrong; environment variables are replaced."""
    types: dict[str, type] = dict.fromkeys(("models", "test", "fields", "average", "generate"), dict)
    types |= {"seeds": list, "decoders": list, "processes": int}
    comparison = parse_comparison(path, Comparison, types, "finetune.mt.compare")
    return dataclasses.replace(comparison, recipe=str(path.parent / comparison.recipe))


def runs_of(comparison: Comparison, output: Path) -> list[Run]:
    """All runs, seed by seed, so that a comparison that is stopped has compared something.

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
    name = {"last": "keep_checkpoints", "best": "keep_best"}[kind]
    if recipe.__dict__[name] < count:
        raise ValueError(f"average {{{kind}: {count}}}: the recipe's {name} is {recipe.__dict__[name]}; raise it")
    if not recipe.epochs and count > (made := -(-recipe.steps // recipe.save_every)) and kind == "last":
        raise ValueError(
            f"average {{last: {count}}}: {recipe.steps:,} steps, saved every {recipe.save_every:,}, leave {made:,} "
            "checkpoints; save more often"
        )


def stages_of(run: Run, comparison: Comparison) -> list[Stage]:
    """Train, average, translate, score: the commands of a run."""
    directory = Path(run.recipe.output)
    (kind, count), *_ = comparison.average.items()
    averaged, output = directory / "averaged", directory / "test.hyp"
    target = run.recipe.all_directions()[0].target
    changed = [word for flag, value in comparison.generate.items() for word in (f"--{flag}", str(value))]
    tag = [] if run.recipe.is_one_target() else ["--target-language", target]
    source, reference = comparison.test["source"], comparison.test["target"]
    return [
        Stage(f"{run.name}: train", (TRAIN_SCRIPT, *flags_of(run.recipe)), directory / "curves.png", True),
        Stage(
            f"{run.name}: average",
            ("finetune.mt.average", f"{directory}", f"--{kind}", f"{count}", "--output", f"{averaged}"),
            averaged,
        ),
        Stage(
            f"{run.name}: translate",
            (
                *("finetune.mt.generate", f"{averaged}", "--input", source, "--output", f"{output}", "--quiet"),
                *(*tag, *changed),
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
