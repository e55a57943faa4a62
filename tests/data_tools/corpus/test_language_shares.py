import struct
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from data_tools.corpus.language_shares import SMOOTHED_COLOR, draw_distribution, draw_panel, sampling_probabilities
from data_tools.shards.format import ShardInfo
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest


def _info(num_sentences: int) -> ShardInfo:
    return ShardInfo("", num_sentences, num_documents=1, num_tokens=9, bin_sha256="", idx_sha256="")


def _manifest(mono: dict[str, int], pairs: dict[str, int]) -> Manifest:
    return Manifest(
        MANIFEST_VERSION,
        tokenizer_sha256="",
        vocab_size=300,
        mono={language: [_info(count)] for language, count in mono.items()},
        parallel={name: [dict.fromkeys(name.split("-"), _info(count))] for name, count in pairs.items()},
    )


@pytest.mark.parametrize(
    ("counts", "alpha", "expected"),
    [
        ([400, 100], 0.0, [0.5, 0.5]),
        ([400, 100], 0.5, [2 / 3, 1 / 3]),
        ([400, 100], 1.0, [0.8, 0.2]),
        ([400, 100], 2.0, [16 / 17, 1 / 17]),
        ([400, 0, 100], 0.0, [0.5, 0.0, 0.5]),
        ([0, 0], 0.5, [0.0, 0.0]),
        ([], 0.5, []),
    ],
)
def test_sampling_probabilities_follow_n_to_the_alpha(counts: list[int], alpha: float, expected: list[float]) -> None:
    assert sampling_probabilities(counts, alpha) == pytest.approx(expected)


def test_a_panel_shows_both_shares_from_the_largest_language_to_the_smallest() -> None:
    axes = Figure().subplots()
    draw_panel(axes, {"sw": 100, "en": 1600, "de": 400}, alpha=0.5, unit="sentences", num_places=8)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["en", "de", "sw"]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([16 / 21, 4 / 21, 1 / 21])
    (dots,) = [line for line in axes.lines if to_hex(line.get_color()) == SMOOTHED_COLOR]
    assert dots.get_ydata() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert axes.get_ylim() == (0.01, 1)
    assert axes.get_yscale() == "log"


def test_a_picture_of_a_hundred_languages_is_wider(tmp_path: Path) -> None:
    sizes = {}
    for num_languages in (2, 100):
        mono = {f"l{i}": 10 ** (i % 9) for i in range(num_languages)}
        path = tmp_path / f"new/{num_languages}.png"
        draw_distribution(_manifest(mono, {"de-en": 50, "de-fr": 0}), 0.5, path)
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        sizes[num_languages] = struct.unpack(">II", content[16:24])
    assert sizes[100][0] > 2 * sizes[2][0]
    assert sizes[100][1] == sizes[2][1]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["100.png", "2.png"]


def test_an_empty_corpus_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="picture.txt: expected a name ending in .png"):
        draw_distribution(_manifest({"de": 5}, {}), 0.5, tmp_path / "picture.txt")
    with pytest.raises(ValueError, match="no sentences to train on"):
        draw_distribution(_manifest({"de": 0}, {}), 0.5, tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []
