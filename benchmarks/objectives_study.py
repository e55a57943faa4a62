"""The study of objectives behind docs/results.md: pre-train each on Multi30k, look for captions' translations.

    python benchmarks/objectives_study.py CORPORA --output DIR [--steps 1000] [--seeds 1] [--parallel 2]
    python benchmarks/objectives_study.py CORPORA --output DIR --quick          a very small shape, a few updates

CORPORA has mt/multi30k/{train,val,test_2016_flickr}.{en,de,fr}.gz. The screen, by default: MLM, MLM + TLM, CA-MLM +
TLM, mBART, and each other objective for pairs added to MLM + TLM and to CA-MLM + TLM; --objectives names others. Some
need a lexicon: --recipe-flags="--lexicon en-de=de.txt,en-fr=fr.txt". All runs have the same data, order of samples and
masks, and as many updates as --steps says. With --as-long-as OBJECTIVE and the --speeds of an earlier study,
DIR/results.jsonl, each has as many as it makes while that one makes --steps.

Each caption of test_2016_flickr is to be found among all, plugged out, German and French each with the layer that is
best on the other: by cosine, and by csls of centred vectors. With --translation COMPARE.yaml, a comparison of
finetune.mt, all models are fine-tuned as it says; its tables are in DIR/translation, its scores in DIR/table.md too.

DIR/results.jsonl has a line for each run, DIR/table.md a row for each objective, mean and deviation over seeds. Both
are written anew after each run. What is finished is not done again: interrupt it, and start it with the same flags.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import itertools
import json
import os
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from xtreme_data import make_captions

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import write_texts
from data_tools.files.yaml_files import read_mapping
from data_tools.shards.manifest import Manifest
from data_tools.text.lines import open_text
from finetune.command_stages import Stage, run_stage
from finetune.comparison import mean_and_deviation
from finetune.mt.compare import compare
from finetune.steps import Step, check_unchanged, held, run_steps
from pretrain.loss_and_metrics import count_tokens
from pretrain.pretraining import read_batches
from pretrain.recipe import PretrainRecipe
from training.meters import read_metrics
from training.recipe.parsing import parse_recipe
from veco.objectives.objective import BILINGUAL
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "pretrain" / "recipes" / "multi30k.yaml"
CORPUS = ROOT / "data_tools" / "corpora" / "multi30k.yaml"
LANGUAGES = ("en", "de", "fr")
BASELINES = ("mlm", "mlm+tlm", "ca_mlm+tlm", "mbart(translate=true)")
STARTS = ("mlm+tlm", "ca_mlm+tlm")  # what the others are added to
# Those that are not added to anything; distil needs a teacher: benchmarks/distillation.py.
OLD = {"mlm", "tlm", "ca_mlm", "clm", "mbart", "distil"}
# The recipe has three layers, where the default is the 8th of 12.
OPTIONS = {"xlco": "(layer=2)", "self_alignment": "(layer=2)"}
RETRIEVAL = {"cosine": ("--similarity", "cosine"), "csls, centred": ("--similarity", "csls", "--centre")}
COUNTED_BATCHES = 64  # of which the tokens of an update are the mean
QUICK_SIZES = {
    **{"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16},
    **{"bilingual_batch_pairs": 8, "contrast_pairs": 8, "warmup_steps": 1, "validate_batches": 1},
}
QUICK_LINES, QUICK_STEPS = 200, 3


@dataclass(frozen=True)
class Run:
    """An objective that is pre-trained with a seed for some updates, and the flags of the recipe that it takes."""

    objective: str
    seed: int
    steps: int
    flags: tuple[str, ...]
    directory: Path

    @property
    def model(self) -> Path:
        return self.directory / "pretrain" / "last"


@dataclass(frozen=True)
class Result:
    """What a run found: accuracies in percent by way of comparing, of each language and their mean."""

    objective: str
    seed: int
    steps: int
    seconds: float
    tokens_per_second: float
    losses: Mapping[str, float]
    retrieval: Mapping[str, Mapping[str, Any]]


def screened() -> list[str]:
    """The sums of the screen."""
    new = [name for name, kind in OBJECTIVES.items() if name not in OLD and BILINGUAL in kind.kinds]
    return [*BASELINES, *(f"{start}+{name}{OPTIONS.get(name, '')}" for name in new for start in STARTS)]


def directory_name(objective: str) -> str:
    """A sum as the name of a directory, of the letters that comparisons allow in names."""
    return re.sub(r"[^\w.+-]+", "_", objective).strip("_").replace("+", "-")


def run_name(objective: str, steps: int, seed: int) -> str:
    """The name of a run's directory, and of its model in the comparison of translations."""
    return f"{directory_name(objective)}-{steps}-seed{seed}"


