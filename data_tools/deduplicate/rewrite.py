"""Rewriting the shards of a task without its duplicates."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.deduplicate.encoded import SPLITS, EncodedTask, sentence_blocks
from data_tools.deduplicate.exact import duplicate_units
from data_tools.deduplicate.minhash import near_duplicate_units
from data_tools.deduplicate.settings import Deduplication
from data_tools.shards.format import Shard, ShardInfo, ShardWriter
from data_tools.stages.text_batches import TokenSide, ends_after
from data_tools.tokenizers.piece_table import PieceTable
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import Unknown

BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Rewritten:
    """The rewritten shards by split, {language: info} with prefixes such as `train/00000.de` inside the new directory.

    `dropped` counts units by reason. `words` counts the pieces that begin a word and `unknown` the unknown ones, by
    language, in both splits of what was written.
    """

    shards: dict[str, list[dict[str, ShardInfo]]]
    dropped: dict[str, int]
    words: dict[str, int]
    unknown: dict[str, Unknown]


def rewrite_task(
    task: EncodedTask,
    work: Path,
    settings: Deduplication,
    num_buckets: int,
    output: Path,
    table: PieceTable,
    special: SpecialIds,
) -> Rewritten:
    """Write the shards of a task without its duplicates to `output/train` and `output/valid`, made again.

    `work` is the directory of the earlier stages, `num_buckets` the number of buckets of find_duplicates, `table` and
    `special` those of the tokenizer. Documents and shards left without units vanish, and the later shards are
    renumbered. All units of a near-duplicate document count as such, even those that also occur elsewhere.
    """
    duplicates = duplicate_units(task, work, num_buckets) if settings.exact else {}
    near_duplicates = near_duplicate_units(task, work) if settings.minhash_of(task.languages) else {}
    shards: dict[str, list[dict[str, ShardInfo]]] = {split: [] for split in SPLITS}
    dropped: Counter[str] = Counter()
    words = dict.fromkeys(task.languages, 0)
    unknown = dict.fromkeys(task.languages, Unknown())
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
            records = task.records(split, number)
            for language, suffix, shard, of_side in zip(task.languages, task.suffixes, sides, records, strict=True):
                prefix = f"{split}/{len(shards[split]):05d}{suffix}"
                infos[language], num_words, unknown_of_side = _copy(
                    shard, of_side, kept, output, prefix, table, special
                )
                words[language] += num_words
                unknown[language] += unknown_of_side
            shards[split].append(infos)
    return Rewritten(shards, dict(+dropped), words, unknown)


def _copy(
    shard: Shard,
    records: np.ndarray,
    kept: np.ndarray,
    output: Path,
    prefix: str,
    table: PieceTable,
    special: SpecialIds,
) -> tuple[ShardInfo, int, Unknown]:
    """Copy the sentences whose `kept` (n,) is true to `output/prefix`; returns (info, number of words, unknown pieces).

    `records` (RECORD) are those of the shard's unknown pieces.
    """
    document_ends = ends_after(shard.documents[1:], kept)
    num_written = num_records = num_words = 0
    unknown = Unknown()
    with ShardWriter(output / prefix, table.vocab_size) as writer:
        for sentences, block in sentence_blocks(shard.lengths, BLOCK_TOKENS):
            ids = shard.tokens[block]
            of_block = slice(num_records, num_records + int(np.count_nonzero(special.are_unknown(ids))))
            side = TokenSide(ids, shard.lengths[sentences], special, records[of_block]).keep(kept[sentences])
            num_records = of_block.stop
            end = num_written + len(side.lengths)
            first, last = np.searchsorted(document_ends, [num_written, end], side="right")
            writer.add_sequences(side.ids, side.lengths, document_ends[first:last] - num_written)
            num_words += table.num_words(side.ids, len(side.lengths))
            unknown += table.unknown(side.ids, side.unknown)
            num_written = end
    return writer.info(prefix), num_words, unknown
