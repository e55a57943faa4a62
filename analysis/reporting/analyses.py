"""The analyses of a report: what each needs below --data, the commands it becomes, and the figures it draws.

Another analysis is another entry of ANALYSES. Its command writes NAME.json, which says that it has finished, and the
tables of NAME.md: see `analysis.results`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.reporting.example_pair import first_short_pair
from analysis.winogender.items import ENTAILMENT, TEMPLATES, files_of_winogender
from data_tools.files.formats import COMPRESSED_SUFFIXES
from finetune.pretrained import VECO
from finetune.understanding.tasks.task import Head


class NotPossibleError(Exception):
    """An analysis that the model does not allow, and why, as the end of `not run: …`."""


@dataclass(frozen=True)
class Inputs:
    """What a report is made of: the directory of a model, that of the data, and other models for comparison."""

    model: Path
    data: Path
    before: Path | None = None
    entailment_model: Path | None = None


@dataclass(frozen=True)
class Job:
    """A command on a model: its flags but for --output, and the files it reads; `name` is that of its directory.

    `other_models` are the directories of models that its flags name.
    """

    name: str
    model: Path
    flags: Sequence[str]
    reads: Sequence[Path]
    other_models: Sequence[Path] = ()


@dataclass(frozen=True)
class Analysis:
    """An entry of the report; `figures` maps patterns of the names of its figures to what they show.

    `jobs` has none where the files of `needs` are missing, and raises NotPossibleError for other reasons.
    """

    name: str  # of its results and, behind "analysis.", of its command
    title: str
    question: str
    needs: str  # the files below --data
    jobs: Callable[[Inputs], Iterable[Job]]
    figures: Mapping[str, str]

    @property
    def command(self) -> str:
        """The module."""
        return f"analysis.{self.name}"


def files_called(directory: Path, suffix: str) -> dict[str, Path]:
    """The files of a directory with a suffix, plain or compressed, by their names without it, in order.

    Raises ValueError for two of one name, of which only one would be read.
    """
    found: dict[str, Path] = {}
    for ending in (suffix, *(suffix + compression for compression in COMPRESSED_SUFFIXES)):
        for path in sorted(directory.glob(f"*{ending}")):
            name = path.name.removesuffix(ending)
            if path.is_file() and found.setdefault(name, path) is not path:
                raise ValueError(f"{found[name]} and {path}: two files for {name}; expected one, move the other away")
    return dict(sorted(found.items()))


def texts_by_language(data: Path) -> dict[str, Path]:
    """The files text/LANGUAGE.txt or, without any, the parallel ones."""
    return files_called(data / "text", ".txt") or parallel_texts(data)


def parallel_texts(data: Path) -> dict[str, Path]:
    """The files parallel/LANGUAGE.txt, whose i-th lines translate each other."""
    return files_called(data / "parallel", ".txt")


def attention_jobs(inputs: Inputs) -> Iterator[Job]:
    """One for the first of the parallel texts with each other one; plugged in, too, where the model can be.

    Heat maps are of the first pair that is short.
    """
    texts = list(parallel_texts(inputs.data).items())
    if len(texts) < 2:
        return
    (source, source_path), *others = texts
    is_veco = configuration(inputs.model).get("model_type") == VECO and is_masked_lm(inputs.model)
    for target, target_path in others:
        flags = ["--source", str(source_path), "--target", str(target_path)]
        flags += ["--by", "tlm,plugged-in" if is_veco else "tlm"]
        if (pair := first_short_pair(source_path, target_path)) is not None:
            sentence, translation = pair  # which may begin with -, as flags do
            flags += [f"--sentence={sentence}", f"--translation={translation}", "--units", "pieces"]
        yield Job(f"attention-{source}-{target}", inputs.model, flags, [source_path, target_path])


def alignment_jobs(inputs: Inputs) -> Iterator[Job]:
    """One for each file of pairs; the layer is chosen on NAME.dev.tsv where there is one."""
    files = files_called(inputs.data / "alignment", ".tsv")
    for name, path in files.items():
        if name.endswith(".dev"):
            continue
        development = files.get(f"{name}.dev")
        reads = [path] if development is None else [path, development]
        flags = ["--data", str(path)] + ([] if development is None else ["--dev-data", str(development)])
        yield Job(f"alignment-{name}", inputs.model, flags, reads)


def syntax_jobs(inputs: Inputs) -> Iterator[Job]:
    """One for all tests: test.conllu, and test-LANGUAGE.conllu."""
    files = files_called(inputs.data / "treebank", ".conllu")
    tests = {name: path for name, path in files.items() if name == "test" or name.startswith("test-")}
    if not tests or "train" not in files or "dev" not in files:
        return
    named = [f"{name.removeprefix('test-')}={path}" for name, path in tests.items()]
    flags = ["--train", str(files["train"]), "--dev", str(files["dev"]), "--test", *named]
    yield Job("syntax", inputs.model, flags, [files["train"], files["dev"], *tests.values()])


def similarity_jobs(inputs: Inputs) -> Iterator[Job]:
    """One for the parallel texts of two languages or more."""
    yield from parallel_job("similarity", inputs)


def languages_jobs(inputs: Inputs) -> Iterator[Job]:
    """One for the parallel texts of two languages or more."""
    yield from parallel_job("languages", inputs)


def parallel_job(name: str, inputs: Inputs) -> Iterator[Job]:
    """A job on all parallel texts, where there are two or more."""
    texts = parallel_texts(inputs.data)
    if len(texts) > 1:
        flags = ["--text", *(f"{language}={path}" for language, path in texts.items())]
        yield Job(name, inputs.model, flags, list(texts.values()))


def forgetting_jobs(inputs: Inputs) -> Iterator[Job]:
    """One for the texts of all languages."""
    texts = texts_by_language(inputs.data)
    if not texts:
        return
    if not is_masked_lm(inputs.model):
        raise NotPossibleError("the model has no head that predicts masked words; name one that was pre-trained")
    flags = ["--text", *(f"{language}={path}" for language, path in texts.items())]
    before = [] if inputs.before is None else [inputs.before]
    if before:
        flags += ["--before", f"before={inputs.before}"]
    yield Job("forgetting", inputs.model, flags, list(texts.values()), before)


def bias_jobs(inputs: Inputs) -> Iterator[Job]:
    """One, of Winogender's own files if they are there, or else of AX-g's."""
    directory, recast = inputs.data / "winogender", files_called(inputs.data, ".jsonl").get("AX-g")
    if TEMPLATES.removesuffix(".tsv") in files_called(directory, ".tsv"):
        data, reads = directory, list(files_of_winogender(directory).values())
    elif recast is not None:
        data, reads = recast, [recast]
    else:
        return
    model = inputs.model if inputs.entailment_model is None else inputs.entailment_model
    if not tells_entailment(model):
        raise NotPossibleError(
            f"{model} was not fine-tuned for a task with the label {ENTAILMENT}; name a model that was with "
            "--entailment-model"
        )
    yield Job("bias", model, ["--data", str(data)], reads)


def tells_entailment(model: Path) -> bool:
    """Whether a model was fine-tuned to classify texts, with entailment among the labels."""
    task = configuration(model).get("understanding", {}).get("task", {})
    return task.get("head") == Head.SEQUENCE and ENTAILMENT in map(str.lower, task.get("labels", ()))


def is_masked_lm(model: Path) -> bool:
    """Whether a model has a head that predicts masked words, as those that were pre-trained have."""
    architectures = configuration(model).get("architectures") or []
    return any(one.endswith(("ForMaskedLM", "ForPreTraining")) for one in architectures)


def configuration(model: Path) -> Mapping[str, Any]:
    """The content of a model's config.json."""
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


