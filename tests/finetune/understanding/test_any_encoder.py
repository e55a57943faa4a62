"""Encoders of transformers through the whole loop: losses, predictions and files are those of a plain program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from own_encodings import answer_span, own_encoding, word_starts
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from xtreme_files import write_lines

from finetune.selection import best_checkpoints
from finetune.understanding import layers, predict
from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import LabelledText, TaggedSentence
from finetune.understanding.tasks.task import Split
from finetune.understanding.understanding_task import UnderstandingTask
from training.checkpoints.finding import checkpoints_of
from training.loop import seed_everything
from training.recipe.parsing import build_recipe
from training.run import train_run

TINY = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "max_length": 64,
    "stride": 16,
    "max_question_length": 24,
    "max_answer_length": 8,
    "batch_size": 8,
    "epochs": 1,
    "learning_rate": 5e-3,
    "warmup_share": 0.25,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "loader_workers": 0,
    "log_every": 1,
}
AUTO = {
    "xnli": AutoModelForSequenceClassification,
    "udpos": AutoModelForTokenClassification,
    "xquad": AutoModelForQuestionAnswering,
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.run.plot_curves", lambda run_dir: "nothing: drawing takes a second")


@pytest.fixture
def recipe_of(xtreme_data: Path, tmp_path: Path) -> Callable[..., UnderstandingRecipe]:
    """A function from a task, an encoder and other fields to a recipe."""

    def recipe(task: str, init_from: Path, **fields: Any) -> UnderstandingRecipe:
        places = {"data": str(xtreme_data), "init_from": str(init_from), "output": str(tmp_path / "run")}
        return build_recipe(UnderstandingRecipe, {**TINY, "task": task, **places, **fields}, None)

    return recipe


def call(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: object) -> None:
    """A command's main function as the command line would call it."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


def metrics(run: Path, key: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def plain_loss(model: Any, tokenizer: Any, examples: list[Any], labels: Any) -> torch.Tensor:
    """transformers' own loss of some examples; of answers, without padding as a candidate."""
    encoded = [own_encoding(tokenizer, example) for example in examples]
    batch = tokenizer.pad([{key: one[key][0] for key in one} for one in encoded], return_tensors="pt")
    if isinstance(examples[0], LabelledText):
        return model(**batch, labels=torch.tensor([labels.index(example.label) for example in examples])).loss
    if isinstance(examples[0], TaggedSentence):
        targets = torch.full(batch["input_ids"].shape, -100)
        for row, example in enumerate(examples):
            targets[row, word_starts(tokenizer, example)] = torch.tensor([labels.index(tag) for tag in example.tags])
        return model(**batch, labels=targets).loss
    output, is_padding = model(**batch), batch["attention_mask"] == 0
    spans = torch.tensor([answer_span(tokenizer, example) for example in examples])
    sides = (output.start_logits, spans[:, 0]), (output.end_logits, spans[:, 1])
    losses = [cross_entropy(logits.masked_fill(is_padding, -torch.inf), places) for logits, places in sides]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("task_name", AUTO)
@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_training_is_a_plain_loop(
    name: str,
    task_name: str,
    recipe_of: Callable[..., UnderstandingRecipe],
    encoder_directory: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    recipe = recipe_of(task_name, encoder_directory(name))
    seed_everything(recipe.seed)
    task = UnderstandingTask(recipe)
    task.model.save_pretrained(tmp_path / "start")
    examples = list(read(task.task, Split.TRAIN, "en", recipe.data))
    assert len(examples) == len(task.rows)
    model = AUTO[task_name].from_pretrained(tmp_path / "start").train()
    tokenizer = AutoTokenizer.from_pretrained(encoder_directory(name))
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(recipe.adam_beta1, recipe.adam_beta2), eps=recipe.adam_epsilon, weight_decay=0.01
    )
    losses, schedule = [], task.resolved(recipe).lr_factor
    for step in range(len(task.updates)):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * schedule(step)
        chosen = [examples[number] for number in task.updates.units_of(step)]
        loss = plain_loss(model, tokenizer, chosen, task.task.labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert recipe.weight_decay == 0.01
    train_run(recipe, UnderstandingTask.of_run)
    assert metrics(Path(recipe.output), f"train/{task.task.name}") == pytest.approx(losses, rel=1e-4)
    assert len(losses) == 8 and len(set(losses)) == 8


@pytest.mark.parametrize("name", ["bert", "roberta", "deberta", "mmbert"])
def test_predictions_are_those_of_transformers_after_a_resumed_run(
    name: str,
    recipe_of: Callable[..., UnderstandingRecipe],
    encoder_directory: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Train, stop, resume from the checkpoint alone, predict; and the same model in transformers, tag by tag."""
    fields = {"epochs": 2, "keep_checkpoints": 2, "learning_rate": 2e-2}
    recipe = recipe_of("udpos", encoder_directory(name), **fields)
    train_run(recipe, UnderstandingTask.of_run)
    run = Path(recipe.output)
    undisturbed = metrics(run, "train/udpos")
    later = checkpoints_of(run)[max(checkpoints_of(run))]
    later.rename(tmp_path / "later")
    moved = recipe_of("udpos", tmp_path / "moved", resume="auto", **fields)
    train_run(moved, UnderstandingTask.of_run)
    assert metrics(run, "train/udpos") == undisturbed
    call(monkeypatch, predict.main, run, "--data", recipe.data, "--output", tmp_path / "out", "--dtype", "float32")
    written = (tmp_path / "out" / "udpos" / "test-de.tsv").read_text().strip().split("\n\n")
    directory = best_checkpoints(run, 1)[0] / "model"
    model = AutoModelForTokenClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.model_max_length == 66
    sentences = list(read(task_named("udpos"), Split.TEST, "de", recipe.data))
    assert len(set("\n".join(written).split("\n"))) > 1, "a model that always says the same shows little"
    for sentence, lines in zip(sentences, written, strict=True):
        with torch.no_grad():
            logits = model(**own_encoding(tokenizer, sentence)).logits[0]
        numbers = logits[word_starts(tokenizer, sentence)].argmax(dim=-1).tolist()
        assert lines.split("\n") == [model.config.id2label[number] for number in numbers]
    told = capfd.readouterr()
    assert "Some weights" not in told.err + told.out and "MISSING" not in told.err + told.out


def test_retrieval_takes_any_encoder(
    encoder_directory: Callable[[str], Path], xtreme_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (xtreme_data / "tatoeba").iterdir():
        for language in ("de", "fr"):
            copied = tmp_path / "data" / "tatoeba" / file.name.replace(".de", f".{language}")
            write_lines(copied, file.read_text().splitlines())
    arguments = (encoder_directory("roberta"), "--task", "tatoeba", "--data", tmp_path / "data", "--output")
    call(monkeypatch, predict.main, *arguments, tmp_path / "out")
    assert len((tmp_path / "out" / "tatoeba" / "test-de.tsv").read_text().splitlines()) == 12
    call(monkeypatch, layers.main, *arguments, tmp_path / "layers")
    found = json.loads((tmp_path / "layers" / "tatoeba.json").read_text())
    assert set(found["layers"]) == {"0", "1", "2", "3"}
