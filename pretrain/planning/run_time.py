"""Operations and seconds of an update, and days of a run."""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.planning.cards import Card
from pretrain.planning.workload import Workload

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class RunTime:
    """Of an update, the mean over the run and the kinds that take turns, and of all updates.

    `flops` are those of the mathematics; recomputed layers come on top in `seconds`.
    """

    flops: float
    seconds: float
    days: float


def run_time(
    workload: Workload, card: Card, precision: str, gpus: int, share_of_peak: float, recompute: bool
) -> RunTime:
    """The time on `gpus` cards that reach `share_of_peak` in what they compute; batches are as long as on average."""
    rate = gpus * card.peak_tflops[precision] * 1e12 * share_of_peak

    def of_an_update(recomputed: bool) -> float:
        of_run = sum(
            part.updates_of_a_kind * kind.batch_pairs * workload.flops(kind.average, recomputed)
            for part in workload.parts
            for kind in part.kinds.values()
        )
        return of_run / workload.recipe.total_steps

    seconds = of_an_update(recompute) / rate
    return RunTime(of_an_update(False), seconds, workload.recipe.total_steps * seconds / DAY_SECONDS)