def prepare(corpora: Path, output: Path, quick: bool) -> None:
    """Tokenizer, shards and captions in DIR/multi30k, unless they are there."""
    source, target = corpora / "mt" / "multi30k", output / "multi30k"
    texts = [f"{source / f'train.{language}.gz'}" for language in LANGUAGES]
    size = ("--vocab-size", "300" if quick else "6000")
    tokenizer, data = target / "tokenizer", target / "data"
    stages = [
        Stage(
            "tokenizer",
            ("data_tools.train_tokenizer", *size, "--output", f"{tokenizer}", "--input", *texts),
            tokenizer,
        ),
        Stage("shards", ("data_tools.prepare", f"{CORPUS}", "--output", f"{data}"), data / "manifest.json"),
    ]
    for stage in stages:
        run_stage(stage, 1)
    if not (target / "captions").exists():
        make_captions(source, target / "captions")


def shortened(corpora: Path, output: Path) -> Path:
    """Corpora of the first lines of each file, in DIR/corpora."""
    directory = output / "corpora" / "mt" / "multi30k"
    directory.mkdir(parents=True, exist_ok=True)
    for part, language in itertools.product(("train", "val", "test_2016_flickr"), LANGUAGES):
        name = f"{part}.{language}.gz"
        with open_text(corpora / "mt" / "multi30k" / name) as lines, gzip.open(directory / name, "wt") as file:
            file.writelines(f"{line}\n" for line in itertools.islice(lines, QUICK_LINES))
    return output / "corpora"


def stages_of(run: Run, captions: Path) -> list[Stage]:
    """Pre-training, and the search for captions in each way."""
    training = run.directory / "pretrain"
    stages = [Stage("pre-train", ("pretrain.train", *run.flags, "--output", f"{training}", "--resume"), run.model)]
    for name, flags in RETRIEVAL.items():
        found = run.directory / directory_name(name)
        command = ("finetune.understanding.layers", f"{run.model}", "--task", "tatoeba", "--data", f"{captions}")
        stages.append(Stage(name, (*command, *flags, "--output", f"{found}"), found / "tatoeba.json"))
    return stages


def result_of(run: Run, tokens: float) -> Result | None:
    """The result of a run whose updates have so many tokens; None while it is unfinished."""
    files = {name: run.directory / directory_name(name) / "tatoeba.json" for name in RETRIEVAL}
    if not all(file.is_file() for file in files.values()):
        return None
    lines = read_metrics(run.directory / "pretrain")
    seconds = seconds_of_updates(lines, tokens)
    last = next((line for line in reversed(lines) if "valid/bilingual_loss" in line), {})
    losses = {name.removeprefix("valid/bilingual_"): x for name, x in last.items() if "valid/bilingual_" in name}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    kept = {name: {"avg": content["avg"], **content["chosen"]} for name, content in found.items()}
    return Result(run.objective, run.seed, run.steps, seconds, tokens * run.steps / seconds, losses, kept)


