"""Random trees, CoNLL-U files of them, and states in which their distances are planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.probing.treebank import ROOT, Tree

WORDS = ("dog", "house", "tree", "red", "water", "bread", "bird", "stone", "night", "milk")
TAGS = ("NOUN", "NOUN", "NOUN", "ADJ", "NOUN", "NOUN", "NOUN", "NOUN", "ADV", "NOUN")


def random_tree(drawn: np.random.Generator, num_words: int) -> Tree:
    """A tree whose words come in a random order; a last word `.` is punctuation."""
    order = drawn.permutation(num_words)
    heads = np.full(num_words, ROOT)
    for place in range(1, num_words):
        heads[order[place]] = order[drawn.integers(place)]
    chosen = drawn.integers(len(WORDS), size=num_words)
    words, upos = [WORDS[one] for one in chosen], [TAGS[one] for one in chosen]
    if num_words > 2 and not (heads == num_words - 1).any() and heads[-1] != ROOT:
        words[-1], upos[-1] = ".", "PUNCT"
    return Tree(words, upos, ["." if tag == "PUNCT" else "X" for tag in upos], heads)


def planted_states(tree: Tree, width: int) -> np.ndarray:
    """(words, width): a direction for each edge, added up from the root, so that squared distances count edges."""
    below_root = [word for word in range(len(tree)) if tree.heads[word] != ROOT]
    directions = np.zeros((len(tree), width))
    directions[below_root, np.arange(len(below_root))] = 1
    return tree.ancestors().astype(float) @ directions


def write_conllu(path: Path, trees: list[Tree]) -> None:
    """Write trees with what CoNLL-U has besides: comments, a multi-word token, an empty node."""
    lines = []
    for number, tree in enumerate(trees):
        lines += [f"# sent_id = {number}", f"1-2\t{tree.words[0]}x" + "\t_" * 8]
        for word, (form, upos, xpos, head) in enumerate(zip(tree.words, tree.upos, tree.xpos, tree.heads, strict=True)):
            lines.append(f"{word + 1}\t{form}\t_\t{upos}\t{xpos}\t_\t{head + 1}\t_\t_\t_")
        lines += ["1.1\tnothing" + "\t_" * 8, ""]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
