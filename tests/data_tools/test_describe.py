import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from data_directories import make_data, num_words

from data_tools.describe import fertility, main, print_samples, print_tables, print_unknown, rows_of
from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.unknown_pieces import Unknown

MODULE = "data_tools.describe"


@pytest.fixture
def data(tmp_path: Path, tokenizer_dir: Path, sentences: dict[str, list[str]]) -> Path:
    make_data(tmp_path / "data", tokenizer_dir, sentences)
    return tmp_path / "data"


def _cells(output: str, name: str) -> list[str]:
    """The cells of the row that begins with a name."""
    line = next(line for line in output.splitlines() if line.split()[:1] == [name])
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_tables_have_all_counts(
    data: Path, sentences: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest.load(data)
    num_tokens = print_tables(manifest)
    output = capsys.readouterr().out
    german = sum(info.num_tokens for info in manifest.mono["de"])
    held_out = manifest.valid["mono"]["de"][0].num_tokens
    words = num_words([*sentences["de"][:400], *sentences["de"][500:520]])
    per_word = f"{(german + held_out) / words:.2f}"
    # The probabilities: sqrt(400) : sqrt(100) = 2 : 1.
    reasons = "1,234 duplicate, 3 too_long"
    assert _cells(output, "de") == ["de", "2", "40", "400", f"{german:,}", "0.6667", per_word, "20", reasons]
    english = manifest.mono["en"][0].num_tokens
    assert _cells(output, "en")[:6] == ["en", "1", "10", "100", f"{english:,}", "0.3333"]
    assert _cells(output, "total") == ["total", "3", "50", "500", f"{german + english:,}", "1.0000", "20", reasons]
    sides = [info.num_tokens for info in manifest.parallel["de-en"][0].values()]
    pairs = _cells(output, "de-en")
    assert pairs[:5] == ["de-en", "1", "50", f"{sum(sides):,}", "1.0000"]
    assert [cell.count("/") for cell in pairs[5:]] == [1, 0] and pairs[6] == "5"
    assert num_tokens == german + english + sum(sides)


def test_columns_without_content_are_omitted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.load(data)
    print_tables(Manifest(2, "", 300, manifest.mono, {}))
    output = capsys.readouterr().out
    assert "held out" not in output
    assert "parallel" not in output
    assert _cells(output, "de")[-1] == "–", "no words are known"


def test_unknown_pieces_are_shown_and_warned_of(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {
        "mono/de": {"de": Unknown(1, 100_000, 2, 400_000)},
        "mono/en": {"en": Unknown(0, 100, 0, 400)},
        "parallel/de-en": {"de": Unknown(30, 300, 9, 1200), "en": Unknown(2, 100, 8, 400)},
    }
    manifest = replace(Manifest.load(data), unknown=unknown)
    print_tables(manifest)
    output = capsys.readouterr().out
    assert _cells(output, "de")[7:9] == ["< 0.01 %", "< 0.01 %"]
    assert _cells(output, "en")[7:9] == ["0", "0"]
    assert _cells(output, "de-en")[6:8] == ["10.00 % / 2.00 %", "0.75 % / 2.00 %"]
    print_unknown(manifest)
    captured = capsys.readouterr()
    assert captured.out == "unknown pieces (characters they cover): en 1.00 % (1.00 %), de 0.03 % (< 0.01 %)\n"
    assert captured.err == "", "1 % is not above 1 %"
    print_unknown(replace(manifest, unknown={"mono/en": {"en": Unknown(0, 99, 101, 10_000)}}))
    assert capsys.readouterr() == ("unknown pieces (characters they cover): none\n", "")
    print_unknown(replace(manifest, unknown={"mono/en": {"en": Unknown(1, 1000, 101, 10_000)}}))
    assert (
        "warning: en: 0.10 % of its pieces are unknown to the tokenizer, and they cover 1.01 % of"
        in capsys.readouterr().err
    )


def test_directories_without_counts_of_unknown_pieces(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_unknown(Manifest.load(data))
    assert capsys.readouterr() == (
        "unknown pieces: not counted by the version of data_tools.prepare that made this directory\n",
        "",
    )


def test_fertility_is_tokens_per_word() -> None:
    assert fertility("de", 30, 20) == 1.5
    assert fertility("ko", 30, 20) == 1.5
    assert fertility("zz", 30, 20) == 1.5, "a language that nobody knows may have spaces"
    for language in ("zh", "ja", "th", "lo", "km", "my", "bo", "dz", "yue", "wuu", "zh_Hant"):
        assert fertility(language, 30, 20) is None
    assert fertility("de", 30, 0) is None


def test_the_row_of_a_pair_counts_words_of_each_side(data: Path, sentences: dict[str, list[str]]) -> None:
    manifest = Manifest.load(data)
    (row,) = rows_of(manifest, "parallel")
    for side, found in zip(("de", "en"), row.fertility, strict=True):
        shards = [manifest.parallel["de-en"][0][side], manifest.valid["parallel"]["de-en"][0][side]]
        words = num_words([*sentences[side][400:450], *sentences[side][600:605]])
        assert found == sum(info.num_tokens for info in shards) / words
    assert row.num_held_out == 5


def test_samples_come_from_all_shards(
    data: Path, sentences: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    print_samples(data, Manifest.load(data), 5)
    output = capsys.readouterr().out
    of_german = output.split("mono/en")[0]
    for i in (0, 99, 199, 299, 399):  # 399 x 0, 1/4, … 1, rounded down; the last is in the second shard
        assert f"{i:>9}  {sentences['de'][i]}\n" in of_german
    assert len(of_german.split("\n  ")) == 1 + 5
    assert f"       49  {sentences['de'][449]}\n             {sentences['en'][449]}\n" in output
    print_samples(data, Manifest.load(data), 1000)
    output = capsys.readouterr().out
    assert all(sentence in output for sentence in [*sentences["de"][:450], *sentences["en"][:100]])


def test_the_command_line_prints_samples_plot_and_verification(
    data: Path, tmp_path: Path, run_module: Callable
) -> None:
    (data / "mono/de/00007.bin").touch()
    plot = tmp_path / "languages.png"
    process = run_module(MODULE, data, "--verify", "--samples", 1, "--plot", plot, "--alpha", 1)
    assert process.returncode == 0, process.stderr
    assert "0.8000" in process.stdout  # 400 of 500
    assert Manifest.load(data).fingerprint in process.stdout
    assert "6 shards verified: all as in the manifest" in process.stdout
    assert f"warning: {data}/mono/de/00007.bin: not in the manifest" in process.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_command_line_reports_damage(data: Path, run_module: Callable, assert_one_line_error: Callable) -> None:
    os.truncate(data / "mono/de/00000.bin", 10)
    process = run_module(MODULE, data, "--verify", "--workers", 1)
    assert_one_line_error(process, f"{data}/mono/de/00000.bin: truncated, 10 bytes", "prepare again")
    (data / "valid/mono/de/00000.idx").unlink()
    process = run_module(MODULE, data, "--verify")
    assert_one_line_error(process, f"{data}: differs from its manifest, 2 problems")
    assert f"\n{data}/mono/de/00000.bin: truncated" in f"\n{process.stderr}"
    assert f"\n{data}/valid/mono/de/00000.idx: no such file" in process.stderr


def test_invalid_arguments_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    for arguments, message in (
        (["--samples", "-1"], "--samples -1: expected 0 or more"),
        (["--workers", "0"], "--workers 0: expected 1 or more"),
        (["--plot", str(tmp_path / "x.txt")], "x.txt: expected a name ending in .png"),
    ):
        monkeypatch.setattr("sys.argv", ["describe", str(data), *arguments])
        with pytest.raises(ValueError, match=message):
            main()
    monkeypatch.setattr("sys.argv", ["describe", str(tmp_path)])
    with pytest.raises(ValueError, match="manifest.json: no such file"):
        main()
