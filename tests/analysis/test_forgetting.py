"""The command: texts of two languages before and after a change, and one line for bad input."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from xtreme_files import GERMAN

from analysis import forgetting
from analysis.masking.report import METRICS
from veco import VecoForMaskedLM


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["forgetting", *map(str, arguments)])
    forgetting.main()


def found_in(output: Path) -> dict[str, Any]:
    return json.loads((output / "forgetting.json").read_text())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    words = list(GERMAN)
    lines = [
        [words[(start + step * place) % len(words)] for place in range(8)] for start in range(9) for step in (1, 2)
    ]
    (root / "en.txt").write_text("".join(f"{' '.join(line)}\n" for line in lines))
    (root / "de.txt").write_text("".join(f"{' '.join(GERMAN[word] for word in line)}\n" for line in lines))
    return root


def named(texts: Path, *languages: str) -> tuple[str, ...]:
    return ("--text", *(f"{language}={texts / language}.txt" for language in languages))


@pytest.fixture(scope="module")
def trained(tiny_model: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after it has learned the English text by heart."""
    directory = tmp_path_factory.mktemp("trained") / "model"
    shutil.copytree(tiny_model, directory)
    model, tokenizer = VecoForMaskedLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    rows = tokenizer((texts / "en.txt").read_text().splitlines(), return_tensors="pt", padding=True)
    is_text = (rows["input_ids"] > 3) & (rows["input_ids"] < 69)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(60):
        is_masked = is_text & (torch.rand(is_text.shape) < 0.2)
        inputs = rows["input_ids"].masked_fill(is_masked, tokenizer.mask_token_id)
        labels = rows["input_ids"].masked_fill(~is_masked, -100)
        model(inputs, rows["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
    return directory


def test_what_was_learned_and_what_was_forgotten(
    tiny_model: Path, trained: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--before", tiny_model, *named(texts, "en", "de"), "--pseudo-lines", 6, "--output", tmp_path)
    call(monkeypatch, trained, *flags)
    found = found_in(tmp_path)
    assert list(found["scores"]) == ["before", "after"] and found["same_pieces"]
    assert found["models"] == {"before": str(tiny_model), "after": str(trained)}
    change = found["changes"]["before"]
    for metric in METRICS:
        before, after = (found["scores"][name] for name in ("before", "after"))
        for language in ("en", "de", "avg"):
            assert change[language][metric] == pytest.approx(after[language][metric] - before[language][metric])
            assert before["avg"][metric] == pytest.approx((before["en"][metric] + before["de"][metric]) / 2)
        better = -1 if "accuracy" not in metric else 1
        assert better * change["en"][metric] > 0
    assert change["de"]["loss"] > 0 and change["de"]["pseudo_bits_per_character"] > 0
    rows = list(csv.DictReader((tmp_path / "forgetting.csv").open()))
    assert [(row["model"], row["language"]) for row in rows[:4]] == [("before", one) for one in ("en", "de", "avg")] + [
        ("after", "en")
    ]
    written = {path.name for path in tmp_path.iterdir()} - {".made_by.tsv"}
    assert written == {f"forgetting.{end}" for end in ("json", "csv", "md", "png", "svg")}


def test_a_directory_may_have_an_equals_sign(tiny_model: Path, tmp_path: Path) -> None:
    before = shutil.copytree(tiny_model, tmp_path / "lr=1e-5")
    for value, name in ((f"{before}", "before"), (f"old={before}", "old")):
        assert forgetting.named_models(tiny_model, [value]) == {name: before, "after": tiny_model}
    assert list(forgetting.named_models(tiny_model, [str(before), f"x={tiny_model}"])) == ["lr=1e-5", "x", "after"]


def test_the_same_model_has_forgotten_nothing_in_batches_of_any_size(
    tiny_model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.masking.report.draw", lambda *_: None)  # which takes a second
    flags = (*named(texts, "en"), "--pseudo-lines", 2)
    call(monkeypatch, tiny_model, "--before", tiny_model, *flags, "--output", tmp_path / "one")
    one = found_in(tmp_path / "one")
    assert set(one["changes"]["before"]["en"].values()) == {0.0}
    for name, more in (("small", ("--max-tokens", 20)), ("seed", ("--seed", 2)), ("lines", ("--lines", 2))):
        call(monkeypatch, tiny_model, *flags, *more, "--output", tmp_path / name)
    scores = {name: found_in(tmp_path / name)["scores"]["model"]["en"] for name in ("small", "seed", "lines")}
    assert scores["small"] == pytest.approx(one["scores"]["after"]["en"], rel=1e-4)
    assert scores["seed"]["loss"] != scores["small"]["loss"] != scores["lines"]["loss"]
    # Each piece in turn is not drawn.
    assert scores["seed"]["pseudo_perplexity"] == pytest.approx(scores["lines"]["pseudo_perplexity"], rel=1e-4)


def test_without_its_figure_a_command_has_not_finished(
    tiny_model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has once its JSON is there."""
    (tmp_path / "forgetting.svg").mkdir()
    monkeypatch.setattr(forgetting, "claim_results", lambda *_: None)
    with pytest.raises(ValueError, match="forgetting.svg"):
        call(monkeypatch, tiny_model, *named(texts, "en"), "--pseudo-lines", 2, "--output", tmp_path)
    assert not (tmp_path / "forgetting.json").exists()


def test_models_with_other_tokenizers_are_compared_by_words_and_characters(
    tiny_model: Path,
    texts: Path,
    encoder_directory: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (encoder_directory("bert"), f"other={encoder_directory('modernbert')}")
    flags = ("--before", *before, *named(texts, "en", "de"), "--pseudo-lines", 0, "--output", tmp_path)
    call(monkeypatch, tiny_model, *flags)
    printed = capsys.readouterr()
    assert "compare words and characters, not pieces" in printed.err
    assert "## Masked words, bits a character" in printed.out and "Pseudo" not in printed.out
    svg = (tmp_path / "forgetting.svg").read_text()
    assert "<!-- Masked words, bits a character -->" in svg and "Pseudo" not in svg
    found = found_in(tmp_path)
    assert list(found["scores"]) == ["bert", "other", "after"] and not found["same_pieces"]
    for language in ("en", "avg"):
        change = found["changes"]["other"][language]
        assert change["loss"] is change["accuracy"] is change["pseudo_perplexity"] is None
        assert change["bits_per_character"] != 0 and change["word_accuracy"] is not None
        assert found["scores"]["other"][language]["pseudo_perplexity"] is None  # not asked for


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mask-share", "1"), "--mask-share 1.0: expected a share between 0 and 1"),
        (("--mask-share", "1e-9"), "en.txt: none of its 144 words was drawn"),
        (("--lines", "0"), "--lines 0: expected at least 1"),
        (("--pseudo-lines", "-1"), "--pseudo-lines -1: expected at least 0"),
        (("--max-length", "2"), "--max-length 2: .* takes 3 to 64 tokens"),
        (("--max-tokens", "0"), "argument --max-tokens: expected a whole number of at least 1, found 0"),
        (("--before", "after=x"), "--before after=x: after is the name of MODEL; expected another"),
        (("--before", "a=x", "a=y"), "--before: x and y are both called a; give NAME=FILE"),
        (("--before", "nowhere"), "nowhere: expected a model, a checkpoint or a run"),
    ],
)
def test_bad_flags_are_refused(
    flags: Sequence[str],
    message: str,
    tiny_model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, *named(texts, "en"), "--output", tmp_path / "found", *flags)
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_bad_texts_are_refused(tiny_model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = ("--output", tmp_path / "found")
    with pytest.raises(ValueError, match="avg is the name of the mean; expected another"):
        call(monkeypatch, tiny_model, "--text", f"avg={texts / 'en.txt'}", *output)
    with pytest.raises(ValueError, match="/dev/stdin: a pipe or device; name a file, since text is read twice"):
        call(monkeypatch, tiny_model, "--text", "en=/dev/stdin", *output)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="empty.txt: none of its 0 words was drawn"):
        call(monkeypatch, tiny_model, "--text", tmp_path / "empty.txt", *output)
    with pytest.raises(ValueError, match="--output .*: the input .*en.txt is in it"):
        call(monkeypatch, tiny_model, *named(texts, "en"), "--output", texts)