def seconds_of_updates(lines: Sequence[Mapping[str, Any]], tokens: float) -> float:
    """The seconds of a run's updates of so many tokens, by its metrics: without validations and checkpoints."""
    updates = [line for line in lines if "tokens_per_second" in line]
    steps = [int(line["step"]) for line in updates]
    return sum(
        tokens * (step - before) / line["tokens_per_second"]
        for line, step, before in zip(updates, steps, [0, *steps], strict=False)
    )


def recipe_of(run: Run) -> PretrainRecipe:
    """The recipe of a run. Raises ValueError where it lacks something, such as the lexicon of an objective."""
    return parse_recipe(PretrainRecipe, [*run.flags, "--output", f"{run.directory / 'pretrain'}"])


def tokens_of_update(recipe: PretrainRecipe) -> float:
    """Tokens of x and y in an update, the mean of the first; the same for all objectives."""
    recipe = dataclasses.replace(recipe, objective="mlm")
    data = Path(recipe.data)
    batches, _ = read_batches(recipe, data, Manifest.load(data))
    return statistics.fmean(int(count_tokens(batches[number])) for number in range(COUNTED_BATCHES))


def translation_scores(directory: Path) -> dict[str, list[float]]:
    """sacreBLEU of each model's finished runs in a comparison's directory, by its name; none before the first."""
    path = directory / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []
    scores: dict[str, list[float]] = {}
    for result in results:
        scores.setdefault(result["model"], []).append(result["scores"]["sacrebleu"])
    return scores


def table(results: Sequence[Result], num_runs: int, translation: Mapping[str, Sequence[float]]) -> str:
    """A row for each objective: means over its seeds; `translation` has scores of models by their run's name."""
    ways = [f"{name}, mean of de and fr" for name in RETRIEVAL]
    heads = ["objective", "seeds", "updates", "seconds", "tokens/s", *ways, *(["sacreBLEU"] if translation else [])]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.objective, result.steps), []).append(result)
    for (objective, steps), members in groups.items():
        scores = [mean_and_deviation([member.retrieval[name]["avg"] for member in members]) for name in RETRIEVAL]
        seconds, speed = (
            f"{statistics.fmean(values):,.0f}"
            for values in zip(*((member.seconds, member.tokens_per_second) for member in members), strict=True)
        )
        if translation:
            names = [run_name(member.objective, member.steps, member.seed) for member in members]
            translated = [score for name in names for score in translation.get(name, ())]
            scores.append(mean_and_deviation(translated) if translated else "")
        seeds = ", ".join(str(member.seed) for member in members)
        lines.append(f"| {' | '.join([f'`{objective}`', seeds, f'{steps:,}', seconds, speed, *scores])} |")
    notes = [f"{len(results)} of {num_runs} runs are done."] if len(results) < num_runs else []
    return "\n".join([*lines, "", *notes]) + "\n"


def updates_as_long(objective: str, like: str, steps: int, speeds: Path) -> int:
    """The updates that an objective makes while another one makes `steps`, by the speeds of an earlier study."""
    lines = [json.loads(line) for line in speeds.read_text(encoding="utf-8").splitlines()]
    rates = {
        name: [line["tokens_per_second"] for line in lines if line["objective"] == name] for name in (objective, like)
    }
    if missing := [name for name, found in rates.items() if not found]:
        raise ValueError(f"{speeds}: has no run of {missing[0]}; name one of the study that it is from")
    return max(1, round(steps * statistics.fmean(rates[objective]) / statistics.fmean(rates[like])))


def runs_of(options: argparse.Namespace) -> list[Run]:
    """The runs that the flags ask for. Raises ValueError for objectives that cannot be read."""
    sizes = QUICK_SIZES if options.quick else {}
    runs = []
    for objective, seed in itertools.product(options.objectives or screened(), options.seeds):
        ObjectiveSum.of(objective)
        steps = options.steps
        if options.as_long_as:
            steps = updates_as_long(objective, options.as_long_as, steps, options.speeds)
        values = {"objective": objective, "seed": seed, "steps": steps, **sizes}
        own = [word for name, value in values.items() for word in (f"--{name}", f"{value}")]
        flags = ("--config", f"{RECIPE}", *own, *options.recipe_flags)
        directory = options.output / "runs" / run_name(objective, steps, seed)
        runs.append(Run(objective, seed, steps, flags, directory))
    return runs


