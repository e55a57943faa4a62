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
from training.recipe.option import BY_NAME, FREE, option

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
    """Fine-tune a pre-trained VECO or XLM-R for translation. The paper's values: VECO (ACL 2021), section 3."""

    decoder_layers: int | None = option(None, "layers of the decoder; null = as many as the encoder")
    decoder_layers_from: str = option("last", "which pre-trained layers become the decoder: last or first (table 4)")
    tie_self_attention: bool = option(
        False, "decoder layers share the self-attention of the layers they are initialised from (as in section 6.1)"
    )
    cross_attention: str = option(
        "pretrained", "pretrained, or random, as for XLM and XLM-R, which have none to start from (section 6.1)"
    )
    directions: str = option(
        "", "such as en-de, or en-de,de-en,en-fr; the tag of the target language (__de__) starts the decoder"
    )
    train_source: str = option(
        "",
        "training text, one sentence per line, plain or compressed; for several directions a list: a.en,a.de,b.en",
        on_resume=FREE,
    )
    train_target: str = option(
        "", "its translation, line by line; for several directions a list in the same order", on_resume=FREE
    )
    valid_source: str = option(
        "", "validation text; a list as above, but a direction given twice has one file", on_resume=FREE
    )
    valid_target: str = option("", "its translation", on_resume=FREE)
    data: str = option(
        "",
        "instead of files, or in addition: a directory of data_tools.prepare, tokenised like init_from",
        on_resume=FREE,
    )
    source_tags: str = option(
        "", "comma-separated tags that lines of train_source may begin with, such as __bt__ of back-translation"
    )
    max_tokens: int = option(
        4096, "largest micro-batch on each rank, in tokens with padding (fairseq's meaning)", on_resume=BY_NAME
    )
    batch_tokens: int = option(
        0,
        "tokens per update, max_tokens x ranks x accumulation, for any number of ranks; 0 = accumulation_steps decides",
        on_resume=BY_NAME,
        decides=("accumulation_steps",),
    )
    max_length: int = option(
        128, "longest sentence in tokens, special ones included; longer ones are truncated", on_resume=BY_NAME
    )
    label_smoothing: float = option(
        0.1, "probability mass taken from the correct token (as in fairseq); the paper: 0.2", on_resume=BY_NAME
    )
    bleu_beam: int = option(0, "beam size for BLEU in validation; 1 = greedy, 0 = no BLEU")
    bleu_lines: int = option(0, "number of validation lines per direction to translate, from the first; 0 = all")

    def metrics(self) -> Mapping[str, str]:
        return {"nll": "lowest", "bleu": "highest"} if self.bleu_beam else {"nll": "lowest"}

    def all_directions(self) -> list[Direction]:
        """The directions to train, one for each pair of files; one may occur twice, for true and synthetic text.

        Each language is spelt as in its first occurrence.
        """
        first_spelling: dict[str, str] = {}

        def spelt(code: str) -> str:
            return first_spelling.setdefault(normal_form(code), code)

        pairs = [name.split("-", 1) for name in listed(self.directions) if "-" in name]
        return [Direction(spelt(source), spelt(target)) for source, target in pairs]

    def is_one_target(self) -> bool:
        """Whether all directions have the same target language, whose tag then always starts the decoder."""
        return len({direction.target for direction in self.all_directions()}) == 1

    def problems(self) -> list[str]:
        found = super().problems()
        found += self._problems_of_directions()
        found += self._problems_of_files()
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
        for name, value in {"bleu_beam": self.bleu_beam, "bleu_lines": self.bleu_lines}.items():
            if value < 0:
                found.append(f"{name} {value} must not be negative")
        return found

    def _problems_of_files(self) -> list[str]:
        """With `data`, text files are optional, but source and target belong together; source tags need text."""
        directions = self.all_directions()
        train_files = {"train_source": listed(self.train_source), "train_target": listed(self.train_target)}
        valid_files = {"valid_source": listed(self.valid_source), "valid_target": listed(self.valid_target)}
        is_train_needed = not self.data or self.source_tags or any(train_files.values())
        is_valid_needed = not self.data or any(valid_files.values())
        needed = {**(train_files if is_train_needed else {}), **(valid_files if is_valid_needed else {})}
        found = [f"{name} is not set" for name, files in needed.items() if not files]
        for files_by_name, num_directions in ((train_files, len(directions)), (valid_files, len(distinct(directions)))):
            found += [
                f"{name} names {len(files)} files for {num_directions} directions"
                for name, files in files_by_name.items()
                if num_directions and files and len(files) != num_directions
            ]
        return found

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
                found.append(f"directions: {name!r} names {unknown[0]!r}, which is not a language code")
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
    """The mistake in a tag for the beginning of sources, or None."""
    if not SOURCE_TAG.fullmatch(tag):
        return f"{tag!r} must look like __bt__, so that no ordinary word is taken for a tag"
    if tag_is_valid(tag.strip("_")):
        return f"{tag!r} would be the tag of a target language; choose one that is not a language code, such as __bt__"
    return None


def direction_meant(parts: list[str]) -> str | None:
    """The direction that a name with too many hyphens means, zh_CN-en for zh-CN-en; None if that is ambiguous."""
    splits = [("_".join(parts[:i]), "_".join(parts[i:])) for i in range(1, len(parts))]
    possible = [f"{source}-{target}" for source, target in splits if tag_is_valid(source) and tag_is_valid(target)]
    return possible[0] if len(possible) == 1 else None


def listed(names: str) -> list[str]:
    """The names in a field of comma-separated names."""
    return [name.strip() for name in names.split(",") if name.strip()]


def distinct(directions: list[Direction]) -> list[Direction]:
    """Each direction once, in the order of first occurrence."""
    return list(dict.fromkeys(directions))
