"""The recipe of fine-tuning for translation."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from langcodes import tag_is_valid

from data_tools.text.languages import normal_form
from finetune.recipe import FinetuningRecipe
from training.recipe.fields import BY_NAME, FREE, option

TEXT_FIELDS = ("train_source", "train_target", "valid_source", "valid_target")
SOURCE_TAG = re.compile(r"__\w+__")


@dataclass(frozen=True)
class Direction:
    """From one language into another, such as en-de."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


@dataclass(frozen=True, kw_only=True)
class TranslationRecipe(FinetuningRecipe):
    """Fine-tune a pre-trained VECO or XLM-R for translation. Values of the paper: VECO (ACL 2021), section 3."""

    decoder_layers: int | None = option(None, "layers of the decoder; null = as many as the encoder")
    decoder_layers_from: str = option("last", "which pre-trained layers become the decoder: last or first (table 4)")
    tie_self_attention: bool = option(
        False, "decoder layers share the self-attention of the layers they come from (section 6.1 does so)"
    )
    cross_attention: str = option(
        "pretrained", "pretrained, or random: drawn afresh, as XLM's and XLM-R's, who never trained one (section 6.1)"
    )
    directions: str = option(
        "", "such as en-de, or en-de,de-en,en-fr; the tag of the target (__de__) starts the decoder"
    )
    train_source: str = option(
        "",
        "training text, a sentence a line, plain or compressed; of several directions a list: a.en,a.de,b.en",
        on_resume=FREE,
    )
    train_target: str = option(
        "", "its translation, line by line; of several directions a list in the same order", on_resume=FREE
    )
    valid_source: str = option(
        "", "validation text; a list as above, but a direction named twice has one file", on_resume=FREE
    )
    valid_target: str = option("", "its translation", on_resume=FREE)
    data: str = option(
        "",
        "in place of files, or beside them: a directory of data_tools.prepare, tokenised like init_from",
        on_resume=FREE,
    )
    source_tags: str = option(
        "", "tags that lines of train_source may begin with, such as __bt__ of back-translation; with commas between"
    )
    max_tokens: int = option(
        4096, "largest micro-batch on each rank, in tokens with padding (fairseq's meaning)", on_resume=BY_NAME
    )
    batch_tokens: int = option(
        0,
        "tokens of an update, max_tokens x ranks x accumulation, whatever the ranks; 0 = accumulation_steps decides",
        on_resume=BY_NAME,
        decides=("accumulation_steps",),
    )
    max_length: int = option(
        128, "longest sentence in tokens with special ones; longer ones are cut and counted", on_resume=BY_NAME
    )
    label_smoothing: float = option(
        0.1, "probability taken from the right token (fairseq's meaning); the paper: 0.2", on_resume=BY_NAME
    )
    bleu_beam: int = option(0, "beam with which validations translate, for BLEU; 1 = greedy, 0 = no BLEU")
    bleu_lines: int = option(0, "first lines of each direction's validation text to translate; 0 = all")

    def metrics(self) -> Mapping[str, str]:
        return {"nll": "lowest", "bleu": "highest"} if self.bleu_beam else {"nll": "lowest"}

    def all_directions(self) -> list[Direction]:
        """What is trained, one for each pair of files; the same one twice has two, such as true and synthetic text.

        A language has one spelling, that of its first mention.
        """
        spelt: dict[str, str] = {}
        languages = [name.split("-", 1) for name in listed(self.directions) if "-" in name]
        return [Direction(*(spelt.setdefault(normal_form(code), code) for code in pair)) for pair in languages]

    def is_one_target(self) -> bool:
        """Whether all directions have the same target language: then the model knows what to start with."""
        return len({direction.target for direction in self.all_directions()}) == 1

    def problems(self) -> list[str]:
        found = super().problems()
        found += self._problems_of_directions()
        needed = self._needed_files()
        found += [f"{name} is not set" for name in needed if not self.__dict__[name]]
        for name in TEXT_FIELDS:
            directions = self.all_directions() if name.startswith("train") else distinct(self.all_directions())
            files = listed(self.__dict__[name])
            if directions and files and len(files) != len(directions):
                found.append(f"{name} names {len(files)} files for {len(directions)} directions")
        if self.decoder_layers_from not in ("last", "first"):
            found.append(f"decoder_layers_from {self.decoder_layers_from!r} must be 'last' or 'first'")
        if self.cross_attention not in ("pretrained", "random"):
            found.append(f"cross_attention {self.cross_attention!r} must be 'pretrained' or 'random'")
        if not 0 <= self.label_smoothing < 1:
            found.append(f"label_smoothing {self.label_smoothing} must be at least 0 and below 1")
        if self.max_length < 4 or self.max_tokens < self.max_length:
            found.append(
                f"max_tokens {self.max_tokens} must be at least max_length {self.max_length}, and that at least 4"
            )
        if self.batch_tokens and (self.batch_tokens < self.max_tokens or self.batch_tokens % self.max_tokens):
            found.append(f"batch_tokens {self.batch_tokens} must be a multiple of max_tokens {self.max_tokens}")
        for name in ("bleu_beam", "bleu_lines"):
            if self.__dict__[name] < 0:
                found.append(f"{name} {self.__dict__[name]} must not be negative")
        return found

    def _needed_files(self) -> tuple[str, ...]:
        """The fields of files that must be set; with `data` training text may come beside it, and validation text."""
        if not self.data:
            return TEXT_FIELDS
        training = TEXT_FIELDS[:2] if self.train_source or self.train_target or self.source_tags else ()
        return (*training, *(TEXT_FIELDS[2:] if self.valid_source or self.valid_target else ()))

    def _problems_of_directions(self) -> list[str]:
        if not self.directions:
            return ["directions is not set"]
        found = []
        for name in listed(self.directions):
            languages = name.split("-")
            unknown = [language for language in languages if not tag_is_valid(language)]
            if len(languages) != 2:
                meant = direction_meant(languages)
                found.append(
                    f"directions: {name!r} must be source-target with one hyphen; "
                    + (f"did you mean {meant!r}?" if meant else "inside a code write _, as in zh_CN-en")
                )
            elif unknown:
                found.append(f"directions: {name!r} names {unknown[0]!r}, which is no language code")
        problems = map(problem_of_source_tag, listed(self.source_tags))
        return [*found, *(f"source_tags: {problem}" for problem in problems if problem)]

    def micro_batches_an_update(self, num_ranks: int) -> int:
        """Micro-batches of all ranks in one update."""
        if self.batch_tokens:
            return self.batch_tokens // self.max_tokens
        return super().micro_batches_an_update(num_ranks)

    def continued(self, model_dir: Path) -> Self:
        return dataclasses.replace(super().continued(model_dir), cross_attention="pretrained")


def problem_of_source_tag(tag: str) -> str | None:
    """What is wrong with a tag that sources are to begin with, if anything is."""
    if not SOURCE_TAG.fullmatch(tag):
        return f"{tag!r} must look like __bt__, so that no text is taken for it"
    if tag_is_valid(tag.strip("_")):
        return f"{tag!r} would be the tag of a target language; choose one that is no language code, such as __bt__"
    return None


def direction_meant(parts: list[str]) -> str | None:
    """The only direction that a name with too many hyphens can mean, zh_CN-en for zh-CN-en; None if that is unclear."""
    splits = [("_".join(parts[:i]), "_".join(parts[i:])) for i in range(1, len(parts))]
    possible = [f"{source}-{target}" for source, target in splits if tag_is_valid(source) and tag_is_valid(target)]
    return possible[0] if len(possible) == 1 else None


def listed(names: str) -> list[str]:
    """The names in a field that may hold several, with commas between them."""
    return [name.strip() for name in names.split(",") if name.strip()]


def distinct(directions: list[Direction]) -> list[Direction]:
    """Each direction once, in the order of first mention."""
    return list(dict.fromkeys(directions))
