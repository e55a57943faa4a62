"""Text to translations and labels with tokenizers that are not XLM-R's: trained, prepared, pre-trained, fine-tuned."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from json_tokenizers import LINES, SPECIAL_LINES
from transformers import AutoModelForMaskedLM, AutoTokenizer

from data_tools import train_tokenizer
from data_tools.corpus.configuration import Corpus
from data_tools.prepare import prepare
from data_tools.shards.format import Shard
from data_tools.shards.manifest import Manifest
from data_tools.shards.verify import tokenizer_problems
from data_tools.stages.executors import Stage
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator
from finetune.mt.recipe import TranslationRecipe
from finetune.mt.translation_task import TranslationTask
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.understanding_task import UnderstandingTask
from pretrain.export import Form, export
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training.recipe.parsing import build_recipe
from training.run import train_run
from training.run_directory.kinds import LAST
from veco.tokenizer import open_tokenizer

WORDS = " ".join(LINES).split()
RUN = {"engine": "plain", "ds_config": "cpu.json", "dropout": 0.0, "attention_dropout": 0.0, "loader_workers": 0}
SHAPE = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
SIZES = {"mono_max_length": 40, "bilingual_max_length": 40, "mono_batch_pairs": 4, "bilingual_batch_pairs": 4}
# Of all kinds of rows: single, joined by separators, infilled, and whose words are predicted.
OBJECTIVE = "ca_mlm + tlm + mbart + clpc"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_SIZE", str(len(os.sched_getaffinity(0))))
    monkeypatch.setattr("training.run.plot_curves", lambda run_dir: "nothing: drawing takes a second")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that calls a command's main function as the command line would."""

    def call(main: Callable[[], None], *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        main()

    return call


def run_here(stages: Sequence[Stage], logs: Path) -> None:
    """Run all tasks in this process: starting others takes seconds."""
    for stage in stages:
        for rank in range(stage.num_tasks):
            data = None
            for step in stage.steps:
                data = step.run(data, rank, stage.num_tasks)


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 7))) for _ in range(count)]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("model", ["wordpiece", pytest.param("bpe", marks=pytest.mark.slow)])
def test_from_text_to_translations_and_labels(model: str, tmp_path: Path, command: Callable[..., None]) -> None:
    lines = [*sentences(40, seed=1), *SPECIAL_LINES]
    for side, seed in (("de", 2), ("en", 3)):
        write_lines(tmp_path / f"pairs.{side}", sentences(40, seed))
    mono = write_lines(tmp_path / "mono.de", lines)
    size = {"wordpiece": 170, "bpe": 300}[model]
    command(train_tokenizer.main, "--model", model, "--vocab-size", size, "--input", mono, "--output", tmp_path / "t")
    corpus = {"tokenizer": "t", "valid": 0.1, "deduplicate": {"exact": True}, "mono": {"de": ["mono.de"]}}
    corpus["parallel"] = {"de-en": [{"source": "pairs.de", "target": "pairs.en"}]}
    (tmp_path / "corpus.yaml").write_text(yaml.safe_dump(corpus))
    data = tmp_path / "data"
    assert prepare(Corpus.load(tmp_path / "corpus.yaml"), data, shard_tokens=10_000, run=run_here)
    assert not tokenizer_problems(data, Manifest.load(data))
    check_shards(data, tmp_path / "t", lines)

    recipe = PretrainRecipe(
        output=str(tmp_path / "run"), data=str(data), objective=OBJECTIVE, contrast_pairs=2, steps=3, save_every=3,
        max_position_embeddings=90, **SHAPE, **SIZES, **RUN,
    )  # fmt: skip
    train_run(recipe, PretrainingTask.on(data))
    exported = export(tmp_path / "run", tmp_path / "model", form=Form(dtype="float32"))
    check_model(exported, Manifest.load(data))
    translate(data, exported, tmp_path)
    classify(exported, tmp_path, lines)


def check_shards(data: Path, tokenizer_dir: Path, lines: list[str]) -> None:
    """Sentences have the ids of transformers' tokenizer, but those with the names of special tokens no special id."""
    manifest, tokenizer = Manifest.load(data), AutoTokenizer.from_pretrained(tokenizer_dir)
    special = manifest.special
    assert (special.pad, special.mask) == (tokenizer.pad_token_id, tokenizer.mask_token_id)
    shards = [Shard(data / info.prefix) for info in [*manifest.mono["de"], *manifest.valid["mono"].get("de", [])]]
    found = {tuple(shard[i].tolist()) for shard in shards for i in range(len(shard))}
    ordinary = [line for line in lines if line not in SPECIAL_LINES]
    expected = {tuple(ids) for ids in tokenizer(ordinary, add_special_tokens=False)["input_ids"]}
    assert expected <= found and len(found) > len(expected)
    ids = np.concatenate([shard.tokens for shard in shards])
    assert special.are_ordinary(ids[~special.are_unknown(ids)]).all()


def check_model(directory: Path, manifest: Manifest) -> None:
    """It opens with its tokenizer, pads as this does, and positions begin behind that of padding."""
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(directory), open_tokenizer(directory)
    special = manifest.special
    config = model.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (special.pad, special.bos, special.eos)
    assert config.max_tokens == 90 - special.pad - 1 == tokenizer.model_max_length
    short, long = "der hund", "the big dog sleeps in the house"
    with torch.inference_mode():
        both = model(**tokenizer([short, long], padding=True, return_tensors="pt")).logits
        alone = model(**tokenizer(short, return_tensors="pt")).logits
    torch.testing.assert_close(both[:1, : alone.shape[1]], alone)


def translate(data: Path, model: Path, tmp_path: Path) -> None:
    """An update from shards and from files, and a translation."""
    files = {"train_source": str(tmp_path / "pairs.de"), "train_target": str(tmp_path / "pairs.en")}
    recipe = TranslationRecipe(
        output=str(tmp_path / "mt"), init_from=str(model), data=str(data), directions="de-en", max_length=40,
        valid_source=files["train_source"], valid_target=files["train_target"], steps=1, save_every=1, decoder_layers=1,
        **files, **RUN,
    )  # fmt: skip
    train_run(recipe, TranslationTask.of_run)
    translator = Translator.load(tmp_path / "mt" / LAST, SearchOptions(beam=1), target_language="en")
    special = Manifest.load(data).special
    (ids,) = translator.source_ids(["der hund [SEP]</s>"])
    assert (ids[0], ids[-1]) == (special.bos, special.eos)
    assert not {special.bos, special.pad, special.eos, special.mask} & {*ids[1:-1]}


def classify(model: Path, tmp_path: Path, lines: list[str]) -> None:
    """An epoch of a task on pairs of texts."""
    rows = [f"{'yes' if number % 2 else 'no'}\t{line}\t{line[::-1]}" for number, line in enumerate(lines[:16])]
    for split in ("train", "dev"):
        write_lines(tmp_path / f"{split}.tsv", rows)
    form = {"kind": "tsv", "label": 0, "text_a": 1, "text_b": 2}
    content = {"head": "sequence", "languages": ["de"], "files": {s: f"{s}.tsv" for s in ("train", "dev")}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**content, "format": form, "metrics": ["accuracy"]}))
    places = {"task": str(tmp_path / "task.yaml"), "data": str(tmp_path), "init_from": str(model)}
    fields = {**places, **RUN, "output": str(tmp_path / "task"), "max_length": 64, "batch_size": 8, "epochs": 1}
    train_run(build_recipe(UnderstandingRecipe, fields, None), UnderstandingTask.of_run)
    assert (tmp_path / "task" / LAST / "config.json").is_file()
