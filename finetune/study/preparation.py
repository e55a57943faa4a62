"""The steps that make tokenizers, data and models: commands that a user could type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finetune.command_stages import Stage
from finetune.steps import Step
from finetune.study.configuration import Study
from finetune.study.places import Places, model_parts
from training.recipe.base import TrainingRecipe
from training.recipe.parsing import convert, read_yaml
from training.recipe.shipped import shipped_file

RECIPES = Path(__file__).resolve().parents[2] / "pretrain" / "recipes"
# Key of a model -> the command of veco.vocabulary that it has flags of, and the flag that names a tokenizer.
VOCABULARY = {"vocabulary": ("change", "tokenizer"), "extend": ("extend", "from_tokenizer")}


def preparation_steps(study: Study, places: Places) -> list[Step]:
    """The steps of all tokenizers, data and models that are to be made, in the order of the file."""
    return [
        *(tokenizer_step(name, study, places) for name, part in study.tokenizers.items() if part.text),
        *(data_step(name, study, places) for name, part in study.data.items() if part.corpus),
        *(model_step(name, study, places) for name, part in study.models.items() if model_parts(part)),
    ]


def tokenizer_step(name: str, study: Study, places: Places) -> Step:
    """Train a tokenizer on the text of an entry of `data`."""
    part, directory = study.tokenizers[name], places.tokenizer(name)
    command = ("data_tools.train_tokenizer", "--corpus", f"{places.corpus(part.text)}", *words_of(part.flags))
    title = f"tokenizer {name}"
    return Step(title, directory.parent, (Stage(title, (*command, "--output", f"{directory}"), directory),))


def data_step(name: str, study: Study, places: Places) -> Step:
    """Prepare the data of a corpus."""
    directory, title = places.data(name), f"data {name}"
    command = ("data_tools.prepare", f"{places.corpus(name)}", "--output", f"{directory}")
    needs = tokenizer_needs(study.data[name].tokenizer, study)
    return Step(title, directory.parent, (Stage(title, command, directory / "manifest.json"),), needs)


def model_step(name: str, study: Study, places: Places) -> Step:
    """Convert a model, change or extend its vocabulary and pre-train it, as far as it says so."""
    part = study.models[name]
    stages = []
    source = places.model(part.start) if part.start else None
    needs = list(model_needs(part.start, study))
    for kind in model_parts(part):
        made = places.model_part(name, kind)
        if kind == "convert":
            stages.append(Stage(f"model {name}: convert", ("veco.convert", part.convert, f"{source}", f"{made}"), made))
        elif kind in VOCABULARY:
            command, key = VOCABULARY[kind]
            flags = dict(part.vocabulary_flags(kind))
            if key in flags:
                tokenizer = str(flags.pop(key))
                needs += tokenizer_needs(tokenizer, study)
                flags = {key: places.tokenizer(tokenizer), **flags}
            words = ("veco.vocabulary", command, f"{source}", f"{made}", *words_of(flags))
            stages.append(Stage(f"model {name}: {kind}", words, made))
        else:
            stages.append(pretraining_stage(name, source, study, places))
            needs += [*data_needs(str((part.pretrain or {})["data"]), study), *model_needs(part.teacher, study)]
        source = made
    return Step(f"model {name}", places.output / "models" / name, tuple(stages), tuple(dict.fromkeys(needs)))


def pretraining_stage(name: str, source: Path | None, study: Study, places: Places) -> Stage:
    """Pre-train from a model or from random weights, with its teacher; the plain engine needs no launcher."""
    part = study.models[name]
    own = {key: value for key, value in (part.pretrain or {}).items() if key != "data"}
    if part.teacher:
        own["teacher"] = f"{places.model(part.teacher)}"
    engine = {**recipe_values(study), **own}.get("engine", TrainingRecipe.engine)
    is_distributed = engine == "deepspeed"
    made = places.model_part(name, "pretrain")
    command = [
        "pretrain/train.py" if is_distributed else "pretrain.train",
        "--config",
        f"{places.recipe}",
        *("--data", f"{places.data(str((part.pretrain or {})['data']))}"),
        *(("--init_from", f"{source}") if source else ()),
        *(word for field, value in own.items() for word in (f"--{field}", value_of_field(value))),
        *("--output", f"{made.parent}", "--resume"),
    ]
    return Stage(f"model {name}: pretrain", tuple(command), made, is_distributed)


def recipe_values(study: Study) -> dict[str, Any]:
    """The fields of the recipe that all pre-training shares: of `config`, and those given beside it."""
    own = {name: value for name, value in study.pretraining.items() if name != "config"}
    config = study.pretraining.get("config")
    shipped = read_yaml(shipped_file(str(config), RECIPES)) if config else {}
    return {**{name: value for name, value in shipped.items() if name not in ("data", "output")}, **own}


def written_files(study: Study, places: Places) -> dict[Path, str]:
    """The files that the commands read: a CORPUS.yaml for each entry of `data`, and the recipe of pre-training."""
    files = {}
    for name, part in study.data.items():
        if part.corpus:
            content = {"tokenizer": f"{places.tokenizer(part.tokenizer).absolute()}", **part.corpus}
            files[places.corpus(name)] = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if any(part.pretrain is not None for part in study.models.values()):
        files[places.recipe] = yaml.safe_dump(recipe_values(study), sort_keys=False, allow_unicode=True)
    return files


def model_needs(name: str, study: Study) -> tuple[str, ...]:
    """The step that makes a model, if there is one."""
    part = study.models.get(name)
    if part is None:
        return ()
    return (f"model {name}",) if model_parts(part) else model_needs(part.start, study)


def tokenizer_needs(name: str, study: Study) -> tuple[str, ...]:
    """The step that makes a tokenizer, or the model that carries it, if there is one."""
    if name not in study.tokenizers:
        return model_needs(name, study)
    return (f"tokenizer {name}",) if study.tokenizers[name].text else ()


def data_needs(name: str, study: Study) -> tuple[str, ...]:
    """The step that prepares data, if there is one."""
    return (f"data {name}",) if name in study.data and study.data[name].corpus else ()


def words_of(flags: Mapping[str, Any]) -> list[str]:
    """Flags of a command: true is the flag alone, false no flag, a list several values."""
    words = []
    for name, value in flags.items():
        if value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def value_of_field(value: Any) -> str:
    """A field of a recipe as the value of its flag: a list of words with commas, of anything else as JSON."""
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return ",".join(convert(str, item) for item in value)
    return json.dumps(value) if value is None or isinstance(value, bool | list | dict) else str(value)
