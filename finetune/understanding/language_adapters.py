"""The language adapters of a trained model, exchanged at test below its task's adapter (MAD-X)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from veco.adapters import activate_adapters, load_adapter
from veco.adapters.attach import active_adapters, config_of

OF_LANGUAGE = "of_{}"  # the name that a language's adapter gets in the model


class LanguageAdapters:
    """A model whose lowest active adapter is that of a language, and adapters of other languages in its place."""

    def __init__(self, model: PreTrainedModel, directories: Mapping[str, Path]) -> None:
        """Load the adapter of each language. Raises ValueError as `load_adapter` does, or if the model has no stack."""
        config_of(model)
        self.model, self.trained = model, active_adapters(model)
        if len(self.trained) < 2:
            found = ", ".join(self.trained) or "none"
            raise ValueError(
                f"expected a model with a language adapter below its task's, found {found}; train it with --adapter "
                "and --language_adapter"
            )
        self.names = {
            language: load_adapter(model, directory, OF_LANGUAGE.format(language))
            for language, directory in directories.items()
        }
        activate_adapters(model, self.trained)

    def use(self, language: str) -> bool:
        """Put the adapter of a language in its place; without one the trained one works. Whether there is one."""
        lowest = self.names.get(language, self.trained[0])
        activate_adapters(self.model, [lowest, *self.trained[1:]])
        return language in self.names


def read_directories(given: Sequence[str]) -> dict[str, Path]:
    """Language -> directory from `de=DIR` flags. Raises ValueError for anything else, and for a language twice."""
    found: dict[str, Path] = {}
    for text in given:
        language, equals, directory = text.partition("=")
        if not language or not equals or not directory or language in found:
            expected = "expected a language once and its directory, such as sw=runs/sw"
            raise ValueError(f"--language-adapters {text}: {expected}")
        found[language] = Path(directory)
    return found
