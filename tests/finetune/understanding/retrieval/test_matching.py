"""Retrieval against whole matrices: neighbours, CSLS, margin, mining, thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.understanding.metrics.scoring import score
from finetune.understanding.retrieval import matching
from finetune.understanding.retrieval.matching import (
    NEIGHBOURS,
    MinedPairs,
    Similarity,
    best_matches,
    centred_by,
    mine,
    mine_set,
    named,
    nearest,
    nearest_both_ways,
    prepare,
    ranked_matches,
    tuned_threshold,
    unit_rows,
)
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.examples import RetrievalSet

TASKS = catalogue_named(XTREME).tasks

ROUNDING = 2e-6  # of float32 dot products added up in another order


def embeddings(num_source: int, num_target: int, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(rows, width)).astype(np.float32) for rows in (num_source, num_target))
    return prepare(x, y)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks each way, the last ones smaller, one narrower than k."""
    monkeypatch.setattr(matching, "BLOCK_ROWS", 16)
    monkeypatch.setattr(matching, "BLOCK_COLUMNS", 12)


def whole(x: np.ndarray, y: np.ndarray, similarity: Similarity, k: int) -> np.ndarray:
    """All similarities (N, M), from sorted rows and columns."""
    cosine = x.astype(np.float64) @ y.T.astype(np.float64)
    own = np.sort(cosine, axis=1)[:, -k:].mean(axis=1)[:, None]
    other = np.sort(cosine, axis=0)[-k:].mean(axis=0)[None, :]
    if similarity is Similarity.COSINE:
        return cosine
    return 2 * cosine - own - other if similarity is Similarity.CSLS else cosine / ((own + other) / 2)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("num_source", "num_target"), [(50, 61), (33, 25), (5, 40)])
def test_neighbours_are_those_of_the_whole_matrix(num_source: int, num_target: int) -> None:
    x, y = embeddings(num_source, num_target)
    cosine = x.astype(np.float64) @ y.T.astype(np.float64)
    forward, backward = nearest_both_ways(x, y, 4)
    for found, scores in ((forward, cosine), (backward, cosine.T), (nearest(x, y, 4), cosine)):
        order = np.argsort(-scores, axis=1)[:, :4]
        np.testing.assert_array_equal(found.indices, order)
        np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, axis=1), atol=ROUNDING)
    bias = np.random.default_rng(1).normal(size=num_target).astype(np.float32)
    np.testing.assert_array_equal(nearest(x, y, 1, bias).indices[:, 0], (cosine + bias).argmax(axis=1))


def test_fewer_rows_than_neighbours() -> None:
    x, y = embeddings(3, 2)
    assert nearest(x, y, 10).indices.shape == (3, 2)
    assert len(best_matches(x, y, Similarity.CSLS)) == 3


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("similarity", Similarity)
def test_best_matches_are_those_of_the_whole_matrix(similarity: Similarity) -> None:
    x, y = embeddings(60, 60, seed=2)
    k = 60 if similarity is Similarity.MARGIN else 5  # so that the margin, too, is compared with all
    np.testing.assert_array_equal(best_matches(x, y, similarity, k), whole(x, y, similarity, k).argmax(axis=1))


def test_csls_and_margin_avoid_hubs() -> None:
    """By hand, in the plane: target 0 is 30 and 20 degrees from the sources, target 1 is 75 and 25 degrees from them.

    By cosine both sources choose target 0. Its mean cosine r is (.866 + .940) / 2 = .903, that of target 1 is
    (.259 + .906) / 2 = .583, so CSLS has for source 1: 2 x .940 - .903 = .977 against 2 x .906 - .583 = 1.230.
    """
    x, y = (np.array([[np.cos(t), np.sin(t)] for t in np.radians(a)], np.float32) for a in ([0, 50], [30, 75]))
    np.testing.assert_array_equal(best_matches(x, y, Similarity.COSINE), [0, 0])
    np.testing.assert_array_equal(best_matches(x, y, Similarity.CSLS, k=2), [0, 1])
    np.testing.assert_array_equal(best_matches(x, y, Similarity.MARGIN, k=2), [0, 1])


