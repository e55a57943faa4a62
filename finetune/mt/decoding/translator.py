"""The translator of lines of text: tokenizer, batches and order around a sequence generator."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from langcodes import tag_is_valid
from transformers import PreTrainedTokenizerBase

from data_tools.text.languages import find_language, normal_form
from finetune.encoded_text import tokenizer_encoder
from finetune.mt.decoding.beam_search import Found, SearchOptions, TargetIds
from finetune.mt.decoding.generators import PairBatch, SequenceGenerator, SourceBatch, TorchGenerator
from finetune.mt.decoding.workers import Workers
from finetune.mt.special_tokens import Frame, known_ends
from veco import VecoForConditionalGeneration
from veco.convert.weights import open_strictly
from veco.opening import open_config
from veco.tokenizer import has_tokenizer, open_tokenizer

LANGUAGE_TAG = re.compile(r"__([\w-]+)__")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a sentence. Scores are in base 2, as fairseq prints them."""

    ids: list[int]  # pieces, then </s> or another end token; empty for an empty line
    pieces: str  # pieces without </s>, separated by spaces
    text: str  # detokenized
    positional_scores: list[float]  # log2 probability of each id, or empty if no scores were asked for
    score: float  # sum of positional_scores / len(ids) ** lenpen; 0 if there are none


EMPTY = Hypothesis([], "", "", [], 0.0)


