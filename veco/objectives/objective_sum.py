"""A weighted sum of objectives, as recipes write it: `ca_mlm + tlm + 0.1 * contrast(temperature=0.05)`."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import sys
import typing
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from veco.config import VecoConfig
from veco.objectives.objective import Count, Objective, Term
from veco.objectives.table import OBJECTIVES

MOST_LETTERS, MOST_SHOWN = 2000, 200  # of a text, which is parsed by recursion; of it in a message
EXPECTED = "a sum such as ca_mlm + tlm + 0.1 * contrast(temperature=0.05)"


@dataclass(frozen=True)
class Weighted:
    """An objective and the factor of its losses in the sum."""

    weight: float
    objective: Objective


@dataclass(frozen=True)
class ObjectiveSum:
    """Objectives that are trained together, each with its weight."""

    parts: tuple[Weighted, ...]

    def __iter__(self) -> Iterator[Objective]:
        return (part.objective for part in self.parts)

    def of_batch(self, views: Collection[str], kind: str | None = None) -> ObjectiveSum:
        """Those of the parts whose views are among `views`, and which are for that kind of batch, if it is known.

        Views alone do not tell: masked x and y are read of translations alone by one objective, by others of all pairs.
        """
        of_kind = self if kind is None else self.of_kind(kind)
        return ObjectiveSum(tuple(part for part in of_kind.parts if set(part.objective.views) <= set(views)))

    def of_kind(self, kind: str) -> ObjectiveSum:
        """Those of the parts that are for a kind of batch."""
        return ObjectiveSum(tuple(part for part in self.parts if kind in part.objective.kinds))

    @property
    def views(self) -> tuple[str, ...]:
        """The views that any part reads, each once."""
        return tuple(dict.fromkeys(view for objective in self for view in objective.views))

    @property
    def needs(self) -> dict[str, str]:
        """The resources without which views cannot be made, and the first part that needs each."""
        return {need: objective.name for objective in reversed([*self]) for need in objective.needs}

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all parts."""
        return tuple(term for objective in self for term in objective.terms)

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counts that the terms are means over, each once: the order of `num_items_in_batch`."""
        return tuple(dict.fromkeys(count for term in self.terms for count in term.counts))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term."""
        return {term.name: part.weight * term.weight for part in self.parts for term in part.objective.terms}

    @property
    def trains_cross_attention(self) -> bool:
        """Whether a loss of a part depends on the cross-attention."""
        return any(objective.trains_cross_attention for objective in self)

    @property
    def trains_head(self) -> bool:
        """Whether a loss of a part depends on the language-modelling head."""
        return any(objective.trains_head for objective in self)

    @property
    def deepest_layer(self) -> int | None:
        """The deepest layer that a loss of a part depends on, 0 = the embeddings; None: the last."""
        found = [objective.deepest_layer for objective in self]
        known = [layer for layer in found if layer is not None]
        return max(known) if len(known) == len(found) else None

    @property
    def with_parameters(self) -> set[str]:
        """The parts that have parameters of their own beside the model's."""
        with torch.device("meta"):  # which have them does not depend on the shape
            modules = {objective.name: objective.module(VecoConfig()) for objective in self}
        return {
            name for name, module in modules.items() if module is not None and any(True for _ in module.parameters())
        }

    @classmethod
    def union(cls, texts: Iterable[str]) -> ObjectiveSum:
        """Every objective of several sums, once: a model that is trained for one after the other needs all of them.

        An objective's own parameters are those that its options ask for where it first comes. Raises ValueError where
        the options of a momentum encoder's objective differ: these say what it is a copy of.
        """
        found: dict[str, Weighted] = {}
        for part in (part for text in texts for part in parse(text).parts):
            objective = part.objective
            first = found.setdefault(objective.name, part).objective
            if objective.momentum_view and objective != first:
                raise ValueError(
                    f"{objective.name} has one momentum encoder in the whole run: expected its options to stay "
                    f"{vars(first)}, found {vars(objective)} in a later objective"
                )
        return cls(tuple(found.values()))

    @classmethod
    def of(cls, objective: str | ObjectiveSum) -> ObjectiveSum:
        """A sum from its text, or as it is. Raises ValueError with what is wrong in the text."""
        return objective if isinstance(objective, cls) else parse(str(objective))


