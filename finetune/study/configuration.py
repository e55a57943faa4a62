"""STUDY.yaml: models made from text, changed and trained on, then fine-tuned on tasks over seeds.

    tokenizers:
      en: {text: en, vocab_size: 8000}        # trained on the text of `data: en`; flags of data_tools.train_tokenizer
      old: "${VECO_RUNS}/old/tokenizer"       # or one that is there already
    data:                                     # what data_tools.prepare makes: the keys of CORPUS.yaml
      en: {tokenizer: en, mono: {en: "${VECO_CORPORA}/mono/en.txt.gz"}, valid: 0.01}
      fi: {tokenizer: old, mono: {fi: "${VECO_CORPORA}/mono/fi.txt.gz"}, valid: 0.01}
    pretraining: {config: xtreme_small, objective: mlm, steps: 1000}     # a recipe, its fields: all pre-training here
    models:
      en: {pretrain: {data: en}}                              # from random weights; fields of pretrain/train.py
      fi: {pretrain: {data: fi}}
      fi-en:                                                  # another one here, or a directory of a model, goes on
        from: fi
        vocabulary: {tokenizer: en, by: random}               # flags of veco.vocabulary change
        pretrain: {data: en, steps: 500}
      fi-more: {from: fi, extend: {from_tokenizer: en}}       # flags of veco.vocabulary extend
      small: {pretrain: {data: en, teacher: en, objective: "mlm + distil", num_hidden_layers: 3}}   # learns from it
      bert:                                                   # converted by veco.convert
        {from: "${VECO_RUNS}/bert", convert: bert, languages: [en], task_fields: {pos: {max_length: 96}}}
    control: {from: [en, fi], fields: {epochs: 30, patience: 5}}         # without pre-training
    tasks:                                                    # a column each; with several languages, one for each
      sick: {task: nli/sick, fields: {epochs: 3}}
      pos: {task: tasks/pos.yaml, data: "${VECO_CORPORA}/pos", languages: [en, fi]}
    finetuning: {data: "${VECO_CORPORA}/xlt", epochs: 3}      # fields of all fine-tuning
    seeds: [1, 2, 3]
    probes:                                                   # python -m COMMAND MODEL --FLAGS --output DIR
      syntax:
        command: analysis.syntax
        flags: {train: train.conllu, dev: dev.conllu, test: [test.conllu], probes: distance}
        results: {UUAS: "syntax.json:chosen.distance.uuas"}   # name: FILE:KEY.KEY… of a number, below DIR
        by_layer: {UUAS: "syntax.json:uuas"}                  # the same of {layer: number}
    table:
      {models: [en, fi-en], baseline: en, draws: 1000}        # rows, default all; differences, default to the control
      # averages: {English: [sick], Finnish: [pos]}             over these tasks, by default one over all
    processes: 1                                              # of each training with DeepSpeed, without GPUs

A column is trained and tested in its language; `languages` are by default those of the task, `tests: [en, de]` tests in
others, `report: dev` on dev. Cells are coloured: *own* where the column's language is one of the model's (the paper's
upper bound), *foreign* where it is not, *control* where the weights are random. The languages of a model are those of
the text of its pre-training, and of the model that it began from; `languages` of a model says otherwise. The control
has the shape, the tokenizer and the lengths in tokens (max_length, stride …) of the first model of `from` in the
column's language, or else of the first; its own `fields` go before these.

`fields` are of finetune.understanding.train: a model's `task_fields` go before its `fields`, these before the task's,
and these before `finetuning`. A `teacher` among them is a run of the same task, or a model of the table: its run in the
same column with the same seed, which goes before and has no teacher itself. Steps are made once: models share
tokenizers, data and the models they begin from or learn from. Task files and the text of `data` are relative to this
file, all other paths to the working directory, as in the commands; but a flag that names a file, with its suffix,
below STUDY.yaml's directory means that file.

Where a tokenizer is named, a model may stand for the one that it carries: `data: {more: {tokenizer: fi-more, …}}` is
data for a model that begins from fi-more. Fields of `pretrain` say what learns of it: trains, adapter, lora_rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.files.yaml_files import Keys
from finetune.understanding.tasks.task import Split

CONTROL = "control"


@dataclass(frozen=True, kw_only=True)
class TokenizerPart:
    """A tokenizer: a directory, or one to train on the text of an entry of `data`."""

    directory: str = ""
    text: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataPart:
    """Prepared data: a directory, or a corpus to prepare with a tokenizer."""

    directory: str = ""
    tokenizer: str = ""
    corpus: Mapping[str, Any] = field(default_factory=dict)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the text, sorted."""
        pairs = (side for pair in self.corpus.get("parallel", {}) for side in str(pair).split("-"))
        return tuple(sorted({*map(str, self.corpus.get("mono", {})), *pairs}))