class Translator:
    """A translation model with its tokenizer and search options, ready to translate lines.

    With several workers, each translates its share of the batches, and the first one gets all results; the batches are
    those of a single process, so the results are too.
    """

    def __init__(
        self,
        generator: SequenceGenerator,
        tokenizer: PreTrainedTokenizerBase,
        frame: Frame,
        options: SearchOptions,
        workers: Workers | None = None,
        own_language: str | None = None,
    ) -> None:
        self.generator = generator
        self.tokenizer = tokenizer
        self.frame = frame
        self.options = options
        self.workers = workers or Workers()
        self.own_language = own_language  # the only target language, of a model without tags
        # Counts so far:
        self.num_empty_lines = 0  # sources without pieces; their translations are empty
        self.num_cut_lines = 0  # sources and references truncated to the model's maximum length
        self.num_ended_lines = 0  # lines whose best translation has the maximum length
        self._encode = tokenizer_encoder(tokenizer)

    @classmethod
    def of_model(
        cls,
        model: VecoForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        options: SearchOptions,
        start: int,
        workers: Workers | None = None,
    ) -> Self:
        """The translator of a model in torch; `start` is the id that starts the decoder."""
        frame = Frame.of(model.config, tokenizer)
        target = target_ids(tokenizer, frame, start, model.config.vocab_size)
        generator = TorchGenerator(model, target, options, tokenizer.pad_token_id)
        return cls(generator, tokenizer, frame, options, workers, model.config.target_language)

    @classmethod
    def load(
        cls,
        path: Path,
        options: SearchOptions,
        dtype: torch.dtype = torch.float32,
        target_language: str | None = None,
        workers: Workers | None = None,
    ) -> Self:
        """The translator of a model directory, on this worker's GPU if there is one. See `check_model` for errors."""
        tokenizer, start = check_model(path, target_language)
        model = open_strictly(VecoForConditionalGeneration, path, dtype=dtype)
        model.to((workers or Workers()).device)
        return cls.of_model(model, tokenizer, options, start, workers)

    def translate(
        self, lines: Sequence[str], with_scores: bool = True, progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """At most `nbest` hypotheses of each line, best first, in the order of the lines; empty ones for blank lines.

        `progress` is called with the number of lines done since the last call. With several workers, only the first
        one has all results. Raises ValueError when a model's probabilities are NaN.
        """
        sources = self.source_ids(lines)
        sizes = np.asarray([len(source) for source in sources], dtype=np.int64)
        limits = np.asarray([self.longest(size) for size in sizes.tolist()], dtype=np.int64)
        (filled,) = (sizes > self.frame.num_source_ids).nonzero()
        self.num_empty_lines += len(lines) - len(filled)
        numbers = self.workers.share([filled[batch] for batch in self.generator.cut(sizes[filled], limits[filled])])
        batches = [SourceBatch([sources[i] for i in batch], limits[batch].tolist()) for batch in numbers]
        results = {}
        for batch, found in zip(numbers, self.generator.search(batches, with_scores), strict=True):
            for i, hypotheses in zip(batch.tolist(), found, strict=True):
                if not hypotheses:
                    raise ValueError(f"no translation of {lines[i]!r} has a probability: the model's weights are NaN")
                results[i] = [self.hypothesis(one) for one in hypotheses]
            if progress is not None:
                progress(len(batch) * self.workers.world_size)
        everything = self.workers.gathered(results)
        self.num_ended_lines += sum(len(found[0].ids) > limits[i] for i, found in everything.items())
        return [everything.get(i, [EMPTY] * self.options.nbest) for i in range(len(lines))]

    def score(
        self, lines: Sequence[str], references: Sequence[str], progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """The given translation of each line as its only hypothesis, with the model's score.

        Blank lines are scored like all others. See `translate` for `progress` and workers.
        """
        sources, targets = self.source_ids(lines), self.target_ids(references)
        sizes = np.asarray(
            [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)], dtype=np.int64
        )
        numbers = self.workers.share(self.generator.cut(sizes, np.zeros_like(sizes)))
        batches = [PairBatch([sources[i] for i in batch], [targets[i] for i in batch]) for batch in numbers]
        results = {}
        for batch, scores in zip(numbers, self.generator.score(batches), strict=True):
            for i, log_probs in zip(batch.tolist(), scores, strict=True):
                results[i] = [self.hypothesis(Found(targets[i], log_probs))]
            if progress is not None:
                progress(len(batch) * self.workers.world_size)
        everything = self.workers.gathered(results)
        return [everything.get(i, [EMPTY]) for i in range(len(lines))]

    def longest(self, size: int) -> int:
        """Maximum length in pieces of the translation of a source of `size` ids, special ones included."""
        return self.options.max_pieces(size, self.generator.max_tokens)

    @property
    def target_language(self) -> str:
        """The model's only one, or else the language of the tag that starts the decoder; empty if unknown."""
        if self.own_language is not None:
            return self.own_language
        match = LANGUAGE_TAG.fullmatch(self.tokenizer.convert_ids_to_tokens(self.generator.target.start))
        return match[1] if match else ""

    def source_ids(self, lines: Sequence[str]) -> list[list[int]]:
        """Each line as the model reads it, such as `<s> x1 … xn </s>`, truncated to the maximum length (counted)."""
        return [self.frame.source(ids) for ids in self._pieces(lines, self.frame.num_source_ids)]

    def target_ids(self, lines: Sequence[str]) -> list[list[int]]:
        """Each line as the model predicts it, such as `y1 … ym </s>`, truncated to the maximum length (counted)."""
        return [self.frame.target(ids) for ids in self._pieces(lines, self.frame.num_target_ids)]

    def hypothesis(self, found: Found) -> Hypothesis:
        """A hypothesis of the search, as text and with scores in base 2."""
        # If a tag ends translations, the search may choose </s> before it; fairseq does not print that either.
        pieces = [i for i in self.frame.pieces(found.ids) if i != known_ends(self.tokenizer)[1]]
        return Hypothesis(
            ids=found.ids,
            pieces=self.as_pieces(pieces),
            text=self.as_text(pieces),
            positional_scores=[log_prob / math.log(2) for log_prob in found.log_probs],
            score=found.score(self.options.lenpen) / math.log(2),
        )

    def as_pieces(self, ids: Sequence[int]) -> str:
        """The pieces of ids, separated by spaces."""
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(ids)))

    def as_text(self, ids: Sequence[int]) -> str:
        """The text of ids. Unknown pieces remain visible as `<unk>`, as in fairseq."""
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return " ".join(text.split("\n")).strip()

    def source_as_pieces(self, line: str) -> str:
        """The pieces of a source, separated by spaces, with the tag of its language if the model reads one."""
        hidden = known_ends(self.tokenizer)
        return self.as_pieces([i for i in self.frame.source(list(self._encode([line])[0])) if i not in hidden])

    def reference(self, line: str, as_text: bool) -> str:
        """A reference as the model sees it, as pieces separated by spaces or as text.

        Unknown pieces are written `<<unk>>`, as in fairseq, so that they do not match unknown pieces of a translation.
        """
        pieces = list(self._encode([line])[0])
        seen = self.as_text(pieces) if as_text else self.as_pieces(pieces)
        unknown = self.tokenizer.unk_token
        return seen.replace(unknown, f"<{unknown}>") if unknown else seen

    def _pieces(self, lines: Sequence[str], num_specials: int) -> list[list[int]]:
        longest = self.generator.max_tokens - num_specials
        encoded = [list(ids) for ids in self._encode(list(lines))] if lines else []
        self.num_cut_lines += sum(len(ids) > longest for ids in encoded)
        return [ids[:longest] for ids in encoded]


