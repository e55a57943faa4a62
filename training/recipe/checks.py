"""Rules that a recipe's values follow: each check returns a sentence for every value that breaks its rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def broken(recipe: object, names: Iterable[str], rule: Callable[[Any], bool], told: str) -> list[str]:
    """A sentence, "name value" and what is `told`, for each field whose value does not follow a rule."""
    values = vars(recipe)
    return [f"{name} {values[name]!r} {told}" for name in names if not rule(values[name])]


def at_least(recipe: object, least: int, *names: str) -> list[str]:
    return broken(recipe, names, lambda value: value >= least, f"must be at least {least}")


def above_zero(recipe: object, *names: str) -> list[str]:
    return broken(recipe, names, lambda value: value > 0, "must be above 0")


def not_negative(recipe: object, *names: str) -> list[str]:
    return broken(recipe, names, lambda value: value >= 0, "must not be negative")


def below_one(recipe: object, *names: str) -> list[str]:
    return broken(recipe, names, lambda value: 0 <= value < 1, "must be at least 0 and below 1")


def between_zero_and_one(recipe: object, *names: str) -> list[str]:
    return broken(recipe, names, lambda value: 0 <= value <= 1, "must lie between 0 and 1")


def one_of(recipe: object, choices: Iterable[str], *names: str) -> list[str]:
    known = tuple(choices)
    return broken(recipe, names, lambda value: value in known, f"must be one of {', '.join(known)}")