def translation_comparison(path: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """A comparison of finetune.mt with these models in place of its own; untrained cross-attention is drawn anew."""
    content = read_mapping(path, "what python -m finetune.mt.compare --help shows")
    models = {}
    for run in runs:
        is_trained = ObjectiveSum.of(run.objective).trains_cross_attention
        cross_attention = {} if is_trained else {"cross_attention": "random"}
        models[run.directory.name] = {"init_from": f"{run.model.resolve()}", **cross_attention}
    recipe = f"{(path.parent / content['recipe']).resolve()}"
    kept = {name: value for name, value in content.items() if name != "baseline"}  # a model that is not among these
    return {**kept, "models": models, "recipe": recipe}


def study(options: argparse.Namespace) -> None:
    """Do all unfinished runs, and write the results after each."""
    runs = runs_of(options)
    check_unchanged({run.directory.name: {"flags": list(run.flags)} for run in runs}, options.output)
    corpora = shortened(options.corpora, options.output) if options.quick else options.corpora
    # What the files of corpus, recipe and comparison name.
    os.environ |= {"VECO_CORPORA": f"{corpora.resolve()}", "VECO_RUNS": f"{options.output.resolve()}"}
    recipes = [recipe_of(run) for run in runs]  # all of them, before anything is done
    prepare(corpora, options.output, options.quick)
    captions, tokens = options.output / "multi30k" / "captions", tokens_of_update(recipes[0])

    steps = [Step(run.directory.name, run.directory, tuple(stages_of(run, captions))) for run in runs]
    translations = options.output / "translation"

    def report() -> None:
        results = [result for run in runs if (result := result_of(run, tokens)) is not None]
        lines = [json.dumps(asdict(result)) + "\n" for result in results]
        scores = translation_scores(translations)
        write_texts(options.output, {"results.jsonl": "".join(lines), "table.md": table(results, len(runs), scores)})

    run_steps(steps, report, options.parallel, 1, own_logs=options.parallel > 1)
    if options.translation:
        content = translation_comparison(options.translation, runs)
        write_texts(options.output, {"translation.yaml": yaml.safe_dump(content, sort_keys=False)})
        compare(options.output / "translation.yaml", translations, options.parallel)
        report()
    print(f"\n{(options.output / 'table.md').read_text(encoding='utf-8')}")


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("corpora", type=Path, metavar="CORPORA", help="directory with mt/multi30k")
    add("--output", type=Path, required=True, metavar="DIR", help="directory for runs and results")
    add("--objectives", nargs="+", metavar="SUM", help="objectives as recipes write them (the screen)")
    add("--steps", type=int, default=1000, help="updates of each run (1000)")
    add("--seeds", type=int, nargs="+", default=[1], help="seeds of each objective (1)")
    add("--as-long-as", metavar="SUM", help="equal seconds: those in which this one makes --steps")
    add("--speeds", type=Path, metavar="FILE", help="for --as-long-as: results.jsonl of an earlier study")
    add("--translation", type=Path, metavar="COMPARE.yaml", help="a comparison of finetune.mt, for all models")
    add("--parallel", type=int, default=1, metavar="N", help="runs at once (1)")
    add("--recipe-flags", type=shlex.split, default=[], metavar='="FLAGS"', help="more flags of pretrain/train.py")
    add("--quick", action="store_true", help="a very small shape, a few updates of a few lines")
    options = parser.parse_args()
    if bool(options.as_long_as) != bool(options.speeds):
        raise ValueError("--as-long-as and --speeds: expected both or none")
    if options.quick:
        options.steps = QUICK_STEPS
    with held(options.output):
        study(options)


if __name__ == "__main__":
    run_main(main)