def check_model(path: Path, target_language: str | None) -> tuple[PreTrainedTokenizerBase, int]:
    """The tokenizer of a model directory, and the id that starts its decoder.

    Raises ValueError if the directory has no translation model, or a tokenizer that does not match it.
    """
    if not (path / "config.json").is_file():
        raise ValueError(f"{path}: no config.json; expected a model directory of finetune.mt (train or average)")
    if (path / "model.bin").is_file():
        raise ValueError(f"{path}: exported to CTranslate2; translate with --engine ct2")
    config = open_config(path)
    wanted = VecoForConditionalGeneration.__name__
    if wanted not in (config.architectures or []):
        # transformers would load it all the same, with a randomly initialised decoder.
        found = ", ".join(config.architectures or ["an unknown architecture"])
        raise ValueError(f"{path}: holds {found}, expected {wanted}; fine-tune it with finetune/mt/train.py first")
    ids = {"bos": config.bos_token_id, "pad": config.pad_token_id, "eos": config.eos_token_id}
    tokenizer = matching_tokenizer(path, config.vocab_size, ids, config.decoder_start_token_id)
    start = decoder_start_id(tokenizer, config.decoder_start_token_id, target_language, path, config.target_language)
    return tokenizer, start


def matching_tokenizer(
    path: Path, vocab_size: int, special_ids: dict[str, int], start: int | None
) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's directory. Raises ValueError if there is none, or it belongs to another model.

    `special_ids` are the model's bos, pad and eos ids, if it knows them.
    """
    if not has_tokenizer(path):
        raise ValueError(f"{path}: no tokenizer (tokenizer.json or sentencepiece.bpe.model) beside the model")
    tokenizer = open_tokenizer(path)
    bos, eos = known_ends(tokenizer)
    all_theirs = {"bos": bos, "pad": tokenizer.pad_token_id, "eos": eos}
    theirs = {name: all_theirs[name] for name in special_ids}
    mismatch = ""
    if len(tokenizer) > vocab_size:
        mismatch = f"the tokenizer has {len(tokenizer):,} pieces but the model {vocab_size:,}"
    elif theirs != special_ids:
        mismatch = f"special tokens of the tokenizer are {theirs} but the model's {special_ids}"
    elif start is not None and start >= len(tokenizer):
        mismatch = f"the model's decoder starts with id {start:,} but the tokenizer has {len(tokenizer):,} pieces"
    if mismatch:
        raise ValueError(f"{path}: {mismatch}: they do not belong together")
    return tokenizer


def decoder_start_id(
    tokenizer: PreTrainedTokenizerBase,
    configured: int | None,
    language: str | None,
    path: Path,
    own_language: str | None = None,
) -> int:
    """The id that starts the decoder: the tag of `language`, or the configured id if `language` is None.

    `own_language` is the only target language of a model without tags, if it is known. Raises ValueError for a language
    that the model does not translate into, and for a model without a start id.
    """
    languages = target_languages(tokenizer)
    known = ", ".join(languages) or "none"
    if configured is None and not languages:
        raise ValueError(
            f"{path}: neither a start token in config.json (decoder_start_token_id) nor a tag in the tokenizer: the "
            "form of its sentences is not set; convert it again: python -m veco.convert fairseq … --dictionary "
            "dict.txt --set task=… source_lang=… target_lang=…"
        )
    if language is None:
        if configured is None:
            raise ValueError(f"{path}: a model of several directions; name the --target-language, one of {known}")
        return configured
    if own_language is not None and configured is not None:
        if find_language(language, [own_language]) is None:
            raise ValueError(f"--target-language {language}: {path} translates into {own_language} and nothing else")
        return configured
    if (found := find_language(language, languages)) is None:
        raise ValueError(f"{path}: no tag __{language}__ in the tokenizer; target languages it has: {known}")
    return int(tokenizer.convert_tokens_to_ids(f"__{found}__"))


def target_languages(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The languages that a tokenizer has tags for, as spelt in the tags."""
    matches = map(LANGUAGE_TAG.fullmatch, tokenizer.all_special_tokens)
    # A source tag, such as __bt__, looks like a target tag but is not a language.
    return sorted(match[1] for match in matches if match and tag_is_valid(match[1]))


def tag_of(tokenizer: PreTrainedTokenizerBase, language: str) -> str:
    """The tag that starts the decoder for a language in training: an existing one of the tokenizer, or else a new one.

    An existing tag may have another spelling, __zh__ for zho_Hans, but not another territory.
    """
    same = [known for known in target_languages(tokenizer) if normal_form(known) == normal_form(language)]
    if not same or language in same:
        return f"__{language}__"
    return f"__{same[0]}__"


def target_ids(tokenizer: PreTrainedTokenizerBase, frame: Frame, start: int, vocab_size: int) -> TargetIds:
    """The target ids that the search treats specially."""
    kept = {*frame.target_suffix, tokenizer.unk_token_id}
    special = [i for i in tokenizer.all_special_ids if i not in kept]
    # A model may have more rows than there are pieces.
    forbidden = sorted({*special, *range(len(tokenizer), vocab_size)})
    return TargetIds(start, frame.end, tokenizer.unk_token_id, forbidden)
