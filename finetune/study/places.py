"""The places of a study's parts below its output, or wherever they are already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune.study.configuration import ModelPart, Study
from training.run_directory.kinds import LAST

PRETRAINING = "pretraining.yaml"  # the recipe that all pre-training of a study shares
FINETUNING = "finetuning"


@dataclass(frozen=True)
class Places:
    """Where the parts of a study are; a name that no part has is the path of a directory."""

    study: Study
    output: Path  # absolute

    @property
    def recipe(self) -> Path:
        """The recipe of pre-training."""
        return self.output / PRETRAINING

    def corpus(self, data: str) -> Path:
        """The CORPUS.yaml of an entry of `data`."""
        return self.output / "data" / data / "corpus.yaml"

    def data(self, name: str) -> Path:
        """Prepared data."""
        part = self.study.data.get(name)
        if part is None or part.directory:
            return Path(part.directory if part else name)
        return self.output / "data" / name / "data"

    def tokenizer(self, name: str) -> Path:
        """A tokenizer, or a model with the one that it carries."""
        part = self.study.tokenizers.get(name)
        if part is None:
            return self.model(name)
        return Path(part.directory) if part.directory else self.output / "tokenizers" / name / "tokenizer"

    def model(self, name: str) -> Path:
        """A model, after all that is done to it."""
        part = self.study.models.get(name)
        if part is None:
            return Path(name)
        parts = model_parts(part)
        return self.model_part(name, parts[-1]) if parts else self.model(part.start)

    def model_part(self, name: str, part: str) -> Path:
        """A model after one of `model_parts`."""
        directory = self.output / "models" / name / part
        return directory / LAST if part == "pretrain" else directory


def model_parts(part: ModelPart) -> list[str]:
    """What is done to a model, in order; the names of directories and, in STUDY.yaml, of keys."""
    done = {
        "convert": bool(part.convert),
        "vocabulary": part.vocabulary is not None,
        "extend": part.extend is not None,
        "pretrain": part.pretrain is not None,
    }
    return [name for name, is_done in done.items() if is_done]
