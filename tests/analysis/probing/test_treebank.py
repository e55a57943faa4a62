"""Trees from CoNLL-U: distances and depths by hand and by walking, and what is refused."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from planted_trees import random_tree, write_conllu

from analysis.probing.treebank import Punctuation, Tree, read_trees


def row(number: object, head: object, upos: str = "NOUN", xpos: str = "NN") -> str:
    return f"{number}\tword\t_\t{upos}\t{xpos}\t_\t{head}\t_\t_\t_"


def test_distances_and_depths_by_hand() -> None:
    """`the dog chased a cat`: chased is the root, dog and cat hang on it, and their articles on them."""
    tree = Tree(["the", "dog", "chased", "a", "cat"], ["X"] * 5, ["X"] * 5, np.array([1, 2, -1, 4, 2]))
    assert tree.depths().tolist() == [2, 1, 0, 2, 1]
    assert tree.distances().tolist() == [
        [0, 1, 2, 4, 3],
        [1, 0, 1, 3, 2],
        [2, 1, 0, 2, 1],
        [4, 3, 2, 0, 1],
        [3, 2, 1, 1, 0],
    ]


def walked(tree: Tree, start: int) -> list[int]:
    """The distances from a word, by breadth-first search over undirected edges."""
    found, queue = {start: 0}, deque([start])
    while queue:
        word = queue.popleft()
        around = [other for other in range(len(tree)) if tree.heads[other] == word or tree.heads[word] == other]
        for other in around:
            if other not in found:
                found[other] = found[word] + 1
                queue.append(other)
    return [found[word] for word in range(len(tree))]


@pytest.mark.parametrize("num_words", [1, 2, 9, 30])
def test_distances_are_those_of_walks(num_words: int) -> None:
    tree = random_tree(np.random.default_rng(num_words), num_words)
    assert tree.distances().tolist() == [walked(tree, start) for start in range(num_words)]
    root = int(np.flatnonzero(tree.heads == -1)[0])
    assert tree.depths().tolist() == walked(tree, root)


def test_multi_word_tokens_and_empty_nodes_are_no_words(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    trees = [random_tree(drawn, num_words) for num_words in (3, 7, 2)]
    write_conllu(tmp_path / "x.conllu", trees)
    found = list(read_trees(tmp_path / "x.conllu"))
    assert [tree.words for tree in found] == [tree.words for tree in trees]
    assert all((one.heads == other.heads).all() for one, other in zip(found, trees, strict=True))


def test_punctuation_by_either_tag() -> None:
    tree = Tree(["a", "(", "b", "."], ["X", "PUNCT", "X", "PUNCT"], ["NN", "(", "-LRB-", "."], np.array([-1, 0, 0, 0]))
    assert tree.is_kept(Punctuation.UPOS).tolist() == [True, False, True, False]
    assert tree.is_kept(Punctuation.XPOS).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row(1, 0), row(2, 0)], "line 3: the sentence that ends here: expected one word whose head is 0, found 2"),
        ([row(1, 2), row(2, 1), row(3, 0)], "its heads form a circle"),
        ([row(1, 0), row(2, 3)], "expected heads from 0 to 2 in column 7, found '3'"),
        ([row(1, 0), row(2, "_")], "expected heads from 0 to 2 in column 7, found '_'"),
        ([row(1, 0), row(3, 1)], "expected words numbered from 1"),
        (["1\tword\tNOUN"], "expected 10 columns separated by tabs, found 3"),
        ([], "empty; expected sentences in CoNLL-U"),
    ],
)
def test_what_is_no_tree_is_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("".join(f"{line}\n" for line in [*lines, ""]))
    with pytest.raises(ValueError, match=message):
        list(read_trees(tmp_path / "x"))


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="needs the corpora")
@pytest.mark.parametrize(
    ("name", "num_trees", "num_words"), [("ewt/dev", 2001, 25147), ("ewt/test", 2077, 25094), ("pud/zh", 1000, 21415)]
)
def test_published_treebanks_have_the_published_size(name: str, num_trees: int, num_words: int) -> None:
    trees = list(read_trees(Path(os.environ["VECO_CORPORA"]) / "probe" / f"{name}.conllu.gz"))
    assert len(trees) == num_trees and sum(map(len, trees)) == num_words
    assert any(not tree.is_kept(Punctuation.UPOS).all() for tree in trees)
