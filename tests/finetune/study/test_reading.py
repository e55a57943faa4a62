"""STUDY.yaml: what it means, and every mistake with its place, before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune.study.reading import read_study

BASE: dict[str, Any] = {
    "tokenizers": {"en": {"text": "en", "vocab_size": 600}},
    "data": {"en": {"tokenizer": "en", "mono": {"en": "en.txt"}, "valid": 0.1}},
    "models": {
        "en": {"pretrain": {"data": "en"}},
        "more": {"from": "en", "vocabulary": {"tokenizer": "en", "by": "rank"}, "pretrain": {"data": "en", "steps": 9}},
    },
    "tasks": {"nli": {"task": "nli/sick"}, "pos": {"task": "udpos", "languages": ["en", "de"]}},
    "seeds": [1, 2],
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


def write(directory: Path, content: dict[str, Any]) -> Path:
    path = directory / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_defaults_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path))
    data = {"en": {"tokenizer": "en", "mono": {"en": ["a.txt", {"tsv": "b.tsv", "column": 2}, "${WHERE}/c.txt"]}}}
    study = read_study(write(tmp_path, changed(data=data)))
    files = study.data["en"].corpus["mono"]["en"]
    assert files == [f"{tmp_path}/a.txt", {"tsv": f"{tmp_path}/b.tsv", "column": 2}, f"{tmp_path}/c.txt"]
    assert study.rows == ("en", "more") and study.baseline == "" and study.control == ()
    assert study.tasks["nli"].languages == ("en",) and study.tasks["pos"].report == "test"
    with_control = read_study(write(tmp_path, changed(control={"from": "en"}, table={"models": ["more"]})))
    assert with_control.rows == ("more", "control") and with_control.baseline == "control"


def test_languages_of_a_model_are_those_of_the_text_that_it_has_seen(tmp_path: Path) -> None:
    data = {
        "en": BASE["data"]["en"],
        "both": {"tokenizer": "en", "mono": {"fi": "fi.txt"}, "parallel": {"de-sv": [{"tsv": "x.tsv"}]}},
    }
    models = {
        "en": {"pretrain": {"data": "en"}},
        "all": {"from": "en", "pretrain": {"data": "both"}},
        "told": {"from": "all", "languages": ["fi"]},
        "found": str(tmp_path),
    }
    study = read_study(write(tmp_path, changed(data=data, models=models)))
    assert [study.languages_of(name) for name in models] == [("en",), ("en", "de", "fi", "sv"), ("fi",), ()]
    assert [study.has_all_languages(name) for name in models] == [True, True, True, False]


def test_files_beside_the_study_are_meant_by_flags(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    for name in ("tasks/found.yaml", "text.gz", "en", "rank"):
        (tmp_path / name).touch()
    flags = {"task": "tasks/found.yaml", "test": ["text.gz", "other.gz"], "languages": "de,fr", "layer": 2}
    flags |= {"config": "multi30k.yaml", "url": "https://x.org/y.yaml", "sentence": f"It rained. {'x' * 300}"}
    probes = {"x": {"command": "a.b", "flags": flags, "results": {"y": "z.json:avg"}}}
    more = {"from": "en", "vocabulary": {"tokenizer": "en", "by": "rank", "source-text": "text.gz"}}
    study = read_study(write(tmp_path, changed(probes=probes, models={**BASE["models"], "more": more})))
    found = {**flags, "task": f"{tmp_path}/tasks/found.yaml", "test": [f"{tmp_path}/text.gz", "other.gz"]}
    assert study.probes["x"].flags == found
    of_vocabulary = {"tokenizer": "en", "by": "rank", "source_text": f"{tmp_path}/text.gz"}
    assert study.models["more"].vocabulary_flags("vocabulary") == of_vocabulary, "words are no files"


MISTAKES = {
    "unknown section": (changed(model={}), r"mine.yaml:\d+:\d+: unknown key 'model'; did you mean 'models'\?"),
    "unknown key": (
        changed(models={"en": {"pretain": {"data": "en"}}}),
        r"unknown key 'pretain'; did you mean 'pretrain'\?; .*model en has neither from nor pretrain",
    ),
    "unknown field": (
        changed(finetuning={"epocs": 3}),
        r"mine.yaml:\d+:\d+: unknown key 'epocs'; did you mean 'epochs'\?$",
    ),
    "decided field": (changed(finetuning={"seed": 3}), "seed cannot be set here: the study decides it"),
    "unknown text": (
        changed(tokenizers={"en": {"text": "em", "vocab_size": 9}}),
        r"mine.yaml:3:11: text 'em': no such name in data; expected some of en$",
    ),
    "unknown data": (changed(models={"en": {"pretrain": {"data": "fi"}}}), "data 'fi': no such name in data"),
    "unknown tokenizer": (
        changed(models={"a": {"from": "b", "vocabulary": {"tokenizer": "fi", "by": "rank"}}, "b": {"from": "a"}}),
        "tokenizer 'fi': no such name in tokenizers and models; .*: models need one another: a needs b needs a$",
    ),
    "no directory": (changed(models={"en": {"from": "/no/where"}}), "from /no/where: no such directory"),
    "cycle": (changed(models={"a": {"from": "a"}}), "models need one another: a needs a$"),
    "cycle by a tokenizer": (
        changed(
            data={**BASE["data"], "fi": {"tokenizer": "fi", "mono": {"fi": "fi.txt"}}},
            models={"fi": {"from": "en", "extend": {"from-tokenizer": "en"}, "pretrain": {"data": "fi"}}, "en": "."},
        ),
        r"mine.yaml:\d+:\d+: models need one another: fi needs fi$",
    ),
    "unknown tokenizer of new pieces": (
        changed(models={"a": {"from": ".", "extend": {"from-tokenizer": "fi"}}}),
        "from_tokenizer 'fi': no such name in tokenizers and models",
    ),
    "extension of nothing": (
        changed(models={"a": {"extend": {"tokens": ["x"]}, "pretrain": {"data": "en"}}}),
        "extend: needs from, the model that is changed",
    ),
    "teacher of all": (
        changed(pretraining={"objective": "mlm + distil", "teacher": "en"}),
        "teacher of all pre-training: expected in the pretrain of each model that learns from one",
    ),
    "unknown teacher": (
        changed(models={"a": {"pretrain": {"data": "en", "teacher": "b"}}}),
        "teacher 'b': no such name in models",
    ),
    "cycle of teachers": (
        changed(models={"a": {"from": "b"}, "b": {"pretrain": {"data": "en", "teacher": "a"}}}),
        "models need one another: a needs b needs a$",
    ),
    "unknown teacher of a task": (changed(finetuning={"teacher": "no"}), "teacher 'no': no such name in the table"),
    "control named": (
        changed(control={"from": "en"}, table={"models": ["en", "control"]}),
        "table: leave out control, which has a row in any case",
    ),
    "number of two probes": (
        changed(probes={name: {"command": "a.b", "results": {"y": "z.json:avg"}} for name in ("one", "two")}),
        r"mine.yaml:\d+:\d+: probe two: results has y, as probe one has; rename one of them$",
    ),
    "unknown row": (changed(table={"models": ["en", "mor"]}), "models 'mor': no such name .*you mean 'more'"),
    "no baseline": (changed(table={"baseline": "fi"}), "baseline 'fi': no such name in the table"),
    "control of nothing": (changed(control={}), "control: from is missing"),
    "name of the control": (changed(models={"control": {"pretrain": {"data": "en"}}}), "the name of the control"),
    "equal seeds": (changed(seeds=[1, 1]), r"seeds \[1, 1\] must be different numbers"),
    "no seeds": (changed(seeds="1"), "seeds: expected a list of whole numbers"),
    "unknown task": (changed(tasks={"x": {"task": "nli/sik"}}), "mine.yaml:.*unknown task 'nli/sik'"),
    "unknown language": (
        changed(tasks={"x": {"task": "nli/sick", "languages": ["pt"]}}),
        "nli/sick has no pt, only en",
    ),
    "retrieval": (changed(tasks={"x": {"task": "tatoeba"}}), "has no training; a study compares retrieval as a probe"),
    "no directory name": (changed(tasks={"a b": {"task": "nli/sick"}}), "'a b' names a directory"),
    "probe without field": (
        changed(probes={"x": {"command": "a.b", "results": {"UUAS": "syntax.json"}}}),
        "UUAS 'syntax.json': expected FILE:FIELD",
    ),
    "file of a flag": (
        changed(probes={"x": {"command": "a.b", "flags": {"task": "no.yaml"}, "results": {"y": "z.json:avg"}}}),
        r"mine.yaml:\d+:\d+: task: /.*/no.yaml: no such file$",
    ),
    "average of no task": (
        changed(table={"averages": {"all": ["sik"]}}),
        r"mine.yaml:\d+:\d+: all 'sik': no such name in",
    ),
    "empty average": (changed(table={"averages": {"all": []}}), "averages: all is over no task"),
    "few draws": (changed(table={"draws": 10}), "draws 10: expected at least 1000, or 0"),
    "nothing to compare on": (changed(tasks={}), "neither tasks nor probes"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_with_their_place(name: str, tmp_path: Path) -> None:
    content, expected = MISTAKES[name]
    with pytest.raises(ValueError, match=expected) as told:
        read_study(write(tmp_path, content))
    assert "\n" not in str(told.value)


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("models:\n  en: {from: a}\n  en: {from: b}\n")
    with pytest.raises(ValueError, match="mine.yaml: line 3: key 'en' is given twice"):
        read_study(path)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="environment variable NOT_SET_HERE is not set"):
        read_study(write(tmp_path, changed(finetuning={"data": "${NOT_SET_HERE}/x"})))
