"""The states that objectives read: every view sent along its routes, those that can go together in one sweep.

Shape suffixes: N tokens of a view's rows, packed end to end; P predicted tokens; D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from veco.attention import PackedEnds, PackedMask, TokenClasses
from veco.masked_lm import VecoLMHead
from veco.model import VecoModel
from veco.objectives.objective import FULL, Objective, Prediction, Route, Sight
from veco.packing import PackedViews, Padding
from veco.views import View

LAST = -1


@dataclass(frozen=True)
class Batch:
    """A batch of views in front of the layers: its ids and labels are packed, and each token is embedded once."""

    encoder: VecoModel
    lm_head: VecoLMHead
    packed: PackedViews
    ids: Tensor
    labels: Tensor

    @classmethod
    def of(cls, encoder: VecoModel, lm_head: VecoLMHead, packed: PackedViews, views: Mapping[str, View]) -> Batch:
        ids, _, labels = zip(*views.values(), strict=True)
        return cls(encoder, lm_head, packed, packed.pick(ids), packed.pick(labels))

    def ids_of(self, view: str) -> Tensor:
        """Ids (N,) of a view's tokens."""
        return self.ids[self.packed.tokens(view)]

    def labels_of(self, view: str) -> Tensor:
        """Labels (N,) of a view's tokens; -100 where nothing is predicted."""
        return self.labels[self.packed.tokens(view)]

    def rows_of(self, view: str) -> Tensor:
        """The row of each of a view's tokens, int64 (N,)."""
        starts = self.packed.starts_of([view])
        places = torch.arange(self.packed.sizes.num_tokens(view), device=starts.device)
        return torch.bucketize(places, starts[1:], right=True)

    def positions_of(self, view: str) -> Tensor:
        """Position ids (N,) of a view's tokens, as the model embeds them."""
        return self.packed.positions[self.packed.tokens(view)] + self.encoder.config.pad_position

    def padding_of(self, view: str) -> Padding:
        """Padding behind a view's rows."""
        sizes = self.packed.sizes
        return Padding.behind(self.packed.starts_of([view]), max(sizes.lengths[view]), sizes.num_tokens(view))

    def embedded(self, objectives: Iterable[Objective], modules: Mapping[str, nn.Module]) -> Tensor:
        """Embeddings (N, D) of the tokens of all views, or what an objective puts in their place."""
        positions = self.packed.positions + self.encoder.config.pad_position
        embedded = self.encoder.embeddings(self.ids, positions)
        for objective in objectives:
            for view, tokens in objective.embedded(self, modules.get(objective.name)).items():
                part = self.packed.tokens(view)
                embedded = torch.cat([embedded[: part.start], tokens, embedded[part.stop :]])
        return embedded


@dataclass(frozen=True)
class Sweep:
    """Routes that go through the layers together: of one sight, and plugged in or out alike."""

    sight: Sight
    is_plugged_in: bool
    keys_learn: bool
    routes: tuple[Route, ...]

    @property
    def views(self) -> list[str]:
        return [route.view for route in self.routes]

    @property
    def keys(self) -> list[str]:
        return [route.keys for route in self.routes if route.keys is not None]


def sweeps_of(objectives: Iterable[Objective], views: Sequence[str]) -> list[Sweep]:
    """The sweeps that the routes of all objectives need, path H of full sight first; each route is in one, once.

    `views` are the batch's, in whose order those of a sweep on path H are.
    """
    wanted = [route for objective in objectives for route in objective.all_routes]
    read = [Route(route.keys) for route in wanted if route.keys is not None]
    found: dict[tuple[bool, Sight, bool], list[Route]] = {}
    for route in sorted(dict.fromkeys([*read, *wanted]), key=lambda route: views.index(route.view)):
        found.setdefault((route.keys is not None, route.sight, route.keys_learn), []).append(route)
    order = sorted(found, key=lambda group: (group[0], group[1] != FULL))
    return [
        Sweep(sight, plugged_in, learn, tuple(found[plugged_in, sight, learn])) for plugged_in, sight, learn in order
    ]


