"""Points of a map, against numpy, and a figure with its labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from analysis.parallel.vectors import ParallelVectors
from analysis.translations.sentence_map import Projection, map_of, projected, projection_named, write_maps


def test_pca_is_that_of_centred_unit_rows() -> None:
    """The principal components of all rows, up to their signs."""
    drawn = np.random.default_rng(0)
    states = {name: drawn.normal(size=(1, 12, 6)).astype(np.float32) + 3 for name in ("en", "de")}
    rows = np.array([1, 4, 5, 7, 11])
    found = map_of(ParallelVectors([5], states), 5, rows, Projection.PCA, centre=True, seed=1)
    parts = [x[0][rows] - x[0].mean(axis=0) for x in states.values()]
    x = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])
    x -= x.mean(axis=0)
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    assert np.abs(found.points) == pytest.approx(np.abs(u[:, :2] * singular[:2]), abs=1e-5)
    assert found.by_language["de"] == pytest.approx(found.points[5:])


def test_tsne_keeps_groups_apart_and_is_repeatable() -> None:
    drawn = np.random.default_rng(0)
    x = (np.repeat(np.eye(8)[:3], 20, axis=0) + 0.05 * drawn.normal(size=(60, 8))).astype(np.float32)
    points = projected(x, Projection.TSNE, seed=3)
    assert points == pytest.approx(projected(x, Projection.TSNE, seed=3))
    centres = points.reshape(3, 20, 2).mean(axis=1)
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert nearest.tolist() == np.repeat([0, 1, 2], 20).tolist()


def test_maps_have_all_points_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.figures.TEXT_IN_SVG", "none")
    drawn = np.random.default_rng(0)
    vectors = ParallelVectors([0, 2], {name: drawn.normal(size=(2, 9, 6)).astype(np.float32) for name in ("en", "de")})
    maps = [map_of(vectors, layer, np.array([2, 8]), Projection.PCA, False, 1) for layer in (0, 2)]
    write_maps(tmp_path, maps, {3: ("dog", "hund"), 12: ("house", "haus")}, Projection.PCA)
    with open(tmp_path / "map.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["line"], row["language"], row["sentence"]) for row in rows] == [
        (layer, *line)
        for layer in ("0", "2")
        for line in (("3", "en", "dog"), ("12", "en", "house"), ("3", "de", "hund"), ("12", "de", "haus"))
    ]
    assert np.array([[row["x"], row["y"]] for row in rows[4:]], dtype=float) == pytest.approx(maps[1].points)
    text = (tmp_path / "map.svg").read_text()
    labels = ("en", "de", "layer 0", "layer 2", "PCA, dimension 1", "PCA, dimension 2")
    assert all(f">{label}<" in text for label in labels)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_umap_is_the_default_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = "analysis.translations.sentence_map.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name: name)
    assert projection_named(None) is Projection.UMAP and projection_named("pca") is Projection.PCA
    monkeypatch.setattr(find, lambda name: None)
    assert projection_named(None) is Projection.TSNE
    with pytest.raises(ValueError, match="--projection umap: is not installed; pip install umap-learn, or choose tsne"):
        projection_named("umap")
