"""The commands of a comparison: translate tests, train, predict, evaluate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.command_stages import Stage
from finetune.comparison import flags_of
from finetune.understanding.comparison.configuration import MIN_FOR_LAYERS, Comparison, flags
from finetune.understanding.comparison.runs import Run
from finetune.understanding.metrics.prediction_files import prediction_path
from finetune.understanding.readers.files import translations_name
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_file_content
from finetune.understanding.tasks.task import Split


def stages_of(run: Run, comparison: Comparison, languages: Sequence[str]) -> list[Stage]:
    """The commands of a run whose tests are in `languages`; the result of the last one has the scores."""
    if run.recipe is not None:
        return [
            train_stage(run, run.recipe),
            *predictions_of_trained(run, run.recipe, comparison, languages),
            evaluation(run, comparison, languages),
        ]
    model = Path(run.init_from)
    stages = []
    if run.seed is not None:
        model = run.output / "model"
        drawn = ("finetune.random_model", run.init_from, "--seed", f"{run.seed}", "--output", f"{model}")
        stages.append(Stage(f"{run.name}: draw weights", drawn, model))
    asked, data = comparison.retrieval_flags(run.group.task), comparison.data_of(run.group.task)
    if len(languages) < MIN_FOR_LAYERS:
        own = flags({name: value for name, value in asked.items() if name != "layers"})
        predicted = prediction(run, model, comparison, (data, run.group.task), languages, own)
        return [*stages, predicted, evaluation(run, comparison, languages)]
    own = flags({name: value for name, value in asked.items() if name != "layer"})
    command = (
        *("finetune.understanding.layers", f"{model}", "--task", run.group.task, "--output", f"{run.output}"),
        *("--data", data, "--languages", ",".join(languages), *own),
    )
    return [*stages, Stage(f"{run.name}: all layers", command, result_of(run, languages))]


def result_of(run: Run, languages: Sequence[str]) -> Path:
    """The result of the last command, which has the scores."""
    chooses_layers = run.recipe is None and len(languages) >= MIN_FOR_LAYERS
    return run.output / (f"{run.group.definition.name}.json" if chooses_layers else "scores.json")


def train_stage(run: Run, recipe: UnderstandingRecipe) -> Stage:
    """The training; the plain engine needs no launcher."""
    is_distributed = recipe.engine == "deepspeed"
    program = "finetune/understanding/train.py" if is_distributed else "finetune.understanding.train"
    return Stage(f"{run.name}: train", (program, *flags_of(recipe)), run.trained / "curves.png", is_distributed)


def predictions_of_trained(
    run: Run, recipe: UnderstandingRecipe, comparison: Comparison, languages: Sequence[str]
) -> list[Stage]:
    """The predictions of a trained model, of translated tests in all languages but the source language."""
    own = ["--max-tokens", f"{recipe.max_tokens}"]
    own += ["--translated-test", recipe.translated_test] if recipe.plug_in and recipe.translated_test else []
    data = (comparison.data_of(run.group.task), run.group.task)
    if run.translated is None:
        return [prediction(run, run.trained, comparison, data, languages, own)]
    source = run.group.definition.source_language
    translated = (run.translated.root, run.translated.task)
    parts = {
        data: [language for language in languages if language == source],
        translated: [language for language in languages if language != source],
    }
    return [prediction(run, run.trained, comparison, where, part, own) for where, part in parts.items() if part]


def prediction(
    run: Run,
    model: Path,
    comparison: Comparison,
    where: tuple[str, str],
    languages: Sequence[str],
    own_flags: Sequence[str],
) -> Stage:
    """Predict with `model`; `where` are the root of the files and the task that describes them."""
    data, task = where
    split, predictions = Split(comparison.report), run.output / "predictions"
    command = (
        *("finetune.understanding.predict", f"{model}", "--task", task, "--data", data, "--split", split.value),
        *("--output", f"{predictions}", "--languages", ",".join(languages), *own_flags),
    )
    # The last of the files, which are written atomically.
    last = prediction_path(predictions, run.group.definition, languages[-1], split)
    return Stage(f"{run.name}: predict {', '.join(languages)}", command, last)


def evaluation(run: Run, comparison: Comparison, languages: Sequence[str]) -> Stage:
    """Score all predictions of a run."""
    result = result_of(run, languages)
    command = (
        *("finetune.understanding.evaluate", "--predictions", f"{run.output / 'predictions'}"),
        *("--task", run.group.task, "--labels", comparison.data_of(run.group.task), "--split", comparison.report),
        *("--json", f"{result}", "--languages", ",".join(languages)),
    )
    return Stage(f"{run.name}: evaluate", command, result)


def translation_stages(runs: Sequence[Run], comparison: Comparison, languages: Sequence[str]) -> list[Stage]:
    """The translations of the tests of a group's runs; none where they are given."""
    stages = []
    run = runs[0]
    assert run.translated is not None and run.recipe is not None, "runs of translate-test"
    if run.recipe.translated_test:
        return []
    task = run.group.definition
    for language in languages:
        if language != task.source_language:
            model = comparison.translation_model_of(language)
            command = (
                *("finetune.understanding.translate", model, "--task", run.group.task),
                *("--data", comparison.data_of(run.group.task), "--split", comparison.report),
                *("--languages", language, "--output", run.translated.root),
            )
            result = Path(run.translated.root) / translations_name(Split(comparison.report), language)
            stages.append(Stage(f"{task.title}: translate {language}", command, result))
    return stages


def settings_of(run: Run, comparison: Comparison, languages: Sequence[str]) -> dict[str, Any]:
    """The settings of a run's training and tests, which must not change once it has begun."""
    tests: dict[str, Any] = {"test data": comparison.data_of(run.group.task), "test languages": list(languages)}
    if comparison.report != Split.TEST:
        tests["reported"] = comparison.report
    if (content := task_file_content(run.group.task)) is not None:
        tests["task file"] = content
    if run.recipe is None:
        return {"init_from": run.init_from, "retrieval": comparison.retrieval_flags(run.group.task), **tests}
    if run.translated is not None:
        given = run.recipe.translated_test
        tests["translated tests"] = given or [comparison.translation_model_of(language) for language in languages]
    return {**dataclasses.asdict(run.recipe), **tests}
