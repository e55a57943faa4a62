"""Which samples an update has. Inside a stretch of updates samples are drawn alike, and the next one goes on from it.

The samples of a kind of batch are numbered through the whole run, and so are the draws of each language: a language
whose share changes is still seen through before any of its samples is seen again. What a stretch begins with follows
from the lengths of those before it, not from their updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pretrain.sampling import LanguageOrder, smoothed_probabilities
from pretrain.sources import Source
from pretrain.views.pair import Sample
from training.random_order import mix, walk


@dataclass(frozen=True)
class Group:
    """A language or pair of a stretch: its source, its sentences, its number among those of its kind in the data."""

    source: Source
    sentences: int
    number: int


class KindOfBatch:
    """The languages or pairs of one kind of batch in a stretch of updates, and the order in which samples come."""

    def __init__(
        self,
        groups: Mapping[str, Group],
        alpha: float,
        key: int,
        first: int = 0,
        drawn: Mapping[str, int] | None = None,
    ) -> None:
        """`first` is the number of the stretch's first sample, `drawn` how often each group was drawn before it."""
        self.groups = groups
        self.key = key
        self.first = first
        self.probabilities = smoothed_probabilities({name: group.sentences for name, group in groups.items()}, alpha)
        self.schedule = LanguageOrder(self.probabilities, key)
        # The order's own numbering of draws is that of a run with this stretch alone.
        by_order = self.schedule.draws_before(first)
        self.ahead = {name: (drawn or {}).get(name, 0) - count for name, count in by_order.items()}

    def name(self, number: int) -> str:
        """The language or pair of the `number`-th sample."""
        return self.schedule[number][0]

    def sample(self, number: int, first_group: int) -> Sample:
        """The `number`-th sample of the endless sequence; groups are counted from `first_group` on."""
        name, draw = self.schedule[number]
        group = self.groups[name]
        place = walk(draw + self.ahead[name], len(group.source), mix(self.key, group.number))
        return group.source[place].sample(first_group + group.number, name, number, mix(self.key, number))

    def draws_before(self, number: int) -> dict[str, int]:
        """How often each of its groups is drawn in the run before its sample `number`."""
        return {name: count + self.ahead[name] for name, count in self.schedule.draws_before(number).items()}


@dataclass(frozen=True)
class Stretch:
    """Updates from `begin` on that draw alike: kinds of batches in turn, and the pairs of a global batch of each."""

    begin: int
    kinds: Mapping[str, KindOfBatch]
    batch_pairs: Mapping[str, int]

    def kind_of(self, step: int) -> str:
        """The kind of batch of update `step`."""
        kinds = list(self.kinds)
        return kinds[step % len(kinds)]

    def first_sample(self, kind: str, step: int) -> int:
        """The number of the first sample of that kind in update `step`, or in the next one that has the kind."""
        count, place = len(self.kinds), list(self.kinds).index(kind)

        def updates_before(update: int) -> int:
            return (update + count - 1 - place) // count

        made = updates_before(step) - updates_before(self.begin)
        return self.kinds[kind].first + made * self.batch_pairs[kind]
