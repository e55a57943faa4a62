"""Lines of text in, scored translations out: tokenizer, order and batches around a sequence generator."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from langcodes import tag_is_valid
from transformers import AutoConfig, AutoTokenizer

from data_tools.text.languages import find_language, normal_form
from finetune.encoded_text import tokenizer_encoder
from finetune.mt.decoding.beam_search import Found, SearchOptions, TargetIds
from finetune.mt.decoding.generators import PairBatch, SequenceGenerator, SourceBatch, TorchGenerator
from finetune.mt.decoding.workers import Workers
from finetune.mt.frame import Frame
from veco import VecoForConditionalGeneration
from veco.tokenizer import has_tokenizer

LANGUAGE_TAG = re.compile(r"__([\w-]+)__")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a sentence. Scores are in base 2, as fairseq prints them."""

    ids: list[int]  # pieces, then </s> or what else ends a translation; empty for an empty line
    pieces: str  # pieces without </s>, between spaces
    text: str  # detokenized
    positional_scores: list[float]  # log2 probability of each id, or empty if no scores were asked for
    score: float  # sum of positional_scores / len(ids) ** lenpen; 0 if there are none


NOTHING = Hypothesis([], "", "", [], 0.0)


class Translator:
    """A translation model, its tokenizer and how to search, ready to translate lines.

    Among several ranks each translates its share of the batches, and the first one gets all results; the batches are
    those of a single process, so the results are too.
    """

    def __init__(
        self,
        generator: SequenceGenerator,
        tokenizer: Any,
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
        self.own_language = own_language  # the only one that it translates into, where no tag says so
        self.num_empty_lines = 0  # so far, of sources; their translations are empty
        self.num_cut_lines = 0  # sources and references shortened to what the model takes, so far
        self.num_ended_lines = 0  # lines whose best translation is as long as it may be, so far
        self._encode = tokenizer_encoder(tokenizer)

    @classmethod
    def of_model(
        cls,
        model: VecoForConditionalGeneration,
        tokenizer: Any,
        options: SearchOptions,
        start: int,
        workers: Workers | None = None,
    ) -> Self:
        """The translator of a model in torch; `start` is the id of the target language's tag."""
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
        """The translator of a model directory, on this rank's GPU if there is one. See `check_model` for errors."""
        tokenizer, start = check_model(path, target_language)
        model = VecoForConditionalGeneration.from_pretrained(path, dtype=dtype)
        model.to((workers or Workers()).device)
        return cls.of_model(model, tokenizer, options, start, workers)

    def translate(
        self, lines: Sequence[str], with_scores: bool = True, progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """At most `nbest` hypotheses of each line, best first, in the order of the lines; blank lines give empty ones.

        `progress` is called with the number of lines done since the last call. Among several ranks only the first
        one's results are all there. Raises ValueError when a model gives no probabilities.
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
                    raise ValueError(
                        f"no translation of {lines[i]!r} has a probability: the model's weights are no numbers"
                    )
                results[i] = [self.hypothesis(one) for one in hypotheses]
            if progress is not None:
                progress(len(batch) * self.workers.world_size)
        everything = self.workers.gathered(results)
        self.num_ended_lines += sum(len(found[0].ids) > limits[i] for i, found in everything.items())
        return [everything.get(i, [NOTHING] * self.options.nbest) for i in range(len(lines))]

    def score(
        self, lines: Sequence[str], references: Sequence[str], progress: Progress | None = None
    ) -> list[list[Hypothesis]]:
        """The given translation of each line as its only hypothesis, with the model's score of it.

        Blank lines are scored like all others. See `translate` for `progress` and ranks.
        """
        sources, targets = self.source_ids(lines), self.target_ids(references)
        sizes = np.asarray([max(map(len, pair)) for pair in zip(sources, targets, strict=True)], dtype=np.int64)
        numbers = self.workers.share(self.generator.cut(sizes, np.zeros_like(sizes)))
        batches = [PairBatch([sources[i] for i in batch], [targets[i] for i in batch]) for batch in numbers]
        results = {}
        for batch, scores in zip(numbers, self.generator.score(batches), strict=True):
            for i, log_probs in zip(batch.tolist(), scores, strict=True):
                results[i] = [self.hypothesis(Found(targets[i], log_probs))]
            if progress is not None:
                progress(len(batch) * self.workers.world_size)
        everything = self.workers.gathered(results)
        return [everything.get(i, [NOTHING]) for i in range(len(lines))]

    def longest(self, size: int) -> int:
        """Most pieces of a translation, without what ends it, of a source of `size` ids, special ones included."""
        return self.options.max_pieces(size, self.generator.max_tokens)

    @property
    def target_language(self) -> str:
        """The model's only one, or else that of the tag that starts the decoder; empty if neither is known."""
        if self.own_language is not None:
            return self.own_language
        match = LANGUAGE_TAG.fullmatch(self.tokenizer.convert_ids_to_tokens(self.generator.target.start))
        return match[1] if match else ""

    def source_ids(self, lines: Sequence[str]) -> list[list[int]]:
        """Each line as the model reads it, such as `<s> x1 … xn </s>`, cut to its longest input (counted)."""
        return [self.frame.source(ids) for ids in self._pieces(lines, self.frame.num_source_ids)]

    def target_ids(self, lines: Sequence[str]) -> list[list[int]]:
        """Each line as the model predicts it, such as `y1 … ym </s>`, cut to its longest output (counted)."""
        return [self.frame.target(ids) for ids in self._pieces(lines, self.frame.num_target_ids)]

    def hypothesis(self, found: Found) -> Hypothesis:
        """What the search found, as text and with scores in base 2."""
        # Where a tag ends translations, the search may choose </s> before, which fairseq does not print either.
        pieces = [i for i in self.frame.pieces(found.ids) if i != self.tokenizer.eos_token_id]
        return Hypothesis(
            ids=found.ids,
            pieces=self.as_pieces(pieces),
            text=self.as_text(pieces),
            positional_scores=[log_prob / math.log(2) for log_prob in found.log_probs],
            score=found.score(self.options.lenpen) / math.log(2),
        )

    def as_pieces(self, ids: Sequence[int]) -> str:
        """The pieces of ids, between spaces."""
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(ids)))

    def as_text(self, ids: Sequence[int]) -> str:
        """The text of ids. An unknown piece stays visible, as in fairseq; dropped, it would leave no trace."""
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return " ".join(text.split("\n")).strip()

    def source_as_pieces(self, line: str) -> str:
        """The pieces that a source is cut into, between spaces, with a tag of its language that the model reads."""
        hidden = {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}
        return self.as_pieces([i for i in self.frame.source(list(self._encode([line])[0])) if i not in hidden])

    def reference(self, line: str, as_text: bool) -> str:
        """What the model sees of a reference, as pieces between spaces or as text.

        Unknown pieces are written `<<unk>>`, as by fairseq, so that no unknown piece of a translation equals them.
        """
        pieces = list(self._encode([line])[0])
        seen = self.as_text(pieces) if as_text else self.as_pieces(pieces)
        unknown = self.tokenizer.unk_token
        return seen.replace(unknown, f"<{unknown}>")

    def _pieces(self, lines: Sequence[str], num_specials: int) -> list[list[int]]:
        longest = self.generator.max_tokens - num_specials
        encoded = [list(ids) for ids in self._encode(list(lines))] if lines else []
        self.num_cut_lines += sum(len(ids) > longest for ids in encoded)
        return [ids[:longest] for ids in encoded]