@dataclass(frozen=True, kw_only=True)
class ModelPart:
    """A model: what it begins from, and what is done to it, in this order: convert, vocabulary, extend, pretrain."""

    start: str = ""  # empty: random weights
    convert: str = ""
    vocabulary: Mapping[str, Any] | None = None
    extend: Mapping[str, Any] | None = None
    pretrain: Mapping[str, Any] | None = None
    languages: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)  # of its fine-tuning
    task_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # and on single tasks

    def vocabulary_flags(self, key: str) -> Mapping[str, Any]:
        """The flags below `key`, "vocabulary" or "extend"; none where the model does not have it."""
        return {"vocabulary": self.vocabulary, "extend": self.extend}[key] or {}

    @property
    def teacher(self) -> str:
        """The model that its pre-training learns from; empty where there is none."""
        return str((self.pretrain or {}).get("teacher") or "")


@dataclass(frozen=True, kw_only=True)
class TaskPart:
    """A task, and how it is learned and tested."""

    task: str
    data: str = ""
    languages: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    report: str = Split.TEST
    fields: Mapping[str, Any] = field(default_factory=dict)


class FieldOfFile(NamedTuple):
    """A value in a JSON file below a directory: the way to it through the keys."""

    file: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProbePart:
    """A command that looks into a model, and where its results have numbers, and numbers by layer, by name."""

    command: str
    flags: Mapping[str, Any]
    results: Mapping[str, FieldOfFile]
    by_layer: Mapping[str, FieldOfFile]
    models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The content of a STUDY.yaml, described above."""

    path: Path
    place: Callable[[Keys], str] = field(compare=False)  # where the value under some keys stands, as "mine.yaml:3:8"
    tokenizers: Mapping[str, TokenizerPart]
    data: Mapping[str, DataPart]
    models: Mapping[str, ModelPart]
    tasks: Mapping[str, TaskPart]
    probes: Mapping[str, ProbePart]
    pretraining: Mapping[str, Any]
    finetuning: Mapping[str, Any]
    control: tuple[str, ...]  # the models whose shape and tokenizer it may have; empty: no control
    control_fields: Mapping[str, Any]
    seeds: Sequence[int]
    rows: tuple[str, ...]  # the models of the table, the control last
    averages: Mapping[str, tuple[str, ...]]  # name -> the tasks that it is over; empty: one over all
    baseline: str
    draws: int
    processes: int

    @property
    def teachers(self) -> set[str]:
        """What models of the study learn from, in pre-training or in fine-tuning, by name or directory."""
        fields = [self.finetuning, self.control_fields, *(task.fields for task in self.tasks.values())]
        for model in self.models.values():
            fields += [model.fields, *model.task_fields.values()]
        named = {*(str(own.get("teacher") or "") for own in fields), *(model.teacher for model in self.models.values())}
        return named - {""}

    def control_start(self, language: str) -> str:
        """The model whose shape, tokenizer and lengths the control has in a column of this language."""
        own = [name for name in self.control if language in self.languages_of(name)]
        return [*own, *self.control][0]

    def languages_of(self, model: str) -> tuple[str, ...]:
        """The languages of the text that a model is known to have seen; empty if nobody says."""
        part = self.models[model]
        if part.languages:
            return part.languages
        before = self.languages_of(part.start) if part.start in self.models else ()
        data = self.data_of(part)
        return tuple(dict.fromkeys((*before, *(data.languages if data else ()))))

    def has_all_languages(self, model: str) -> bool:
        """Whether `languages_of` has all languages that a model has seen, as far as the study tells."""
        part = self.models[model]
        if part.languages:
            return True
        if part.start and not (part.start in self.models and self.has_all_languages(part.start)):
            return False
        data = self.data_of(part)
        return part.pretrain is None or bool(data and data.languages)

    def data_of(self, part: ModelPart) -> DataPart | None:
        """The data of the study that a model is pre-trained on; None for a directory, and without pre-training."""
        return self.data.get(str((part.pretrain or {}).get("data")))
