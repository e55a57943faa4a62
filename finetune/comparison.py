"""The common part of comparisons of pre-trained models, whatever the task: COMPARE.yaml, runs, tables.

A comparison is a COMPARE.yaml, parsed into a dataclass; its runs are steps (finetune.steps).
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from data_tools.files.yaml_files import all_expanded, read_mapping
from finetune.pretrained import VECO, XLM_ROBERTA, open_pretrained
from finetune.recipe import FinetuningRecipe
from training.recipe.parsing import decided_fields

PLACES = ("output", "resume", "cpu_processes")  # fields that do not affect the result of a run


class Comparison(Protocol):
    """A dataclass with the content of a COMPARE.yaml."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def problems(self) -> list[str]:
        """One sentence for each mistake."""


ComparisonT = TypeVar("ComparisonT", bound=Comparison)


def parse_comparison(
    path: Path,
    kind: type[ComparisonT],
    types: Mapping[str, type],
    program: str,
    make: Callable[..., ComparisonT] | None = None,
) -> ComparisonT:
    """The comparison in a file, with environment variables expanded.

    `types` gives the types of those keys that are not text; `program` names the command whose --help shows the format;
    `make`, by default `kind` itself, makes the comparison of the keys. Raises ValueError with every mistake.
    """
    content = read_mapping(path, f"what python -m {program} --help shows")
    wrong: list[str] = []
    values = all_expanded(content, wrong.append)
    is_required = {field.name: has_no_default(field) for field in dataclasses.fields(kind)}
    wrong += [f"unknown key {name!r}" for name in values if name not in is_required]
    wrong += [f"{name} is missing" for name in is_required if is_required[name] and name not in values]
    wrong += [
        f"{name} must be a {types[name].__name__}"
        for name, value in values.items()
        if name in types and not isinstance(value, types[name])
    ]
    if not wrong:
        comparison = (make or kind)(**values)
        wrong = comparison.problems()
    if wrong:
        raise ValueError(f"{path}: {'; '.join(wrong)}")
    return comparison


def has_no_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a field of a dataclass has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def problems_of_models(models: Mapping[str, Mapping[str, Any]], allowed: Collection[str]) -> list[str]:
    """Mistakes in the models: each may change only the `allowed` fields, so that budgets are equal."""
    found = [] if models else ["models names none"]
    for name, fields in models.items():
        if not isinstance(name, str):
            found.append(f"model {name}: a name is text; write it in quotes")
        elif not re.fullmatch(r"[\w.-]+", name):
            found.append(f"model {name!r} names directories: letters, digits, '.', '-' and '_' only")
        if not isinstance(fields, dict):
            found.append(f"model {name} must have fields, such as {{init_from: DIRECTORY}}")
        elif refused := sorted(set(fields) - set(allowed)):
            found.append(f"model {name} changes {', '.join(refused)}: budgets would not be equal (use fields)")
    return found


def problems_of_counts(seeds: Sequence[int], processes: int) -> list[str]:
    """Mistakes in the seeds and in the number of processes of a run."""
    found = []
    if not seeds or len(set(seeds)) != len(seeds):
        found.append(f"seeds {seeds} must be different numbers, at least one")
    if processes < 1:
        found.append(f"processes {processes} must be at least 1")
    return found


def without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, but where it lies and how it is started, which may change between calls."""
    return {name: value for name, value in settings.items() if name not in PLACES}


def flags_of(recipe: FinetuningRecipe) -> list[str]:
    """Every field that a recipe uses, as a flag: the command alone determines the run, whatever file it came from."""
    values = dataclasses.asdict(recipe)
    unused = {"cpu_processes", *decided_fields(type(recipe), values)}
    ours = {name: value for name, value in values.items() if name not in unused}
    return [word for name, value in ours.items() for word in (f"--{name}", "null" if value is None else str(value))]


def check_same_tokenizers(directories: Iterable[str]) -> None:
    """Raise ValueError for a directory that is not a model, or when two models have different tokenizers."""
    kinds = (VECO, XLM_ROBERTA)
    tokenizers = {
        name: open_pretrained(Path(name), kinds=kinds, takes_translation=True)[0] for name in dict.fromkeys(directories)
    }
    first, *others = by_tokenizer(tokenizers)
    for other in others:
        raise ValueError(f"{other[0]} and {first[0]} have different tokenizers: no two runs would see the same batches")


def by_tokenizer(tokenizers: Mapping[str, PreTrainedTokenizerBase]) -> list[list[str]]:
    """The names of models, those whose tokenizers have the same pieces together."""
    groups: list[tuple[dict[str, int], list[str]]] = []
    for name, tokenizer in tokenizers.items():
        pieces = tokenizer.get_vocab()
        same = next((names for known, names in groups if known == pieces), None)
        if same is None:
            groups.append((pieces, [name]))
        else:
            same.append(name)
    return [names for _, names in groups]


def mean_and_deviation(values: Sequence[float]) -> str:
    """`mean ± sd` with the sample standard deviation; a single value without any."""
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"
