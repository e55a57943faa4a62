"""What the commands of `python -m veco.vocabulary` do with a model, given their flags."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from transformers import PreTrainedModel

from veco.vocabulary.agreement import States, first_lines
from veco.vocabulary.changing import change_vocabulary, check_change, copying, focusing, ranking
from veco.vocabulary.cutting import cut_vocabulary
from veco.vocabulary.extending import extend_vocabulary, extensible, read_pieces
from veco.vocabulary.focus import FastTextSettings, focus_weights, train_vectors
from veco.vocabulary.model_directory import check_fits
from veco.vocabulary.new_pieces import lacking_pieces, most_useful
from veco.vocabulary.pieces import Pieces, ordinary_matches
from veco.vocabulary.report import Overlap, Report, RowCounts, Side
from veco.vocabulary.rows import draw_initial, draw_like_rows
from veco.vocabulary.text import Counts, check_counts, count_ids, count_shards, frequencies
from veco.vocabulary.xlm_r_layout import XlmRVocabulary

Command = Callable[[argparse.Namespace, PreTrainedModel, Path], Report]


def cut(arguments: argparse.Namespace, model: PreTrainedModel, directory: Path) -> Report:
    """Run `cut`; the tokenizer is written to `directory`."""
    check_fits(XlmRVocabulary(arguments.source), model, arguments.source)
    old = Pieces.open(arguments.source)
    files = [path for path in arguments.text if not path.is_dir()]
    counts, lines = counts_of(old, files), first_lines(arguments.text, old)
    before, states = Side.of(old, model, counts), States.of(model, old, lines) if lines else None
    of_ids = np.zeros(len(old), np.int64) if counts is None else counts.of_ids
    for directory_of_shards in set(arguments.text).difference(files):
        of_ids = of_ids + count_shards(old, directory_of_shards)
    check_counts(old, of_ids, arguments.text)
    used = (of_ids >= arguments.min_count).nonzero()[0].tolist()
    keep_characters = not arguments.drop_characters
    cut_vocabulary(model, arguments.source, used, directory, arguments.keep, arguments.tokens, keep_characters)
    new = Pieces.open(directory)
    after = Side.of(new, model, counts_of(new, files))
    agreement = None if states is None else states.agreement(States.of(model, new, lines))
    return Report(before, after, agreement=agreement)


def extend(arguments: argparse.Namespace, model: PreTrainedModel, directory: Path) -> Report:
    """Run `extend`; the tokenizer is written to `directory`."""
    vocabulary, old = extensible(arguments.source), Pieces.open(arguments.source)
    check_fits(vocabulary, model, arguments.source)
    before = Side.of(old, model, counts_of(old, arguments.text))
    pieces: dict[str, float | None] = read_pieces(arguments.pieces) if arguments.pieces else {}
    weights = None
    if arguments.from_tokenizer:
        other = Pieces.open(arguments.from_tokenizer)
        new = lacking_pieces(old, other, vocabulary)
        if arguments.num_pieces is not None:
            new = most_useful(new, arguments.num_pieces, old, other, vocabulary, arguments.text)
        pieces = dict.fromkeys(new)
        if arguments.rows == "focus":
            vectors = train_vectors(other, arguments.text, fasttext_settings(arguments))
            ids = np.array(list(new.values()), np.int64)
            weights = csr_array(focus_weights(vectors, ids, ordinary_matches(old, other), len(old))[ids])
    if arguments.rows == "mean":
        weights = csr_array((len(pieces), len(old)), dtype=np.float32)
    extend_vocabulary(model, arguments.source, directory, pieces, arguments.tokens, arguments.seed, weights)
    extended = Pieces.open(directory)
    return Report(before, Side.of(extended, model, counts_of(extended, arguments.text)))


def change(arguments: argparse.Namespace, model: PreTrainedModel, directory: Path) -> Report:
    """Run `change`; the tokenizer is written to `directory`."""
    old, new = Pieces.open(arguments.source), Pieces.open(arguments.tokenizer)
    check_change(model, old, new)
    counts = counts_of(new, arguments.text)
    before = Side.of(old, model, counts_of(old, arguments.text))
    start = time.monotonic()
    same = ordinary_matches(old, new, is_fuzzy=arguments.match == "fuzzy")
    weights = weights_by(arguments, old, new, counts, same)
    seconds = time.monotonic() - start
    draw = draw_initial(model.config.initializer_range) if arguments.by == "random" else draw_like_rows
    change_vocabulary(model, old, new, weights, directory, draw, arguments.seed)
    overlap = Overlap(len(same), len(same) / len(new.ordinary), None if counts is None else counts.share(list(same)))
    after = Side.of(new, model, counts)
    return Report(before, after, overlap, RowCounts.of(weights), seconds)


def weights_by(
    arguments: argparse.Namespace, old: Pieces, new: Pieces, counts: Counts | None, same: dict[int, int]
) -> csr_array:
    """The weights (V new, V old) of the chosen method, given counts of the new pieces and those that are the same."""
    if arguments.by == "focus":
        return focusing(old, new, train_vectors(new, arguments.text, fasttext_settings(arguments)), same)
    kept = same if arguments.keep_overlap else {}
    if arguments.by == "rank":
        assert counts is not None, "the command line needs --text"
        old_counts = frequencies(old, arguments.source_text)
        check_counts(old, old_counts, arguments.source_text)
        check_counts(new, counts.of_ids, arguments.text)
        return ranking(old, new, old_counts, counts.of_ids, kept)
    return copying(old, new, kept)


def counts_of(pieces: Pieces, text: list[Path]) -> Counts | None:
    """Counts of a tokenizer's pieces in text files, None without any."""
    return count_ids(pieces, text) if text else None


def fasttext_settings(arguments: argparse.Namespace) -> FastTextSettings:
    """The settings that flags give."""
    defaults = FastTextSettings()
    return FastTextSettings(
        min_count=defaults.min_count if arguments.min_count is None else arguments.min_count,
        num_threads=defaults.num_threads if arguments.threads is None else arguments.threads,
    )


COMMANDS: dict[str, Command] = {"cut": cut, "extend": extend, "change": change}
