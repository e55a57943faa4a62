"""Recipes: YAML files and command-line flags become validated, immutable dataclasses.

Each field is a line of YAML and a flag of the same name, nearly all of them with one value; a flag of another one takes
its YAML. Flags win over the file, the file over the defaults. All problems of a recipe are reported at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_tools.cli import FlagParser
from data_tools.files.atomic import atomic_path
from data_tools.files.yaml_files import expanded, is_null, read_mapping, variables_in
from training.launch import tell
from training.launch_environment import complete_environment
from training.recipe.base import TrainingRecipe
from training.recipe.option import notes_of
from training.recipe.shipped import shipped_file, shipped_names

RecipeT = TypeVar("RecipeT", bound="TrainingRecipe")


def parse_recipe(recipe_class: type[RecipeT], argv: Sequence[str], default_config: Path | None = None) -> RecipeT:
    """The recipe that a command line asks for: `--config FILE`, then one flag for each field that differs from it.

    Environment variables such as ${DATA} and a ~ for the home directory are expanded in text fields; on further nodes
    of a run, those that are not set there are as on the first. Raises ValueError with every problem at once.
    """
    parser = FlagParser(description=recipe_class.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    recipes = Path(inspect.getfile(recipe_class)).parent / "recipes"  # those that come with it
    parser.add_argument(
        "--config",
        type=lambda name: shipped_file(name, recipes),
        default=argparse.SUPPRESS,
        help="recipe in YAML; its fields are the flags below. A file, or the name of one that comes with the package: "
        f"{', '.join(shipped_names(recipes))} (default: {default_config and default_config.stem})",
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the launcher passes it
    parser.add_argument("--validate_only", action="store_true", help="check the recipe, print it and stop")
    for field in dataclasses.fields(recipe_class):
        # `--resume` alone means auto, and `--some_switch` alone means true.
        bare = {"resume": "auto"}.get(field.name, "true" if isinstance(field.default, bool) else None)
        parser.add_argument(
            f"--{field.name}",
            nargs="?" if bare else None,
            const=bare,
            metavar=field.name.upper(),
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} (default of the recipe: {field.default!r})",
        )
    given = vars(parser.parse_args(argv))
    _, validate_only = given.pop("local_rank"), given.pop("validate_only")
    is_chosen = "config" in given
    config = given.pop("config", default_config)
    of_file = read_yaml(config.expanduser()) if config else {}
    complete_environment(variables_in([*of_file.values(), *given.values()]))
    recipe = build_recipe(recipe_class, laid_over(recipe_class, of_file, given, is_told=is_chosen), config)
    if validate_only:
        print(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False), end="")
        raise SystemExit(0)
    return recipe


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a recipe file. Raises ValueError when it is not a mapping, or nested as no field is."""
    expected = "plain 'field: value' lines of a recipe"
    values = read_mapping(path, expected)
    if nested := [name for name, value in values.items() if isinstance(value, dict)]:
        raise ValueError(f"{path}: expected {expected}, found more than one value in {nested[0]}")
    return values


def decided_fields(recipe_class: type[TrainingRecipe], values: Mapping[str, Any]) -> dict[str, str]:
    """Field -> the field that decides in its place, for what is not used of a recipe with these raw `values`."""
    kinds = typing.get_type_hints(recipe_class)
    found: dict[str, str] = {}
    for field in dataclasses.fields(recipe_class):
        with contextlib.suppress(ValueError):  # reported by `build_recipe`
            if field_value(recipe_class, kinds, field.name, values.get(field.name, field.default)):
                found |= dict.fromkeys(notes_of(recipe_class, field.name)["decides"], field.name)
    return found


def laid_over(
    recipe_class: type[TrainingRecipe], of_file: Mapping[str, Any], given: Mapping[str, Any], is_told: bool = True
) -> dict[str, Any]:
    """The raw values of a recipe file with those that are `given` for one use of it, which win.

    Fields of the file that another field now decides are dropped, and this is reported: somebody chose the file.
    """
    values = {**of_file, **given}
    of_file = without_auto(recipe_class, of_file, values)
    decided = {name: by for name, by in decided_fields(recipe_class, values).items() if name in of_file.keys() - given}
    if decided and is_told:
        ignored = ", ".join(f"{name} {of_file[name]} (overridden by {by})" for name, by in decided.items())
        tell(f"ignored recipe fields: {ignored}")
    return {name: value for name, value in {**of_file, **given}.items() if name not in decided}


