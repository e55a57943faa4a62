"""The shards of a task without its duplicates."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.batches import ends_after
from data_tools.deduplicate.encoded import SPLITS, EncodedTask, sentence_blocks
from data_tools.deduplicate.exact import duplicate_units
from data_tools.deduplicate.minhash import near_duplicate_units
from data_tools.deduplicate.settings import Deduplication
from data_tools.shards import Shard, ShardInfo, ShardWriter

BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Rewritten:
    """The shards of a task by split, {language: info} with prefixes such as `train/00000.de` inside its new directory.

    `dropped` counts units by reason; `words` counts, by language and over both splits, the pieces that start a word.
    """

    shards: dict[str, list[dict[str, ShardInfo]]]
    dropped: dict[str, int]
    words: dict[str, int]


def rewrite_task(
    task: EncodedTask, work: Path, settings: Deduplication, num_buckets: int, output: Path, starts_word: np.ndarray
) -> Rewritten:
    """What was written: `output/train` and `output/valid`, from nothing, with the shards of a task without duplicates.

    `work` is where the stages before wrote, `num_buckets` how many there were of find_duplicates. `starts_word`
    (vocabulary,) says of each id whether a word starts with it. Documents without a unit vanish, and so do shards,
    whose numbers close up. All units of a near-duplicate document count as that, also those that stand elsewhere.
    """
    duplicates = duplicate_units(task, work, num_buckets) if settings.exact else {}
    near_duplicates = near_duplicate_units(task, work) if settings.minhash_of(task.languages) else {}
    shards: dict[str, list[dict[str, ShardInfo]]] = {split: [] for split in SPLITS}
    dropped: Counter[str] = Counter()
    words = dict.fromkeys(task.languages, 0)
    for split in SPLITS:
        shutil.rmtree(output / split, ignore_errors=True)
    for split, number in task.numbers():
        sides = task.shards(split, number)
        none = np.zeros(len(sides[0]), dtype=bool)
        duplicate = duplicates.get((split, number), none)
        near_duplicate = near_duplicates.get((split, number), none)
        kept = ~(duplicate | near_duplicate)
        dropped["duplicate"] += int(np.count_nonzero(duplicate))
        dropped["near_duplicate"] += int(np.count_nonzero(near_duplicate))
        if kept.any():
            infos = {}
            for language, suffix, shard in zip(task.languages, task.suffixes, sides, strict=True):
                prefix = f"{split}/{len(shards[split]):05d}{suffix}"
                infos[language], num_words = _copy(shard, kept, output, prefix, starts_word)
                words[language] += num_words
            shards[split].append(infos)
    return Rewritten(shards, dict(+dropped), words)


def _copy(shard: Shard, kept: np.ndarray, output: Path, prefix: str, starts_word: np.ndarray) -> tuple[ShardInfo, int]:
    """(info, number of words) of `output/prefix`, to which the sentences with `kept` (n,) true were copied."""
    document_ends = ends_after(shard.documents[1:], kept)
    num_written = num_words = 0
    with ShardWriter(output / prefix, len(starts_word)) as writer:
        for sentences, block in sentence_blocks(shard.lengths, BLOCK_TOKENS):
            lengths, stays = shard.lengths[sentences], kept[sentences]
            ids = shard.tokens[block][np.repeat(stays, lengths)]
            end = num_written + int(np.count_nonzero(stays))
            first, last = np.searchsorted(document_ends, [num_written, end], side="right")
            writer.add_sequences(ids, lengths[stays], document_ends[first:last] - num_written)
            num_words += int(np.count_nonzero(starts_word[ids]))
            num_written = end
    return writer.info(prefix), num_words
