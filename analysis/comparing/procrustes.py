"""A rotation from one language's vectors to another's, learned on some pairs and tested on others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes

from analysis.comparing.retrieval import both_ways
from finetune.understanding.retrieval.matching import nearest_both_ways, unit_rows


@dataclass(frozen=True)
class Rotation:
    """Centre both sides, and rotate x onto y: unit(x - x_centre) W is near unit(y - y_centre)."""

    x_centre: np.ndarray
    y_centre: np.ndarray
    matrix: np.ndarray  # orthogonal, (D, D)

    @classmethod
    def learned(cls, x: np.ndarray, y: np.ndarray) -> Rotation:
        """The rotation with the least squared distance of the pairs of rows x, y (N, D) of length 1."""
        x_centre, y_centre = x.mean(axis=0), y.mean(axis=0)
        matrix, _ = orthogonal_procrustes(unit_rows(x - x_centre), unit_rows(y - y_centre))
        return cls(x_centre, y_centre, matrix)

    def centred(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both sides, centred and of length 1."""
        return unit_rows(x - self.x_centre), unit_rows(y - self.y_centre)


def rotated_accuracy(found: Rotation, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The accuracy of retrieval by cosine, both directions' mean: as they are, centred, and centred and rotated."""
    x_centred, y_centred = found.centred(x, y)
    versions = {
        "held_out": (unit_rows(x), unit_rows(y)),
        "held_out_centred": (x_centred, y_centred),
        "held_out_rotated": (x_centred @ found.matrix, y_centred),
    }
    neighbours = {name: nearest_both_ways(*sides, k=1) for name, sides in versions.items()}
    return {name: both_ways(*(way.indices[:, 0] for way in ways)) for name, ways in neighbours.items()}
