"""Where STUDY.yaml has the values of a step: what its command refuses is told with the key that is to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from data_tools.files.yaml_files import Keys
from finetune.study.configuration import CONTROL, Study
from finetune.study.places import model_parts
from finetune.study.probes import probed_models

# Fields that follow from a model's positions. Others say what is done to its weights, which the control does not have.
LENGTHS = ("max_length", "stride", "max_question_length", "max_answer_length")


class Values(NamedTuple):
    """Values by name, and the keys of the section of STUDY.yaml that has them."""

    keys: Keys
    values: Mapping[str, Any]


def values_of_stages(study: Study) -> dict[str, list[Values]]:
    """Title of a stage that makes something, or of a probe -> the sections with its values, the one that wins first."""
    found = {f"tokenizer {name}": [Values(("tokenizers", name), own.flags)] for name, own in study.tokenizers.items()}
    found |= {f"data {name}": [Values(("data", name), own.corpus)] for name, own in study.data.items()}
    for name, model in study.models.items():
        of_parts: dict[str, Mapping[str, Any]] = {
            "convert": {},
            "vocabulary": model.vocabulary or {},
            "extend": model.extend or {},
            "pretrain": model.pretrain or {},
        }
        for part in model_parts(model):
            shared = [Values(("pretraining",), study.pretraining)] if part == "pretrain" else []
            found[f"model {name}: {part}"] = [Values(("models", name, part), of_parts[part]), *shared]
    for name, probe in study.probes.items():
        own = [Values(("probes", name, "flags"), probe.flags), Values(("probes", name), {"command": probe.command})]
        found |= {f"probe {name} {model}": own for model in probed_models(probe, study)}
    return found


def values_of_cell(model: str, task: str, language: str, study: Study) -> list[Values]:
    """The sections with the fields of a model's fine-tuning on a task, the one that wins first."""
    return [
        *values_of_model(model, task, language, study),
        Values(("tasks", task, "fields"), study.tasks[task].fields),
        Values(("finetuning",), study.finetuning),
    ]


def values_of_model(model: str, task: str, language: str, study: Study) -> list[Values]:
    """Those sections that a model has itself; the control has also the lengths of the model whose shape it has."""
    if model == CONTROL:
        start = values_of_model(study.control_start(language), task, language, study)
        own = [Values(keys, {name: values[name] for name in LENGTHS if name in values}) for keys, values in start]
        return [Values((CONTROL, "fields"), study.control_fields), *own]
    part = study.models[model]
    of_task = Values(("models", model, "task_fields", task), part.task_fields.get(task, {}))
    return [of_task, Values(("models", model, "fields"), part.fields)]


def place_of(problem: str, sections: Sequence[Values], study: Study) -> str:
    """The place of the value that a message names first, or of the first section where it names none."""
    words = [word.strip("-").replace("-", "_") for word in re.findall(r"[\w-]+", problem)]
    for word in words:
        for section in sections:
            for name in section.values:
                if str(name).replace("-", "_") == word:
                    return study.place((*section.keys, name))
    return study.place(sections[0].keys)
