"""The command: probes of all kinds by layer, on one language or several, and one line for bad input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_trees import random_tree, write_conllu

from analysis import syntax
from analysis.probing.probing_run import Found, run_probes
from analysis.probing.stored_states import StoredStates
from analysis.probing.treebank import Punctuation, read_trees
from analysis.states import states_of_sentences
from finetune.understanding.retrieval.embeddings import Embedder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["syntax", *map(str, arguments)])
    syntax.main()


@pytest.fixture(scope="module")
def treebanks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train, dev, and two tests: en and, one of whose sentences is too long for the model, de."""
    root, drawn = tmp_path_factory.mktemp("treebanks"), np.random.default_rng(0)
    for name, count in (("train", 60), ("dev", 12), ("en", 12), ("de", 8)):
        trees = [random_tree(drawn, int(length)) for length in drawn.integers(2, 9, size=count)]
        write_conllu(root / f"{name}.conllu", trees + [random_tree(drawn, 70)] * (name == "de"))
    return root


@pytest.fixture
def found_by_run(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    """What `run_probes` has found in each call of the command."""
    found: list[Found] = []
    monkeypatch.setattr(syntax, "run_probes", lambda *given: found.append(run_probes(*given)) or found[-1])
    return found


def parts(root: Path) -> tuple[object, ...]:
    return ("--train", root / "train.conllu", "--dev", root / "dev.conllu")


def test_every_probe_in_every_layer_and_language(
    found_by_run: list[Found],
    treebanks: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tests = ("--test", treebanks / "en.conllu", f"fi={treebanks / 'de.conllu'}")
    flags = ("--probes", "distance,depth,upos", "--epochs", 2, "--rank", 5)
    call(monkeypatch, tiny_model, *parts(treebanks), *tests, *flags, "--output", tmp_path / "found")
    assert "test fi: 1 sentences left out, too long for the encoder" in capsys.readouterr().err
    found = json.loads((tmp_path / "found" / "syntax.json").read_text())
    assert found["punctuation"] == "upos" and found["rank"] == 5
    assert found["sentences"] == {"train": 60, "dev": 12, "test en": 12, "test fi": 8}
    assert set(found["scores"]) == {"0", "1", "2"}
    names = {"uuas", "dspr", "root_accuracy", "depth_spearman", "upos_accuracy", "upos_control_accuracy"}
    for layer, by_test in found["scores"].items():
        assert set(by_test) == {"en", "fi", "avg"}
        for test in ("en", "fi"):
            assert {name: by_test[test][name] for name in names} == found_by_run[0].metrics[int(layer)][test]
            assert 0 < by_test[test]["uuas"] < 1 and 0 < by_test[test]["upos_accuracy"] <= 1
        for own in by_test.values():
            assert set(own) == names | {"upos_selectivity"}
            assert own["upos_selectivity"] == pytest.approx(own["upos_accuracy"] - own["upos_control_accuracy"])
        assert by_test["avg"]["uuas"] == pytest.approx((by_test["en"]["uuas"] + by_test["fi"]["uuas"]) / 2)
        assert found["uuas"][layer] == by_test["avg"]["uuas"]
    losses = found["dev_loss"]["distance"]
    chosen = found["chosen"]["distance"]
    assert str(chosen["layer"]) == min(losses, key=lambda layer: losses[layer])
    own = found["scores"][str(chosen["layer"])]["avg"]
    assert chosen == {"layer": chosen["layer"], "uuas": own["uuas"], "dspr": own["dspr"]}
    written = {path.name for path in (tmp_path / "found").iterdir()} - {".made_by.tsv"}
    assert written == {f"syntax.{end}" for end in ("json", "csv", "md", "png", "svg")}  # and no states


def test_the_same_seed_gives_the_same_numbers(
    treebanks: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.probing.report.draw", lambda *_: None)  # which takes a second
    flags = ("--test", treebanks / "en.conllu", "--epochs", 1, "--layers", "1", "--probes", "depth")
    for name, more in (("one", ()), ("two", ("--max-tokens", "64")), ("other", ("--seed", 2))):
        call(monkeypatch, tiny_model, *parts(treebanks), *flags, *more, "--output", tmp_path / name)
    found = {name: json.loads((tmp_path / name / "syntax.json").read_text()) for name in ("one", "two", "other")}
    assert found["one"]["dev_loss"]["depth"]["1"] == pytest.approx(found["two"]["dev_loss"]["depth"]["1"], rel=1e-4)
    assert found["one"]["dev_loss"] != found["other"]["dev_loss"]


def test_stored_states_are_those_of_each_sentence(tiny_model: Path, tmp_path: Path) -> None:
    sentences = [["dog", "house"], ["red"], ["bird", "stone", "water"], ["night"] * 70, ["milk", "tree"]]
    embedder = Embedder.load(tiny_model, [0, 2], None, max_tokens=70)
    stored = StoredStates.of(embedder, sentences, tmp_path, "")
    assert stored.complete.tolist() == [True, True, True, False, True] and not list(tmp_path.iterdir())
    for layer_place, layer in enumerate((0, 2)):
        batch = stored.batch(layer, np.array([4, 1, 2]))
        for row, number in enumerate((4, 1, 2)):
            ((_, alone),) = states_of_sentences(embedder, [sentences[number]])
            length = len(sentences[number])
            assert batch[row, :length].numpy() == pytest.approx(alone.states[layer_place, 0].numpy(), abs=1e-5)
            assert not batch[row, length:].any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--probes", "distance,case"), "--probes distance,case: expected distance, depth, upos, xpos, found 'case'"),
        (("--probes", "depth,depth"), "expected each once"),
        (("--rank", "0"), "--rank 0: expected at least 1"),
        (("--rank", "3", "--probes", "upos"), "--rank 3: is of the probes distance and depth; leave it out"),
        (("--layers", "9"), "has layers 1 to 2, and 0, but no 9"),
        (("--max-length", "2"), "max-length 2: expected 3 to 64 tokens"),
    ],
)
def test_bad_flags_are_refused(
    flags: tuple[str, ...],
    message: str,
    treebanks: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = (*parts(treebanks), "--test", treebanks / "en.conllu", "--output", tmp_path / "found", *flags)
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, tiny_model, *arguments)
    assert "\n" not in str(error.value) and not (tmp_path / "found").exists()


def test_bad_files_are_refused(
    treebanks: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    english, output = treebanks / "en.conllu", ("--output", tmp_path / "found")
    with pytest.raises(ValueError, match="--test: .* are both called en; give NAME=FILE"):
        call(monkeypatch, tiny_model, *parts(treebanks), "--test", english, english, *output)
    with pytest.raises(ValueError, match="--test avg=.*: avg is the name of the mean; expected another"):
        call(monkeypatch, tiny_model, *parts(treebanks), "--test", f"avg={english}", *output)
    others = [replace(tree, xpos=["_"] * len(tree)) for tree in read_trees(english)]
    write_conllu(tmp_path / "untagged.conllu", others)
    untagged = ("--train", english, "--dev", tmp_path / "untagged.conllu", "--test", english, "--probes", "xpos")
    with pytest.raises(ValueError, match="--probes xpos: the trees of --dev have none of the tags of --train .* but _"):
        call(monkeypatch, tiny_model, *untagged, *output)
    (tmp_path / "x.conllu").write_text("1\tword\n\n")
    with pytest.raises(ValueError, match="x.conllu: line 2: .* expected 10 columns"):
        call(monkeypatch, tiny_model, *parts(treebanks), "--test", tmp_path / "x.conllu", *output)
    trees = [random_tree(np.random.default_rng(0), 70)]
    write_conllu(tmp_path / "long.conllu", trees)
    with pytest.raises(ValueError, match="test long: no sentence fits into 64 tokens; raise --max-length"):
        call(monkeypatch, tiny_model, *parts(treebanks), "--test", tmp_path / "long.conllu", *output)


def test_other_tags_of_punctuation_are_reported(treebanks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees = list(read_trees(treebanks / "en.conllu"))
    assert not all(tree.is_kept(Punctuation.XPOS).all() for tree in trees)
    syntax.warn_of_kept_punctuation(trees)
    assert not capsys.readouterr().err
    syntax.warn_of_kept_punctuation([replace(tree, xpos=["SYM"] * len(tree)) for tree in trees])
    assert "--punctuation xpos: a test has none of Penn Treebank's tags" in capsys.readouterr().err
