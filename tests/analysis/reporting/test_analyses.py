"""What each analysis needs: files below the data, and a model that allows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.reporting.analyses import ANALYSES, Analysis, Inputs, NotPossibleError
from finetune.commands import COMMANDS

BY_NAME = {analysis.name: analysis for analysis in ANALYSES}


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x\n")
    return root


def model(root: Path, **configuration: object) -> Path:
    root.mkdir(parents=True)
    (root / "config.json").write_text(json.dumps(configuration))
    return root


@pytest.fixture
def masked_lm(tmp_path: Path) -> Path:
    return model(tmp_path / "masked-lm", architectures=["VecoForMaskedLM"])


def flags_of(analysis: Analysis, inputs: Inputs) -> dict[str, Sequence[str]]:
    return {job.name: job.flags for job in analysis.jobs(inputs)}


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda analysis: analysis.name)
def test_every_analysis_is_a_command_and_needs_files(analysis: Analysis, masked_lm: Path, tmp_path: Path) -> None:
    assert COMMANDS[analysis.name] == analysis.command
    assert not list(analysis.jobs(Inputs(masked_lm, tmp_path)))


def test_word_alignment_has_a_job_for_each_file(masked_lm: Path, tmp_path: Path) -> None:
    data = write(
        tmp_path / "data", *(f"alignment/{name}" for name in ("en-fr.tsv", "en-de.tsv.gz", "en-de.dev.tsv", "x.txt"))
    )
    assert flags_of(BY_NAME["alignment"], Inputs(masked_lm, data)) == {
        "alignment-en-de": [
            *("--data", f"{data}/alignment/en-de.tsv.gz"),
            *("--dev-data", f"{data}/alignment/en-de.dev.tsv"),
        ],
        "alignment-en-fr": ["--data", f"{data}/alignment/en-fr.tsv"],
    }


def test_two_files_of_one_name_are_refused(masked_lm: Path, tmp_path: Path) -> None:
    """Such as a file and what it was unpacked to, of which one was edited."""
    data = write(tmp_path / "data", "parallel/de.txt", "parallel/de.txt.gz", "parallel/en.txt")
    with pytest.raises(ValueError, match="/de.txt and .*/de.txt.gz: two files for de; expected one"):
        flags_of(BY_NAME["similarity"], Inputs(masked_lm, data))


def test_syntax_has_one_for_all_tests_of_a_treebank(masked_lm: Path, tmp_path: Path) -> None:
    names = [f"treebank/{name}.conllu" for name in ("train", "dev", "test", "test-de", "other")]
    data = write(tmp_path / "data", *names)
    root = data / "treebank"
    parts = ["--train", f"{root}/train.conllu", "--dev", f"{root}/dev.conllu"]
    tests = ["--test", f"test={root}/test.conllu", f"de={root}/test-de.conllu"]
    assert flags_of(BY_NAME["syntax"], Inputs(masked_lm, data)) == {"syntax": [*parts, *tests]}
    (root / "dev.conllu").unlink()
    assert not flags_of(BY_NAME["syntax"], Inputs(masked_lm, data))


@pytest.mark.parametrize("name", ["similarity", "languages"])
def test_languages_are_compared_by_parallel_texts(name: str, masked_lm: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data", "parallel/en.txt", "text/de.txt")
    assert not flags_of(BY_NAME[name], Inputs(masked_lm, data))
    write(data, "parallel/fr.txt.gz")
    texts = [f"en={data}/parallel/en.txt", f"fr={data}/parallel/fr.txt.gz"]
    assert flags_of(BY_NAME[name], Inputs(masked_lm, data)) == {name: ["--text", *texts]}


def test_attention_is_plugged_in_where_it_can_be(masked_lm: Path, tmp_path: Path) -> None:
    """The first language with each other one; with maps of a pair where one is short."""
    data = write(tmp_path / "data", *(f"parallel/{language}.txt" for language in ("de", "en", "fr")))
    (data / "parallel" / "en.txt").write_text("-y\n")
    (data / "parallel" / "fr.txt").write_text("z" * 200)
    maps = {"en": ("--sentence=x", "--translation=-y", "--units", "pieces"), "fr": ()}
    xlm_r = model(tmp_path / "xlm-r", model_type="xlm-roberta", architectures=["XLMRobertaForMaskedLM"])
    encoder = model(tmp_path / "encoder", model_type="veco", architectures=["VecoModel"])
    veco = model(tmp_path / "veco", model_type="veco", architectures=["VecoForMaskedLM"])
    for directory, readings in ((veco, "tlm,plugged-in"), (xlm_r, "tlm"), (encoder, "tlm")):
        assert flags_of(BY_NAME["attention"], Inputs(directory, data)) == {
            f"attention-de-{target}": [
                *("--source", f"{data}/parallel/de.txt", "--target", f"{data}/parallel/{target}.txt"),
                *("--by", readings, *maps[target]),
            ]
            for target in ("en", "fr")
        }


def test_masked_words_need_a_head(masked_lm: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data", "text/en.txt", "text/de.txt.xz")
    texts = ["--text", f"de={data}/text/de.txt.xz", f"en={data}/text/en.txt"]
    assert flags_of(BY_NAME["forgetting"], Inputs(masked_lm, data)) == {"forgetting": texts}
    parallel = write(tmp_path / "parallel-data", "parallel/en.txt", "parallel/fr.txt")
    texts_of_parallel = ["--text", *(f"{language}={parallel}/parallel/{language}.txt" for language in ("en", "fr"))]
    assert flags_of(BY_NAME["forgetting"], Inputs(masked_lm, parallel)) == {"forgetting": texts_of_parallel}
    (job,) = BY_NAME["forgetting"].jobs(Inputs(masked_lm, data, before=Path("lr=1e-5/model")))
    assert job.flags == [*texts, "--before", "before=lr=1e-5/model"] and job.other_models == [Path("lr=1e-5/model")]
    for number, architectures in enumerate((["VecoForTokenClassification"], ["XLMRobertaModel"], None)):
        other = model(tmp_path / f"other{number}", architectures=architectures)
        with pytest.raises(NotPossibleError, match="has no head that predicts masked words"):
            flags_of(BY_NAME["forgetting"], Inputs(other, data))


def test_bias_needs_a_model_of_entailment(masked_lm: Path, tmp_path: Path) -> None:
    labels = {"rte": ["entailment", "not_entailment"], "xnli": ["contradiction", "Entailment"], "sst2": ["0", "1"]}
    models = {
        name: model(tmp_path / name, understanding={"task": {"head": "sequence", "labels": own}})
        for name, own in labels.items()
    }
    tagger = model(tmp_path / "tags", understanding={"task": {"head": "token", "labels": ["entailment"]}})
    regression = model(tmp_path / "stsb", understanding={"task": {"head": "regression"}})
    fine_tuned = models["rte"]
    data = write(tmp_path / "data", "AX-g.jsonl")
    bias = BY_NAME["bias"]
    for other in (masked_lm, models["sst2"], tagger, regression):
        for inputs in (Inputs(other, data), Inputs(fine_tuned, data, entailment_model=other)):
            with pytest.raises(NotPossibleError, match=f"{other} was not .* entailment; .* with --entailment-model"):
                flags_of(bias, inputs)
    assert list(bias.jobs(Inputs(models["xnli"], data)))
    (job,) = bias.jobs(Inputs(fine_tuned, data))
    assert (job.model, job.flags) == (fine_tuned, ["--data", f"{data}/AX-g.jsonl"])
    (job,) = bias.jobs(Inputs(masked_lm, data, entailment_model=fine_tuned))
    assert job.model == fine_tuned
    write(data, "winogender/README.md")
    (job,) = bias.jobs(Inputs(fine_tuned, data))
    assert job.flags == ["--data", f"{data}/AX-g.jsonl"]
    write(data, "winogender/templates.tsv.gz")
    (job,) = bias.jobs(Inputs(fine_tuned, data))
    assert job.flags == ["--data", f"{data}/winogender"] and job.reads == [data / "winogender" / "templates.tsv.gz"]
    (data / "AX-g.jsonl").unlink()
    (data / "winogender" / "templates.tsv.gz").unlink()
    assert not list(bias.jobs(Inputs(masked_lm, data)))