def oracle_pairs(x: np.ndarray, y: np.ndarray, similarity: Similarity, k: int) -> list[tuple[int, int]]:
    """The best of each row and of each column among the k nearest, then the best pair again and again."""
    cosine, scores = whole(x, y, Similarity.COSINE, k), whole(x, y, similarity, k)
    rows = {(i, max(np.argsort(-cosine[i])[:k], key=lambda j: scores[i, j])) for i in range(len(x))}
    columns = {(max(np.argsort(-cosine[:, j])[:k], key=lambda i: scores[i, j]), j) for j in range(len(y))}
    left = {(int(i), int(j)) for i, j in rows | columns}
    taken = []
    while left:
        best = max(left, key=lambda pair: scores[pair])
        taken.append(best)
        left = {pair for pair in left if pair[0] != best[0] and pair[1] != best[1]}
    return taken


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("similarity", Similarity)
def test_mining_takes_the_best_pairs_one_to_one(similarity: Similarity) -> None:
    x, y = embeddings(40, 55, seed=3)
    found = mine(x, y, similarity, k=4)
    assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == oracle_pairs(x, y, similarity, 4)
    assert (np.diff(found.scores) <= 0).all()
    expected = whole(x, y, similarity, 4)[found.source, found.target]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-5)


def sentences(source: list[str], target: list[str], gold: set[tuple[str, str]] | None) -> RetrievalSet:
    source_ids, target_ids = (
        [f"{side}{i}" for i in range(len(texts))] for side, texts in (("s", source), ("t", target))
    )
    return RetrievalSet("de", source_ids, source, target_ids, target, None if gold is None else frozenset(gold))


def test_repeated_sentences_are_in_no_pair() -> None:
    """Neither where the source comes twice, nor where its translation does."""
    x, _ = embeddings(5, 5)
    x[3] = x[1]
    twice, once = ["a", "b", "c", "b", "d"], ["A", "B", "C", "E", "D"]
    for source, target in ((twice, once), (once, twice)):
        texts = sentences(source, target, None)
        found = named(mine_set(texts, x, x, Similarity.COSINE), texts, -1.0)
        assert found == {("s0", "t0"), ("s2", "t2"), ("s4", "t4")}
    texts = sentences(twice, twice, None)
    with pytest.raises(ValueError, match="4 source embeddings for 5 sentences"):
        mine_set(texts, x[:4], x, Similarity.COSINE)


def test_the_threshold_by_hand() -> None:
    """Right, right, wrong, right, wrong of 4 gold: F1 2/5, 4/6, 4/7, 6/8, 6/9. Half-way from the fourth to the next."""
    pairs = MinedPairs(np.arange(5), np.array([0, 1, 4, 3, 2]), np.array([0.9, 0.8, 0.7, 0.5, 0.2], dtype=np.float32))
    dev = sentences(list("abcdef"), list("ABCDEF"), {("s0", "t0"), ("s1", "t1"), ("s3", "t3"), ("s5", "t5")})
    threshold = tuned_threshold(pairs, dev)
    assert threshold == pytest.approx(0.35)
    found = named(pairs, dev, threshold)
    assert score(TASKS["bucc2018"], dev.gold, found, "de")["f1"] == pytest.approx(75)


def test_the_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        scores = np.sort(rng.normal(size=30).astype(np.float32))[::-1].copy()
        pairs = MinedPairs(np.arange(30), rng.permutation(30), scores)
        dev = sentences(
            ["a"] * 30, ["b"] * 30, {(f"s{i}", f"t{pairs.target[i]}") for i in range(0, 30, 3)} | {("s", "t")}
        )
        f1 = [score(TASKS["bucc2018"], dev.gold, named(pairs, dev, t), "de")["f1"] for t in [*scores, np.inf]]
        tuned = score(TASKS["bucc2018"], dev.gold, named(pairs, dev, tuned_threshold(pairs, dev)), "de")["f1"]
        assert tuned == pytest.approx(max(f1))


def test_the_threshold_without_a_right_pair_or_without_gold() -> None:
    pairs = MinedPairs(np.array([0]), np.array([1]), np.array([0.5], dtype=np.float32))
    assert tuned_threshold(pairs, sentences(["a", "b"], ["A", "B"], {("s0", "t0")})) == 0
    assert tuned_threshold(pairs, sentences(["a", "b"], ["A", "B"], {("s0", "t1")})) == 0.5
    with pytest.raises(ValueError, match="dev set in 'de' has no gold pairs"):
        tuned_threshold(pairs, sentences(["a"], ["A", "B"], None))


