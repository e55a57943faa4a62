"""Speed of fine-tuning: our loop on VECO, plugged out, against transformers' Trainer on XLM-R of the same size.

    python benchmarks/xtreme.py finetune            6 layers x 384, bfloat16 (minutes)
    python benchmarks/xtreme.py finetune --quick    tiny shapes, to check that it runs (seconds)

Both train a classifier of sentence pairs on the same rows of random ids, with lengths distributed like XNLI's, with the
same batch size, dropout and AdamW, in one process and with autocast to bfloat16. Both loops are complete: batches,
padding, loss, clipping, schedule. The Trainer runs twice: by default, with batches in random order, and sorted by
length (`group_by_length`); its time excludes its start. Speeds are medians of repeats in turn, in rows per second. A
ratio is ours / theirs: above 1, ours is faster. Run it on an idle machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from finetune.encoded_text import Sentences
from finetune.understanding.heads.classification import Classification
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import MicroBatches, UpdateBatches
from finetune.understanding.rows.token_rows import TokenRows
from training.engine.plain_engine import PlainEngine
from training.guards import Guards
from training.launch import quiet_libraries
from training.loop import Hooks, fit
from training.meters import Meters
from training.recipe.ds_config import read_ds_config
from training.step import Batch
from training.task import Trainable
from veco import VecoConfig, VecoForSequenceClassification

PAD = 1
LABELS = ("a", "b", "c")


@dataclass(frozen=True)
class Sizes:
    """Shapes of all measurements."""

    num_hidden_layers: int = 6
    hidden_size: int = 384
    intermediate_size: int = 1536
    num_attention_heads: int = 6
    vocab_size: int = 32_000
    rows: int = 4000
    batch_size: int = 32
    updates: int = 10
    repeats: int = 5

    def shape(self) -> dict[str, int]:
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
        return {name: vars(self)[name] for name in names}


QUICK = Sizes(
    num_hidden_layers=1,
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=2,
    vocab_size=500,
    rows=200,
    batch_size=8,
    updates=2,
    repeats=1,
)


class Dictionaries(Dataset):
    """The rows in the Trainer's form."""

    def __init__(self, rows: TokenRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, list[int] | int]:
        ids = self.rows.tokens[number].tolist()
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "labels": int(self.rows.row_targets["labels"][number]),
        }


class Padding:
    """The part of a tokenizer that DataCollatorWithPadding uses."""

    def pad(self, features: list[dict[str, list[int]]], **options: object) -> dict[str, torch.Tensor]:
        width = max(len(feature["input_ids"]) for feature in features)
        fillers = {"input_ids": PAD, "attention_mask": 0}
        batch = {
            name: torch.tensor([feature[name] + [filler] * (width - len(feature[name])) for feature in features])
            for name, filler in fillers.items()
        }
        return {**batch, "labels": torch.tensor([feature["labels"] for feature in features])}


def random_rows(sizes: Sizes) -> TokenRows:
    """TokenRows of ids with lengths like XNLI's: 7 to 128 tokens, with a median of about 40."""
    drawn = np.random.default_rng(1)
    lengths = np.clip(drawn.gamma(4.0, 11.0, sizes.rows), 7, 128).astype(int)
    tokens = Sentences.of(drawn.integers(4, sizes.vocab_size - 1, length) for length in lengths)
    return TokenRows(tokens, np.arange(sizes.rows), {"labels": drawn.integers(0, len(LABELS), sizes.rows)})


class Clock(TrainerCallback):
    """Seconds from the start of the Trainer's first update to the end of its last."""

    def __init__(self) -> None:
        self.started = self.seconds = 0.0

    def on_train_begin(self, *arguments: object, **options: object) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *arguments: object, **options: object) -> None:
        self.seconds = time.perf_counter() - self.started


class OneSided(Trainable):
    """Rows without a pair, for one process."""

    fingerprint = ""

    def __init__(self, rows: TokenRows, batch_size: int) -> None:
        self.rows = PairedRows.alone(rows)
        self.updates = UpdateBatches(self.rows.sizes, batch_size, 1)
        self.head = Classification(LABELS, max_length=128)

    def batches(self, rank: int, world_size: int) -> Dataset:
        return MicroBatches(self.rows, self.updates, 1, rank, world_size, PAD)

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        return {"xnli": self.head.loss(self.head.labelled(model, batch)) * len(batch["labels"]) / num_items[0]}

    def count_items(self, batch: Batch) -> Tensor:
        return torch.tensor([len(batch["labels"])])


def our_loop(sizes: Sizes, rows: TokenRows, directory: Path) -> Callable[[], float]:
    """A function that makes `sizes.updates` updates, more of the same run with each call, and gives their seconds."""
    config = VecoConfig(**sizes.shape(), num_labels=len(LABELS))
    model = VecoForSequenceClassification(config).train()
    trainable = OneSided(rows, sizes.batch_size)
    recipe = UnderstandingRecipe(
        task="xnli", data="-", init_from="-", output=str(directory), engine="plain", save_every=10**9, loader_workers=0
    )
    engine = PlainEngine(model, recipe, lambda step: 1.0, read_ds_config("zero1_bf16.json"))
    state = {"done": 0}

    def run() -> float:
        started = time.perf_counter()
        start = state["done"]
        state["done"] += sizes.updates
        fit(
            engine,
            recipe,
            trainable,
            range(start, state["done"]),
            hooks=Hooks(save=lambda step: None),
            meters=Meters(directory, 10**9, start, state["done"], enabled=False),
            guards=Guards(recipe),
        )
        return time.perf_counter() - started

    return run


def their_loop(sizes: Sizes, rows: TokenRows, directory: Path, group_by_length: bool) -> Callable[[], float]:
    """The same for the Trainer."""
    shape = {**sizes.shape(), "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": PAD}
    model = XLMRobertaForSequenceClassification(XLMRobertaConfig(**shape, num_labels=len(LABELS)))
    order = {"train_sampling_strategy": "group_by_length"} if group_by_length else {}
    arguments = TrainingArguments(
        output_dir=str(directory / "trainer"),
        max_steps=sizes.updates,
        per_device_train_batch_size=sizes.batch_size,
        learning_rate=1e-5,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **order,
    )
    collator = DataCollatorWithPadding(Padding())
    clock = Clock()
    dataset = Dictionaries(rows)
    trainer = Trainer(model, arguments, data_collator=collator, train_dataset=dataset, callbacks=[clock])

    def run() -> float:
        trainer.train()
        return clock.seconds

    return run


def medians(functions: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each function: each is called once to warm up, then all in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            taken = function()
            if turn:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_finetuning(sizes: Sizes) -> None:
    """Print rows per second of each loop."""
    quiet_libraries()
    rows = random_rows(sizes)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        seconds = medians(
            {
                "ours": our_loop(sizes, rows, directory),
                "Trainer, group_by_length": their_loop(sizes, rows, directory, group_by_length=True),
                "Trainer as it is": their_loop(sizes, rows, directory, group_by_length=False),
            },
            sizes.repeats,
        )
    print("| loop | rows/s | ours / theirs |\n|---|---|---|")
    for loop, taken in seconds.items():
        print(f"| {loop} | {sizes.updates * sizes.batch_size / taken:.1f} | {taken / seconds['ours']:.2f} |")
