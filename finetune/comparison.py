"""The common part of comparisons of pre-trained models, whatever the task: COMPARE.yaml, runs, tables.

A comparison is a COMPARE.yaml, parsed into a dataclass; its runs are steps (finetune.steps).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from data_tools.cli import FlagParser
from data_tools.files.atomic import write_texts
from data_tools.files.yaml_files import all_expanded, read_mapping
from finetune.pretrained import VECO, XLM_ROBERTA, open_pretrained
from finetune.recipe import FinetuningRecipe
from training.recipe.parsing import decided_fields
from training.recipe.shipped import shipped_file, shipped_names


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
        if not re.fullmatch(r"[\w.-]+", str(name)):
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


def check_unchanged(ours: Mapping[str, Mapping[str, Any]], output: Path, begun: Collection[str] | None = None) -> None:
    """Record in DIR/runs.json how each run, by its name, is trained and tested.

    `begun` are the runs that have begun, by default all that are recorded; the others may change. Raises ValueError
    when an earlier call had other settings: finished stages are skipped, so a changed comparison would mix two kinds of
    runs. Also raises it when DIR holds files that no earlier call has written.
    """
    recorded = output / "runs.json"
    if recorded.is_file():
        before = json.loads(recorded.read_text(encoding="utf-8"))
    else:
        before = None if output.exists() and any(output.iterdir()) else {}
    if not isinstance(before, dict):
        raise ValueError(f"{output}: holds files, and no runs.json of an earlier call; choose another --output")
    kept = before.keys() if begun is None else before.keys() & set(begun)
    for name in (name for name in ours if name in kept):  # the first, on which others may depend, is named
        changed = [field for field, value in ours[name].items() if before[name].get(field) != value]
        if changed:
            raise ValueError(
                f"{output}: run {name} was begun with other {', '.join(changed)}; choose another --output, or undo that"
            )
    write_texts(output, {recorded.name: json.dumps({**before, **ours}, indent=1)})


def mean_and_deviation(values: Sequence[float]) -> str:
    """`mean ± sd` with the sample standard deviation; a single value without any."""
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def steps_parser(program: str, description: str, directory: Path, metavar: str = "COMPARE.yaml") -> FlagParser:
    """A parser of a `file`, `output` and `parallel`, for `parse_steps`.

    The file may be named by the name of one in `directory`, of those that come with the package.
    """
    parser = FlagParser(
        prog=f"python -m {program}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "file",
        type=lambda name: shipped_file(name, directory),
        metavar=metavar,
        help=f"see above; or the name of one that comes with the package: {', '.join(shipped_names(directory))}",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory for runs and results")
    parser.add_argument(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="runs at once, each with its share of the cores or of CUDA_VISIBLE_DEVICES (default %(default)s); with "
        "small models, two runs on one core each are faster than one after the other on two",
    )
    return parser


def parse_steps(parser: FlagParser) -> argparse.Namespace:
    """The command line by a `steps_parser`. Raises ValueError for parallel below 1."""
    options = parser.parse_args()
    if options.parallel < 1:
        raise ValueError(f"--parallel {options.parallel}: expected at least 1")
    return options
