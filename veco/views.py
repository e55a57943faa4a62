"""Views of a batch of pairs: what an objective reads of each pair (x, y), as padded ids with mask and labels.

A batch has each view as three tensors, `input_ids`, `attention_mask` and `labels`, behind a prefix that names it: none
for masked x, `pair_` for masked y, and NAME_ for any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

X, Y = "x", "y"  # both sentences, or segments, of a pair, masked
TLM = "tlm"  # masked x and y, concatenated
NEXT_X, NEXT_Y = "next_x", "next_y"  # both as they are; their labels are the next tokens
CLEAN_X, CLEAN_Y = "clean_x", "clean_y"  # both as they are, without labels
NOISED_X, NOISED_Y = "noised_x", "noised_y"  # both with spans left out and sentences permuted, without labels
# What is to be written from x and from y, with the next tokens as labels: the other sentence of a translation, and in
# monolingual batches the segment itself.
TARGET_X, TARGET_Y = "target_x", "target_y"
JOINED_X, JOINED_Y = "joined_x", "joined_y"  # masked sentences of two pairs in a row, without labels
CLEAN_PAIR = "clean_pair"  # x and y as they are, concatenated, without labels
WORDS_X, WORDS_Y = "words_x", "words_y"  # both as they are; their labels are their own words
MASK_ONLY = "mask_only"  # as TLM, with <mask> at every predicted place
UNLIKE = "unlike"  # x and a sentence that is like y but does not translate x, concatenated, without labels
PSEUDO_X, PSEUDO_Y = "pseudo_x", "pseudo_y"  # masked x, or y, with as many <mask> behind it as it has words
CODE_MIXED = "code_mixed"  # one of both, with words of the other in the place of their translations, masked
NUMBERED_X, NUMBERED_Y = (
    "numbered_x",
    "numbered_y",
)  # both as they are; labels number the words of both
LINKS = "links"  # <s> and the first piece of each of these words; words of one label go together by a lexicon
PREFIXES = {X: "", Y: "pair_"}
FIELDS = ("input_ids", "attention_mask", "labels")


class View(NamedTuple):
    """Ids (R, T), attention mask (R, T; 1 = a token) and labels (R, T; -100 = not predicted) of a view's rows."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def prefix_of(view: str) -> str:
    """The prefix of a view's tensors in a batch."""
    return PREFIXES.get(view, f"{view}_")


def tensors_of(views: Mapping[str, View]) -> dict[str, Tensor]:
    """The tensors of views as a batch names them."""
    return {
        f"{prefix_of(name)}{field}": tensor
        for name, view in views.items()
        for field, tensor in zip(FIELDS, view, strict=True)
    }


def views_of(tensors: Mapping[str, Tensor | None]) -> dict[str, View]:
    """The views in a batch, in the order of their ids; those whose tensors are all None are not there.

    Raises ValueError for a view of which a tensor is missing, and for a tensor of no view.
    """
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    found: dict[str, View] = {}
    for name in given:
        field = next((field for field in FIELDS if name.endswith(field)), None)
        if field is None:
            raise ValueError(f"unexpected tensor {name}: a view's end with {', '.join(FIELDS)}")
        prefix = name.removesuffix(field)
        if missing := [f"{prefix}{other}" for other in FIELDS if f"{prefix}{other}" not in given]:
            raise ValueError(f"found {name} alone, expected {' and '.join(missing)} too")
        view = next((view for view, of_view in PREFIXES.items() if of_view == prefix), prefix.removesuffix("_"))
        found.setdefault(view, View(*(given[f"{prefix}{field}"] for field in FIELDS)))
    return found
