"""Which words of a text are drawn: by the seed and their place, the same for all tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from xtreme_files import GERMAN

from analysis.masking.lines import MaskedText, is_cut_alike
from finetune.encoders import open_encoder
from finetune.understanding.rows.encoding import LocatedPieces, TextEncoder, text_encoder

WORDS = list(GERMAN)
LINES = [" ".join(np.random.default_rng(number).choice(WORDS, 12)) for number in range(100)]


@pytest.fixture
def encoders(tiny_model: Path, encoder_directory: Callable[[str], Path]) -> list[TextEncoder]:
    directories = [tiny_model, encoder_directory("bert"), encoder_directory("modernbert")]
    return [text_encoder(open_encoder(directory, "model")) for directory in directories]


def text_of(path: Path, encoders: Sequence[TextEncoder], longest: int = 100, seed: int = 1) -> MaskedText:
    return MaskedText(path, encoders, [longest] * len(encoders), 0.15, seed, most_lines=None)


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def drawn(text: MaskedText) -> dict[int, list[int]]:
    return {line.number: np.flatnonzero(line.is_drawn).tolist() for line in text}


def test_the_same_words_are_drawn_for_all_tokenizers(encoders: list[TextEncoder], tmp_path: Path) -> None:
    path = write(tmp_path / "text", LINES)
    together = drawn(text_of(path, encoders))
    assert [drawn(text_of(path, [encoder])) for encoder in encoders] == [together] * 3
    assert sum(map(len, together.values())) / (12 * 100) == pytest.approx(0.15, abs=0.03)
    assert drawn(text_of(path, encoders, seed=2)) != together
    # What comes before or after a line does not matter, but for its number.
    shortened = write(tmp_path / "shortened", ["", *LINES[1:50]])
    assert drawn(text_of(shortened, encoders)) == {number: together[number] for number in range(1, 50)}


def test_masked_pieces_are_those_of_the_drawn_words(encoders: list[TextEncoder], tmp_path: Path) -> None:
    for line in text_of(write(tmp_path / "text", LINES[:20]), encoders):
        words = [LINES[line.number].split()[unit] for unit in np.flatnonzero(line.is_drawn)]
        for encoder, pieces, units in zip(encoders, line.pieces, line.units, strict=True):
            found = encoder.tokenizer.decode(pieces[line.is_drawn[units]])
            assert found.replace(" ", "") == "".join(words)
        assert line.characters[line.is_drawn].tolist() == [len(word) for word in words]


def test_lines_too_long_for_one_model_are_left_out_for_all(encoders: list[TextEncoder], tmp_path: Path) -> None:
    text = MaskedText(write(tmp_path / "text", ["dog house", "dog " * 9, "  "]), encoders, [100, 100, 8], 0.5, 1, None)
    assert [line.number for line in text] == [0]
    assert (text.counts.lines, text.counts.too_long, text.counts.words) == (2, 1, 2)


def test_words_that_a_model_does_not_know_are_not_asked(encoders: list[TextEncoder], tmp_path: Path) -> None:
    path = write(tmp_path / "text", ["dog Ω house", "dog house"])
    text = MaskedText(path, encoders, [100] * 3, 0.999, 1, None)
    first, second = text
    assert first.is_asked.tolist() == [True, False, True] and not first.is_drawn[1]
    assert second.is_asked.all()
    assert (text.counts.words, text.counts.unknown) == (5, 1)
    (first, _) = MaskedText(path, encoders[2:], [100], 0.999, 1, None)
    assert first.is_asked.all()  # ModernBERT's tokenizer has bytes


def test_tokenizers_that_cut_alike_are_told_from_others(encoders: list[TextEncoder], tmp_path: Path) -> None:
    path = write(tmp_path / "text", LINES[:5])
    for own, is_same in (([encoders[0]], True), ([encoders[0]] * 2, True), (encoders[:2], False)):
        text = text_of(path, own)
        assert len(list(text)) == 5 and text.counts.same_pieces is is_same
    # The ids of pieces, and whether the space before one is its own, do not matter.
    starts, ends = np.array([0, 2, 4]), np.array([2, 4, 9])
    one = LocatedPieces(np.array([5, 6, 7]), starts, ends)
    assert is_cut_alike(one, LocatedPieces(np.array([8, 9, 10]), np.array([0, 2, 5]), ends))
    assert not is_cut_alike(one, LocatedPieces(np.array([5, 6, 7]), starts, np.array([2, 5, 9])))