PARALLEL = "parallel/LANGUAGE.txt of two languages or more, line i of each being a translation of line i of the others"
ANALYSES = (
    Analysis(
        "attention",
        "Attention",
        "How much do the tokens of a sentence attend to its translation, and how evenly?",
        PARALLEL,
        attention_jobs,
        {
            "attention": "Weight on the other sentence and on special tokens, and its spread, by layer",
            "heads": "Weight on the other sentence by layer and head",
            "map.*": "What each piece of one pair attends to in the middle layer, the mean over heads",
        },
    ),
    Analysis(
        "alignment",
        "Word alignment",
        "Are the states of words that translate each other similar, and in which layer most?",
        "alignment/NAME.tsv, a pair a line: source TAB target TAB links such as 0-0 1-2; with alignment/NAME.dev.tsv "
        "the layer is chosen there",
        alignment_jobs,
        {"aer": "Alignment error rate by layer, a curve for each method; lower is better"},
    ),
    Analysis(
        "syntax",
        "Syntax",
        "How much of the trees of sentences can a small probe read from the states?",
        "treebank/train.conllu, treebank/dev.conllu, and treebank/test.conllu or treebank/test-LANGUAGE.conllu",
        syntax_jobs,
        {"syntax": "Scores of the probes by layer, with shares and correlations in a panel each"},
    ),
    Analysis(
        "similarity",
        "Similarity of translations",
        "How much more similar are the vectors of translations than those of random pairs?",
        PARALLEL,
        similarity_jobs,
        {
            "similarity": "Histograms of the cosines of translations and of random pairs",
            "map": "A map of sentences, with lines between translations",
        },
    ),
    Analysis(
        "languages",
        "Languages by layer",
        "How alike are languages in each layer, and what would make their sentences comparable?",
        PARALLEL,
        languages_jobs,
        {
            "languages": "Similarity of languages by layer",
            "accuracy": "Accuracy of retrieval and of classifiers of the language by layer",
            "matrix": "Similarity of all pairs of languages in one layer",
            "tree": "The tree of languages by their similarity in that layer",
        },
    ),
    Analysis(
        "forgetting",
        "Masked words",
        "How well are masked words of each language predicted, and what has changed?",
        "text/LANGUAGE.txt, or parallel/LANGUAGE.txt, a sentence a line",
        forgetting_jobs,
        {"forgetting": "Losses, accuracies and pseudo-perplexities by language, bars for each model"},
    ),
    Analysis(
        "bias",
        "Gender bias",
        "Does the gender of a pronoun change what the model infers?",
        "winogender/templates.tsv and winogender/occupations-stats.tsv, or AX-g.jsonl; and a model of entailment",
        bias_jobs,
        {
            "bias": "Gender parity score and accuracy of the model and of classifiers that always say the same",
            "occupations": "How much likelier the pronoun means an occupation with she than with he, by the share of "
            "women in it",
        },
    ),
)