def without_auto(
    recipe_class: type[TrainingRecipe], values: Mapping[str, Any], all_values: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of the raw `values` that do not leave, by "auto", the choice to another field that decides it."""
    decided = decided_fields(recipe_class, all_values)
    return {name: value for name, value in values.items() if not (value == "auto" and name in decided)}


def build_recipe(recipe_class: type[RecipeT], values: Mapping[str, Any], source: Path | None) -> RecipeT:
    """A validated recipe from raw values (YAML scalars or flag strings). Raises ValueError with every problem."""
    kinds = typing.get_type_hints(recipe_class)
    values = without_auto(recipe_class, values, values)
    converted, problems = {}, []
    for name, value in values.items():
        if name not in kinds:
            close = difflib.get_close_matches(str(name), kinds, n=1)
            problems.append(f"unknown field {name!r}" + (f", did you mean {close[0]!r}?" if close else ""))
            continue
        try:
            converted[name] = field_value(recipe_class, kinds, name, value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            if isinstance(value, str) and kinds[name] in (str, str | None):
                converted[name] = value  # it is set, so no further problem comes of it
    recipe = recipe_class(**converted)
    problems += [
        f"{name} {values[name]} is not used, as {_set_and_unset(recipe, by)}"
        for name, by in decided_fields(recipe_class, values).items()
        if name in values
    ]
    problems += recipe.problems()
    if problems:
        raise ValueError(f"recipe {source or '(command line)'}: " + "; ".join(problems))
    return recipe


def _set_and_unset(recipe: TrainingRecipe, name: str) -> str:
    """In words, that the set field `name` decides, and how it would not be set."""
    value, default = vars(recipe)[name], recipe.__dataclass_fields__[name].default
    shown = f"{name} decides" if isinstance(value, tuple) else f"{name} {value} decides"
    return f"{shown}: leave one of them out, or give {name} {'0' if default == 0 else 'null'}"


def field_value(recipe_class: type[Any], kinds: Mapping[str, Any], name: str, value: Any) -> Any:
    """The value of field `name` from a raw one, of YAML or a flag; `kinds` are the types of the recipe's fields.

    Raises ValueError where it cannot be.
    """
    read = notes_of(recipe_class, name)["read"]
    return read(kinds, value) if read else convert(kinds[name], value)


def convert(kind: Any, value: Any) -> Any:
    """`value`, of YAML or a flag's text, as `kind`: str, int, float, bool, a tuple of str, or one of these or None."""
    if isinstance(kind, types.UnionType):
        if is_null(value):
            return None
        kind = next(arm for arm in typing.get_args(kind) if arm is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        items = (value.split(",") if value else []) if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"expected a list such as [en, de], or en,de, found {value!r}")
        return tuple(convert(str, item).strip() for item in items)
    if isinstance(value, list | tuple | dict):
        raise ValueError(f"expected one value, found {value!r}")
    if kind is bool:
        word = str(value).lower()
        if word not in ("true", "false"):
            raise ValueError(f"expected true or false, found {value!r}")
        return word == "true"
    if kind is str:
        if isinstance(value, bool):  # YAML reads a bare `no` as false
            return "yes" if value else "no"
        return "" if is_null(value) else expanded(str(value))
    try:
        # YAML reads 2e-4 as text, and 1000.0 is a fine number of steps.
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        if kind is float:
            return number
        if not number.is_integer():
            raise ValueError
        return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else int(number)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"expected {'a number' if kind is float else 'a whole number'}, found {value!r}") from None


def save_recipe(recipe: TrainingRecipe, path: Path) -> None:
    """Write the resolved recipe, as `--config` reads it."""
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False), encoding="utf-8")
