"""Write what docs/objectives.md shows of the objectives, between its marks: their costs, and what attends to what.

Both are seen, not told: each objective is computed once on a small batch, and its passes through the layers are noted.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from marks import page_with
from torch import Tensor

from data_tools.tokenizers.sentence_piece import BOS_ID, EOS_ID, FIRST_PIECE_ID
from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.batches import batch_of
from pretrain.course import options_of
from pretrain.micro_batch import SAMPLES
from pretrain.models.teacher import teach
from pretrain.momentum import modules_with_momentum
from pretrain.recipe import PretrainRecipe
from pretrain.views.pair import Sample
from pretrain.words.lexicons import Lexicons
from pretrain.words.pieces import WordPieces
from training.step import Batch
from veco import VecoConfig, VecoForPreTraining
from veco.attention import PackedMask
from veco.labels import IGNORED
from veco.model import VecoModel
from veco.objectives.distil import Distillation
from veco.objectives.objective import BILINGUAL, MONO, Objective
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.teacher import Teacher
from veco.objectives.states import Sweep, sweeps_of
from veco.objectives.table import OBJECTIVES
from veco.packing import PackedViews
from veco.pretraining import DEFAULT_OBJECTIVE
from veco.views import FIELDS, LINKS, NUMBERED_X, NUMBERED_Y, prefix_of

PAGE = Path(__file__).resolve().parent / "objectives.md"
ALPHABET = string.ascii_letters
VOCAB_SIZE = FIRST_PIECE_ID + len(ALPHABET) + 1
SIGNS = {BOS_ID: "<", EOS_ID: ">", VOCAB_SIZE - 1: "_"}
TEXTS = ("abcd", "XYZ")  # the pair of the pictures
NUM_WORDS = 30  # of each sentence where costs are counted
NUMBERED = (NUMBERED_X, NUMBERED_Y, LINKS)  # views whose labels are numbers of words, or of groups
FIRST = ["first, without gradient"]  # title of a pass that makes up what the others read
KINDS = {(MONO, BILINGUAL): "text, pairs", (BILINGUAL,): "pairs", (MONO,): "text"}
# Many layers, since some objectives read one in the middle.
CONFIG = VecoConfig(
    **{"vocab_size": VOCAB_SIZE, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8},
    **{"max_position_embeddings": 4 * NUM_WORDS, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
)


class Pass(NamedTuple):
    """One pass of packed tokens through layers, of the model or, for an objective, of another encoder that it has.

    It has the number of tokens, and the masks of self- and cross-attention.
    """

    is_of_model: bool
    num_tokens: int
    mask: PackedMask
    pair_mask: PackedMask | None


def kind_of(objective: ObjectiveSum) -> str:
    """The kind of batch that an objective is shown with: pairs, if it is for them."""
    return BILINGUAL if objective.of_kind(BILINGUAL).parts else MONO


def small_batch(objective: str, kind: str, texts: Sequence[str], pairs: int = 4) -> Batch:
    """A batch of pairs of these texts, whose letters are tokens; every token that is predicted is masked."""
    recipe = PretrainRecipe(output="x", objective=objective, contrast_pairs=pairs)
    options = options_of(dataclasses.replace(recipe, mask_token_share=1.0, random_token_share=0.0))
    x, y = (np.array([FIRST_PIECE_ID + ALPHABET.index(letter) for letter in text]) for text in texts)
    name = "de-en" if kind == BILINGUAL else "en"
    samples = [Sample(0, name, number, x, y, 0, key=number) for number in range(pairs)]
    # Words of two pieces, more or less, of which no lexicon has any: what attends to what does not depend on it.
    no_lexicon = Lexicons(WordPieces(np.arange(VOCAB_SIZE) % 2 == 0, np.zeros(VOCAB_SIZE, bool)))
    return batch_of(kind, samples, options, SpecialIds.xlm_r(VOCAB_SIZE), VOCAB_SIZE, no_lexicon)


def passes_of(objective: str, batch: Batch) -> list[Pass]:
    """The passes through the layers that an objective makes of a batch."""
    torch.manual_seed(0)
    model = VecoForPreTraining(CONFIG, objective).eval()
    for module in modules_with_momentum(model).values():
        module.begin(model.veco)
    if learning := [part for part in model.objective if isinstance(part, Distillation)]:
        teach(model, Teacher(VecoForPreTraining(CONFIG, "mlm")), learning)
    with patch.object(VecoModel, "sweep", autospec=True, side_effect=VecoModel.sweep) as sweep:
        model(**{name: value for name, value in batch.items() if name != SAMPLES})
    return [
        Pass(encoder is model.veco, len(states), mask, crossed[1] if crossed else None)
        for encoder, states, mask, *crossed in (call.args for call in sweep.call_args_list)
    ]


def visible(mask: PackedMask) -> Tensor:
    """Which keys each query attends to, bool (N, M): whose values are in its context where all weigh the same."""
    queries, keys = (torch.zeros(sum(lengths), 1, 1) for lengths in (mask.query_lengths, mask.key_lengths))
    return mask.attend(queries, keys, torch.eye(len(keys)).unsqueeze(1), 0.0, "eager").squeeze(1) > 0


def picture(name: str) -> str:
    """What attends to what in the first pair, for the first route of each pass."""
    objective = ObjectiveSum.of(name)
    batch = small_batch(name, kind_of(objective), TEXTS)
    packed: PackedViews = batch["packed"]
    passes = [found for found in passes_of(name, batch) if found.is_of_model]
    sweeps = sweeps_of(list(objective), list(packed.sizes.lengths))
    extra = passes[: len(passes) - len(sweeps)]  # those of an objective that first makes up what it reads
    first = [block(batch, FIRST, objective.views, None, found) for found in extra]
    blocks = [
        block(batch, titles(sweep), sweep.views, sweep.keys or None, found)
        for sweep, found in zip(sweeps, passes[len(first) :], strict=True)
    ]
    return "\n".join(["```text", "\n\n".join(first + blocks), "```"])


def titles(sweep: Sweep) -> list[str]:
    """A line about each route of a sweep."""
    path = "S" if sweep.is_plugged_in else "H"
    note = "" if sweep.keys_learn else " (stop-gradient)"
    told = [f"{route.view}, reading {route.keys}{note}" if route.keys else route.view for route in sweep.routes]
    return [f"path {path}: {told[0]}", *(f"  so too {other}" for other in told[1:])]


def block(batch: Batch, title: Sequence[str], views: Sequence[str], keys: Sequence[str] | None, found: Pass) -> str:
    """The first row of the first view as a matrix: a line for each token, with what it attends to and predicts."""
    shown, labels = tokens_of(batch, views[0])
    if title == FIRST:  # whose tokens are not hidden, nor predicted
        shown, labels = [label or token for token, label in zip(shown, labels, strict=True)], [""] * len(shown)
    columns = [shown]
    matrices = [visible(found.mask)[: len(shown), : len(shown)]]
    if keys is not None and found.pair_mask is not None:
        columns.append(tokens_of(batch, keys[0])[0])
        matrices.append(visible(found.pair_mask)[: len(shown), : len(columns[1])])
    lines = [*title, "    " + "   ".join(" ".join(of_keys) for of_keys in columns)]
    for row, (token, label) in enumerate(zip(shown, labels, strict=True)):
        cells = "   ".join(" ".join("■" if sees else "·" for sees in matrix[row].tolist()) for matrix in matrices)
        lines.append(f"  {token} {cells}{f'   → {label}' if label else ''}")
    return "\n".join(lines)


def tokens_of(batch: Batch, view: str) -> tuple[list[str], list[str]]:
    """The tokens of the first row of a view, and its labels, empty where no piece is predicted."""
    ids, mask, labels = (batch[f"{prefix_of(view)}{field}"][0] for field in FIELDS)
    count = int(mask.sum())
    return (
        [letter(i) for i in ids[:count].tolist()],
        ["" if i == IGNORED or view in NUMBERED else letter(i) for i in labels[:count].tolist()],
    )


def letter(token: int) -> str:
    return SIGNS[token] if token in SIGNS else ALPHABET[token - FIRST_PIECE_ID]


class Cost(NamedTuple):
    """Passes through the layers, and the tokens that go through them for each token of x and y."""

    sweeps: int
    tokens: float

    @classmethod
    def of(cls, objective: str, kind: str) -> Cost:
        texts = ((ALPHABET * 2)[:NUM_WORDS],) * 2
        batch = small_batch(objective, kind, texts)
        passes = passes_of(objective, batch)
        num_tokens = sum(found.num_tokens for found in passes)
        return cls(len(passes), num_tokens / (2 * len(batch[SAMPLES]) * (NUM_WORDS + 2)))

    def __str__(self) -> str:
        return f"{self.sweeps} · {self.tokens:.2g}"


def cost_table() -> str:
    """A row for each objective."""
    rows = [
        f"| objective | for | reads | alone: sweeps · tokens | with {DEFAULT_OBJECTIVE}, by itself "
        f"{Cost.of(DEFAULT_OBJECTIVE, BILINGUAL)} | parameters of its own, at XLM-R base's width |",
        "|---|---|---|---|---|---|",
        *(f"| [`{name}`](#{name}) | {' | '.join(cells(name, kind()))} |" for name, kind in OBJECTIVES.items()),
    ]
    return "\n".join(rows)


def cells(name: str, objective: Objective) -> list[str]:
    """The cells of an objective with its default options."""
    kind = kind_of(ObjectiveSum.of(name))
    base = ObjectiveSum.of(DEFAULT_OBJECTIVE).of_kind(kind)
    terms = {term.name for term in base.terms}
    added = (
        "—" if terms & {term.name for term in objective.terms} else str(Cost.of(f"{DEFAULT_OBJECTIVE}+{name}", kind))
    )
    with torch.device("meta"):
        module = objective.module(VecoConfig())
    own = 0 if module is None else sum(weight.numel() for weight in module.parameters())
    views = ", ".join(objective.views)
    read = ", ".join([KINDS[objective.kinds], *(f"a {need}" for need in objective.needs)])
    return [read, views, str(Cost.of(name, kind)), added, f"{own:,}" if own else "—"]


def option_table() -> str:
    """A row for each objective that has options: their names and defaults, as a recipe writes them."""
    rows = ["| objective | options and their defaults |", "|---|---|"]
    for name, kind in OBJECTIVES.items():
        if options := [f"`{field.name}={field.default}`" for field in dataclasses.fields(kind)]:
            rows.append(f"| [`{name}`](#{name}) | {', '.join(options)} |")
    return "\n".join(rows)


def page_with_objectives(page: str) -> str:
    """The page with the table, and each objective's picture, made anew. Raises ValueError for one without marks."""
    page = page_with(page, "costs", cost_table(), PAGE.name)
    page = page_with(page, "options", option_table(), PAGE.name)
    for name in OBJECTIVES:
        page = page_with(page, name, picture(name), PAGE.name)
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_objectives(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
