"""The stages that make a data directory, composed of steps.

encode      one task per part of the text writes its shards to DATA/.work
…           deduplication, if the corpus asks for it: data_tools.deduplicate.steps
finish      the shards are renamed into place, and the manifest is written
"""

import os
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.cli import first_of
from data_tools.corpus.configuration import Corpus
from data_tools.deduplicate.steps import deduplication_stages
from data_tools.files.atomic import sync_directory
from data_tools.shards.format import ShardInfo, shard_path
from data_tools.shards.manifest import MANIFEST_NAME, MANIFEST_VERSION, Manifest, SplitShards
from data_tools.stages.encoding_steps import (
    BATCH_CHARACTERS,
    EncodeText,
    FilterText,
    FilterTokens,
    HoldOut,
    ReadText,
    WriteShards,
    read_progress,
)
from data_tools.stages.executors import Stage
from data_tools.stages.plan import LOGS_NAME, TOKENIZER_NAME, WORK_NAME, Plan, TaskResult
from data_tools.stages.plan_step import PlanStep
from data_tools.tokenizers.encoder import open_encoder
from data_tools.tokenizers.unknown_pieces import Unknown


def make_stages(plan: Plan, corpus: Corpus, shard_tokens: int) -> list[Stage]:
    """The stages that make the data directory of a plan, in order."""
    deduplication = deduplication_stages(plan, corpus.deduplication)
    finish = Stage("finish", [Finish(plan, is_deduplicated=bool(deduplication))], num_tasks=1)
    return [encode_stage(plan, corpus, shard_tokens), *deduplication, finish]


def encode_stage(plan: Plan, corpus: Corpus, shard_tokens: int) -> Stage:
    """The stage that turns text into shards, with one task per part of the text."""
    steps: list[PlanStep] = [
        ReadText(plan, min(BATCH_CHARACTERS, shard_tokens)),
        *([HoldOut(plan, corpus.valid)] if corpus.valid else []),
        FilterText(plan, corpus.filters),
        EncodeText(plan),
        FilterTokens(plan, corpus.filters),
        WriteShards(plan, shard_tokens),
    ]
    num_bytes = [task.num_bytes for task in plan.tasks]
    return Stage("encode", steps, len(plan.tasks), num_bytes=num_bytes, bytes_read=partial(bytes_read, plan))


def bytes_read(plan: Plan, rank: int) -> int:
    """The bytes of its input that a running task of the first stage has read."""
    return read_progress(plan.directory(plan.tasks[rank]))


class Finish(PlanStep):
    """Renames the shards of all tasks into place and writes the manifest; can be repeated after a kill."""

    name = "finish"

    def __init__(self, plan: Plan, is_deduplicated: bool) -> None:
        super().__init__(plan)
        self.is_deduplicated = is_deduplicated

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Finish the directory, unless that is done; raises ValueError for a language without sentences."""
        if not (self.output / MANIFEST_NAME).exists():
            finish(self.plan, self.is_deduplicated)


def finish(plan: Plan, is_deduplicated: bool) -> None:
    """Rename the shards of all tasks into place and write the manifest; raises ValueError as `Finish.run` does."""
    directory_of = plan.deduplicated_directory if is_deduplicated else plan.directory
    directories = [directory_of(task) for task in plan.tasks]
    results = [TaskResult.load(directory) for directory in directories]
    dropped: dict[str, Counter[str]] = {name: Counter() for name in plan.names}
    words: dict[str, Counter[str]] = {name: Counter() for name in plan.names}
    unknown: dict[str, dict[str, Unknown]] = {name: {} for name in plan.names}
    train: dict[str, list[dict[str, ShardInfo]]] = {name: [] for name in plan.names}
    valid: dict[str, list[dict[str, ShardInfo]]] = {name: [] for name in plan.names}
    moves: list[tuple[Path, Path]] = []
    for task, directory, result in zip(plan.tasks, directories, results, strict=True):
        name = task.name
        dropped[name].update(result.dropped)
        words[name].update(result.words)
        for language, of_task in result.unknown.items():
            unknown[name][language] = unknown[name].get(language, Unknown()) + of_task
        for folder, found, shards in ((name, result.train, train), (f"valid/{name}", result.valid, valid)):
            for sides in found:
                renamed = {}
                for language, info in sides.items():
                    side = f".{language}" if len(sides) > 1 else ""
                    prefix = f"{folder}/{len(shards[name]):05d}{side}"
                    moves.append((directory / info.prefix, plan.output / prefix))
                    renamed[language] = replace(info, prefix=prefix)
                shards[name].append(renamed)
    if problems := [nothing_in(plan, name, dropped[name], valid[name]) for name in plan.names if not train[name]]:
        raise ValueError("; ".join(problems))
    rename_shards(moves)
    encoder = open_encoder(plan.output / TOKENIZER_NAME)
    Manifest(
        version=MANIFEST_VERSION,
        tokenizer_sha256=encoder.tokenizer_sha256,
        vocab_size=encoder.vocab_size,
        **split_of(train),
        valid=split_of(valid),
        dropped={name: dict(counts) for name, counts in dropped.items() if counts},
        words={name: dict(counts) for name, counts in words.items()},
        unknown=unknown,
        special_ids=encoder.special.unless_xlm_r(encoder.vocab_size),
    ).save(plan.output)


def nothing_in(plan: Plan, name: str, dropped: Counter[str], valid: list[dict[str, ShardInfo]]) -> str:
    """The message for a language or pair that has nothing to train on."""
    inputs = [part.input for task in plan.tasks if task.name == name for part in task.parts]
    sources = list(dict.fromkeys(path for item in inputs for path in item.paths))
    reasons = [f"{count:,} {reason}" for reason, count in sorted(dropped.items())]
    if valid:
        reasons.append(f"{sum(next(iter(sides.values())).num_sequences for sides in valid):,} held out")
    why = f" (dropped: {', '.join(reasons)})" if reasons else ""
    return f"{name}: no sentences to train on in {first_of(sources)}{why}; remove the language or give it more text"


def rename_shards(moves: list[tuple[Path, Path]]) -> None:
    """Rename both files of each (from, to), except those that an earlier, killed run has already renamed."""
    for target in {target.parent for _, target in moves}:
        target.mkdir(parents=True, exist_ok=True)
    for source, target in moves:
        for suffix in ("bin", "idx"):
            if shard_path(source, suffix).exists():
                os.replace(shard_path(source, suffix), shard_path(target, suffix))
            elif not shard_path(target, suffix).exists():
                raise ValueError(f"{shard_path(target, suffix)}: is missing; remove the directory and prepare again")
    for target in {target.parent for _, target in moves}:
        sync_directory(target)


def split_of(shards: dict[str, list[dict[str, ShardInfo]]]) -> SplitShards:
    """The shards by language and by pair, from those by name; names without shards are dropped."""
    split: SplitShards = {"mono": {}, "parallel": {}}
    for name, infos in shards.items():
        kind, _, key = name.partition("/")
        if infos and kind == "mono":
            split["mono"][key] = [sides[key] for sides in infos]
        elif infos:
            split["parallel"][key] = infos
    return split


def remove_work(output: Path) -> None:
    """Remove the intermediate files and logs of a data directory."""
    for name in (WORK_NAME, LOGS_NAME):
        shutil.rmtree(output / name, ignore_errors=True)