def check_model(path: Path, target_language: str | None) -> tuple[Any, int]:
    """The tokenizer of a model directory, and the id that starts its decoder.

    Raises ValueError where the directory holds no translation model, or a tokenizer that does not fit it.
    """
    if not (path / "config.json").is_file():
        raise ValueError(f"{path}: no config.json; expected a model directory of finetune.mt (train or average)")
    if (path / "model.bin").is_file():
        raise ValueError(f"{path}: exported to CTranslate2; translate with --engine ct2")
    config = AutoConfig.from_pretrained(path)
    wanted = VecoForConditionalGeneration.__name__
    if wanted not in (config.architectures or []):
        # transformers would load it all the same, with a decoder drawn at random.
        found = ", ".join(config.architectures or ["nothing known"])
        raise ValueError(f"{path}: holds {found}, expected {wanted}; fine-tune it with finetune/mt/train.py first")
    ids = {"bos": config.bos_token_id, "pad": config.pad_token_id, "eos": config.eos_token_id}
    tokenizer = fitting_tokenizer(path, config.vocab_size, ids, config.decoder_start_token_id)
    start = decoder_start_id(tokenizer, config.decoder_start_token_id, target_language, path, config.target_language)
    return tokenizer, start


def fitting_tokenizer(path: Path, vocab_size: int, special_ids: dict[str, int], start: int | None) -> Any:
    """The tokenizer beside a model. Raises ValueError if there is none, or it is that of another model.

    `special_ids` are the model's bos, pad and eos, as far as it knows them.
    """
    if not has_tokenizer(path):
        raise ValueError(f"{path}: no tokenizer (tokenizer.json or sentencepiece.bpe.model) beside the model")
    tokenizer = AutoTokenizer.from_pretrained(path)
    all_theirs = {"bos": tokenizer.bos_token_id, "pad": tokenizer.pad_token_id, "eos": tokenizer.eos_token_id}
    theirs = {name: all_theirs[name] for name in special_ids}
    wrong = ""
    if len(tokenizer) > vocab_size:
        wrong = f"the tokenizer has {len(tokenizer):,} pieces but the model {vocab_size:,}"
    elif theirs != special_ids:
        wrong = f"special tokens of the tokenizer are {theirs} but the model's {special_ids}"
    elif start is not None and start >= len(tokenizer):
        wrong = f"the model's decoder starts with id {start:,} but the tokenizer has {len(tokenizer):,} pieces"
    if wrong:
        raise ValueError(f"{path}: {wrong}: they do not belong together")
    return tokenizer


