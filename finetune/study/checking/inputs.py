"""What the steps of a study read that it does not make: tokenizers, and text for vocabularies."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from data_tools.cli import one_line
from data_tools.tokenizers.agreement import check_as_in_transformers
from data_tools.tokenizers.encoder import open_encoder
from finetune.study.configuration import Study
from finetune.study.places import Places
from finetune.study.preparation import VOCABULARY

TEXTS = ("text", "source_text")  # flags of veco.vocabulary that name files


def problems_of_inputs(study: Study, places: Places, unfinished: Collection[str]) -> list[str]:
    """What is wrong with tokenizers and text that are not the study's own and that `unfinished` stages read."""
    problems = []
    for where, directory in foreign_tokenizers(study, places, unfinished).items():
        try:
            check_as_in_transformers(open_encoder(directory))
        except (ValueError, OSError) as error:
            problems.append(f"{where}: {one_line(error)}")
    for where, path in texts_of_vocabularies(study, unfinished):
        if not path.exists() and not path.absolute().is_relative_to(places.output):
            problems.append(f"{where}: {path}: no such file")
    return problems


def foreign_tokenizers(study: Study, places: Places, unfinished: Collection[str]) -> dict[str, Path]:
    """Stage that reads a tokenizer which is neither made nor a model's -> its directory; one stage for each."""
    named = {f"data {name}": part.tokenizer for name, part in study.data.items() if part.corpus}
    for name, model in study.models.items():
        for kind, (_, key) in VOCABULARY.items():
            if key in (flags := model.vocabulary_flags(kind)):
                named[f"model {name}: {kind}"] = str(flags[key])
    found: dict[Path, str] = {}
    for stage, tokenizer in named.items():
        part = study.tokenizers.get(tokenizer)
        is_foreign = tokenizer not in study.models if part is None else bool(part.directory)
        if is_foreign and stage in unfinished:
            found.setdefault(places.tokenizer(tokenizer), stage)
    return {stage: directory for directory, stage in found.items()}


def texts_of_vocabularies(study: Study, unfinished: Collection[str]) -> Iterator[tuple[str, Path]]:
    """(stage, file or directory) of the text that changes of vocabulary read."""
    for name, model in study.models.items():
        for kind in VOCABULARY:
            for key in TEXTS if f"model {name}: {kind}" in unfinished else ():
                given = model.vocabulary_flags(kind).get(key, [])
                for path in given if isinstance(given, list) else [given]:
                    yield f"model {name}: {kind}", Path(str(path))