def test_centring_and_whitening() -> None:
    rng = np.random.default_rng(5)
    mixing = np.linalg.qr(rng.normal(size=(6, 6)))[0] * np.arange(1, 7)
    x, y = ((rng.normal(size=(4000, 6)) @ mixing + mean).astype(np.float32) for mean in (3, -2))
    plain = prepare(x, y)
    np.testing.assert_allclose(np.linalg.norm(plain[0], axis=1), 1, rtol=1e-5)
    centred = matching.prepare(x, y, centre=True)
    np.testing.assert_allclose(np.linalg.norm(centred[1], axis=1), 1, rtol=1e-5)
    assert np.abs(centred[0].mean(axis=0)).max() < 0.1 < np.abs(plain[0].mean(axis=0)).max()
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    whitening = matching.whitening_of(x, y)
    np.testing.assert_allclose(whitening, whitening.T, atol=1e-6)
    both = np.concatenate([x, y]) @ whitening
    # But for the ridge, a thousandth of the mean variance of 15, beside a least one of 1.
    np.testing.assert_allclose(np.cov(both.T, bias=True), np.eye(6), atol=0.02)
    assert not np.allclose(prepare(x, y, whiten=True)[0], prepare(x, y, centre=True)[0], atol=0.01)


def test_translations_behind_a_shift_are_found_by_centring() -> None:
    """Both sides share what they mean; a vector of the language, added to one side alone, hides it."""
    rng = np.random.default_rng(6)
    meaning = rng.normal(size=(200, 16)).astype(np.float32)
    language = 5 * rng.normal(size=16).astype(np.float32)
    noise = 0.6 * rng.normal(size=(200, 16)).astype(np.float32)
    right = np.arange(200)
    plain = np.mean(best_matches(*prepare(meaning, meaning + language + noise), Similarity.COSINE) == right)
    centred = np.mean(
        best_matches(*prepare(meaning, meaning + language + noise, centre=True), Similarity.COSINE) == right
    )
    assert centred > 0.9 > plain


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3), np.float32), "source embeddings: expected float32"),
        (np.zeros((2, 3), np.float32), np.zeros((0, 3), np.float32), "target embeddings: expected float32"),
        (
            np.zeros((2, 3), np.float32),
            np.full((2, 3), np.nan, np.float32),
            "target embeddings: not all values are finite",
        ),
        (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32), "width 3 and 4 cannot be compared"),
    ],
)
def test_bad_embeddings_are_refused(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(x, y)


def test_a_row_of_zeros_stays() -> None:
    x, _ = prepare(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(x, np.zeros((1, 3)))


@pytest.mark.parametrize("similarity", Similarity)
def test_ranked_matches_are_those_of_all_similarities_in_order(similarity: Similarity) -> None:
    """The best of each row by a full table; the margin is compared among the `count` nearest by cosine."""
    drawn = np.random.default_rng(3)
    x, y = (unit_rows(drawn.normal(size=(rows, 6)).astype(np.float32)) for rows in (15, 40))
    k, count = NEIGHBOURS[similarity], 9
    cosines = x @ y.T
    own = np.sort(cosines, axis=1)[:, -k:].mean(axis=1)[:, None]
    other = np.sort(cosines, axis=0)[-k:].mean(axis=0)
    table = {
        Similarity.COSINE: cosines,
        Similarity.CSLS: 2 * cosines - own - other,
        Similarity.MARGIN: np.where(
            cosines >= np.sort(cosines, axis=1)[:, [-count]], cosines / ((own + other) / 2), -np.inf
        ),
    }[similarity]
    assert ranked_matches(x, y, similarity, count).tolist() == np.argsort(-table, axis=1)[:, :count].tolist()
    assert ranked_matches(x, y, similarity, 99).shape == (15, 40), "all there are"


def test_centring_by_group_takes_away_what_its_rows_share() -> None:
    x = np.array([[1, 2], [3, 2], [7, 7]], dtype=np.float32)
    assert centred_by(x, ["de", "de", "th"]).tolist() == [[-1, 0], [1, 0], [0, 0]]