@functools.cache
def parse(text: str) -> ObjectiveSum:
    """The sum that a text says. Raises ValueError, in one line, for what it should not say."""
    if len(text) > MOST_LETTERS:
        raise ValueError(f"objective {text[:MOST_SHOWN]!r} …: expected {EXPECTED}, of at most {MOST_LETTERS} letters")
    try:
        found = ObjectiveSum(tuple(weighted(node, text) for node in summands(expression(text))))
    except (RecursionError, MemoryError):  # also where a message shows a part of it
        raise ValueError(f"objective {text!r}: expected {EXPECTED}") from None
    names = [term.name for term in found.terms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        having = [objective.name for objective in found if {term.name for term in objective.terms} & set(twice)]
        raise ValueError(
            f"objective {text!r}: {' and '.join(having)} both have the loss {', '.join(twice)}; leave one of them out"
        )
    return found


def expression(text: str) -> ast.expr:
    """The text as Python reads it."""
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(f"objective {text!r}: expected {EXPECTED}") from None


def summands(node: ast.expr) -> list[ast.expr]:
    """The expressions that a sum adds up, in order."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*summands(node.left), *summands(node.right)]
    return [node]


def weighted(node: ast.expr, text: str) -> Weighted:
    """`0.1 * name(option=value)`, where weight and options may be left out, as an objective with its weight."""
    weight: Any = 1.0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        weight, node = constant(node.left, text), node.right
    options: dict[str, Any] = {}
    if isinstance(node, ast.Call) and not node.args and all(keyword.arg for keyword in node.keywords):
        names = [str(keyword.arg) for keyword in node.keywords]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"objective {text!r}: {', '.join(twice)} is given twice; give it once")
        options = {str(keyword.arg): constant(keyword.value, text) for keyword in node.keywords}
        node = node.func
    if not isinstance(node, ast.Name):
        raise ValueError(f"objective {text!r}: expected {EXPECTED}, found {ast.unparse(node)}")
    if not fits(weight, float) or weight <= 0:
        raise ValueError(f"objective {text!r}: the weight of {node.id} is {weight}, expected a number above 0")
    if node.id not in OBJECTIVES:
        raise ValueError(f"objective {text!r}: {unknown('objective', node.id, OBJECTIVES)}")
    kind = OBJECTIVES[node.id]
    types = {field.name: typing.get_type_hints(kind)[field.name] for field in dataclasses.fields(kind)}
    for name, value in options.items():
        if name not in types:
            raise ValueError(f"objective {text!r}: {unknown(f'option of {node.id}', name, types)}")
        if not fits(value, types[name]):
            expected = str(types[name]) if types[name] not in WORDS else WORDS[types[name]]
            raise ValueError(f"objective {text!r}: {name} of {node.id} is {value!r}, expected {expected}")
    objective = kind(**{name: float(value) if types[name] is float else value for name, value in options.items()})
    if problems := objective.problems():
        raise ValueError(f"objective {text!r}: {'; '.join(f'{node.id}: {problem}' for problem in problems)}")
    return Weighted(float(weight), objective)


WORDS: dict[Any, str] = {float: "a number", int: "a whole number", bool: "True or False", str: "a word"}


def fits(value: Any, kind: Any) -> bool:
    """Whether an option's value is of its type: str, int, float or bool; an int serves as a float."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def constant(node: ast.expr, text: str) -> Any:
    """A number or word, which may have a sign. A bare name is the word itself; true and false are YAML's."""
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}.get(node.id, node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise ValueError(f"objective {text!r}: expected a number or a word, found {ast.unparse(node)}") from None


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """A sentence about a name that is none of the known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    expected = f"expected one of {', '.join(known)}" if known else "there is none"
    advice = f"did you mean {close[0]}?" if close else expected
    return f"unknown {kind} {name!r}, {advice}"
