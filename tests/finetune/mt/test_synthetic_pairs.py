"""Pairs of a model's translations: what is kept and dropped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.input_lines import Block
from finetune.mt.decoding.translator import Hypothesis, Translator
from finetune.mt.synthetic_pairs import kept_pairs


def hypothesis(text: str, num_pieces: int) -> list[Hypothesis]:
    return [Hypothesis([4] * num_pieces, "", text, [], 0.0)]


def test_dropped_lines_are_counted(model_dir: Path) -> None:
    translator = Translator.load(model_dir, SearchOptions(beam=1, max_len_a=0, max_len_b=30), target_language="de")
    longest = " ".join(["haus"] * 60)
    lines = ["haus  baum", "", "haus", longest, "baum", "haus"]
    found = [hypothesis("house tree", 4), hypothesis("", 0), hypothesis("a a a a", 30)]
    found += [hypothesis("long", 30), hypothesis("", 1), hypothesis("a a a a a", 31)]
    dropped: Counter[str] = Counter()
    pairs = list(kept_pairs(Block(0, lines, None), found, translator, 3.0, dropped))
    assert pairs == [("haus baum", "house tree")]
    reasons = ("empty lines", "unequal lengths", "too long for the model", "empty translations")
    assert dropped == {**dict.fromkeys(reasons, 1), "as long as a translation may be": 1}