class States:
    """The states of a batch's views after the layers, by route."""

    def __init__(self, batch: Batch, objectives: Sequence[Objective], modules: Mapping[str, nn.Module]) -> None:
        """Send the views that `objectives` read through the layers; `modules` are their own parameters, by name."""
        self.batch = batch
        self.sweeps = sweeps_of(objectives, list(batch.packed.sizes.lengths))
        self.embedded = batch.embedded(objectives, modules)
        self._parts: dict[Route, slice] = {}
        self._swept: dict[Route, list[Tensor]] = {}
        for sweep in self.sweeps:
            readers = [objective for objective in objectives if set(objective.all_routes) & set(sweep.routes)]
            keep_all = any(objective.layers(batch.encoder.config) for objective in readers)
            swept = self._swept_by(sweep, readers, keep_all)
            end = 0
            for route in sweep.routes:
                start, end = end, end + batch.packed.sizes.num_tokens(route.view)
                self._parts[route] = slice(start, end)
                self._swept[route] = swept

    def of(self, route: Route, layer: int = LAST) -> Tensor:
        """States (N, D) of a route's view after a layer, 0 = the embeddings."""
        return self._swept[route][layer][self._parts[route]]

    def predicting(self, predictions: Sequence[Prediction]) -> tuple[Tensor, Tensor, list[Prediction]]:
        """States (P, D) and targets (P,) of all predicted tokens, and the predictions in the order that these have."""
        packed, states, places, ordered = self.batch.packed, [], [], []
        for sweep in self.sweeps:
            of_sweep = [p for route in sweep.routes for p in predictions if p.route == route]
            if not of_sweep:
                continue
            in_batch = [packed.predicted[packed.predictions(p.route.view)] for p in of_sweep]
            in_sweep = [
                found - shift if (shift := packed.tokens(p.route.view).start - self._parts[p.route].start) else found
                for p, found in zip(of_sweep, in_batch, strict=True)
            ]
            states.append(self._swept[of_sweep[0].route][LAST].index_select(0, torch.cat(in_sweep)))
            places += in_batch
            ordered += of_sweep
        if not ordered:
            return self.embedded[:0], self.batch.labels[:0], []
        return torch.cat(states), self.batch.labels.index_select(0, torch.cat(places)), ordered

    def _swept_by(self, sweep: Sweep, readers: Sequence[Objective], keep_all: bool) -> list[Tensor]:
        """The states of a sweep's tokens after its last layer, or with `keep_all` after each."""
        packed, encoder = self.batch.packed, self.batch.encoder
        lengths = lengths_of(packed, sweep.views)
        starts = packed.starts_of(sweep.views)
        classes = None if sweep.sight.attends_to is None else self._classes(sweep, readers)
        mask = PackedMask(lengths, lengths, sweep.sight.is_causal, PackedEnds(starts, starts), classes)
        embedded = tokens_of(self.embedded, packed, sweep.views)
        if not sweep.is_plugged_in:
            return encoder.sweep(embedded, mask, keep_all=keep_all)
        states = torch.cat([self.of(Route(view)) for view in sweep.keys])
        if not sweep.keys_learn:
            # Keys and values of x are the last H of y and vice versa, behind a stop-gradient (section 2.2):
            # no S loss reaches the H path of the other sequence.
            states = states.detach()
        ends = PackedEnds(starts, packed.starts_of(sweep.keys))
        pair_mask = PackedMask(lengths, lengths_of(packed, sweep.keys), ends=ends)
        return encoder.sweep(embedded, mask, states, pair_mask, keep_all=keep_all)

    def _classes(self, sweep: Sweep, readers: Sequence[Objective]) -> TokenClasses:
        of_routes = [
            next(reader for reader in readers if route in reader.all_routes).token_classes(route, self.batch)
            for route in sweep.routes
        ]
        assert sweep.sight.attends_to is not None
        return TokenClasses(torch.cat(of_routes), sweep.sight.attends_to)


def lengths_of(packed: PackedViews, views: Iterable[str]) -> tuple[int, ...]:
    """The lengths of all rows of these views."""
    return tuple(length for view in views for length in packed.sizes.lengths[view])


def tokens_of(tokens: Tensor, packed: PackedViews, views: Sequence[str]) -> Tensor:
    """Those of all tokens (N, ...) that are of these views, in their order."""
    parts = [packed.tokens(view) for view in views]
    if all(part.stop == after.start for part, after in pairwise(parts)):
        return tokens[parts[0].start : parts[-1].stop]
    return torch.cat([tokens[part] for part in parts])