def decoder_start_id(
    tokenizer: Any, configured: int | None, language: str | None, path: Path, own_language: str | None = None
) -> int:
    """The id that starts the decoder: the tag of `language`, or the configured one if that is None.

    `own_language` is the only one of a model that has no tags to choose from, if it is known. Raises ValueError for a
    language that the model does not translate into, and where there is nothing to start with.
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


def target_languages(tokenizer: Any) -> list[str]:
    """The languages that a tokenizer has tags for, as these spell them."""
    matches = map(LANGUAGE_TAG.fullmatch, tokenizer.all_special_tokens)
    # A tag of sources, such as __bt__, looks like one of targets and is no language.
    return sorted(match[1] for match in matches if match and tag_is_valid(match[1]))


def tag_of(tokenizer: Any, language: str) -> str:
    """The tag that starts the decoder for a language to train: one that the tokenizer has for it, or else a new one.

    Any spelling will do, __zh__ for zho_Hans; but a tag of another territory is another tag.
    """
    same = [known for known in target_languages(tokenizer) if normal_form(known) == normal_form(language)]
    return f"__{language if language in same or not same else same[0]}__"


def target_ids(tokenizer: Any, frame: Frame, start: int, vocab_size: int) -> TargetIds:
    """What the search must know of the target's ids."""
    kept = {*frame.target_suffix, tokenizer.unk_token_id}
    special = [i for i in tokenizer.all_special_ids if i not in kept]
    # A model may have more rows than there are pieces.
    forbidden = sorted({*special, *range(len(tokenizer), vocab_size)})
    return TargetIds(start, frame.end, tokenizer.unk_token_id, forbidden)
