"""What the steps of a study read that it does not make: tokenizers, and text for vocabularies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_tools.cli import one_line
from data_tools.tokenizers.agreement import check_as_in_transformers
from data_tools.tokenizers.encoder import open_encoder
from finetune.study.configuration import Study
from finetune.study.places import Places
from finetune.study.preparation import VOCABULARY

TEXTS = ("text", "source_text")  # flags of veco.vocabulary that name files


def problems_of_inputs(study: Study, places: Places) -> list[str]:
    """What is wrong with tokenizers and text that are not the study's own."""
    problems = []
    for where, directory in dict.fromkeys(foreign_tokenizers(study, places)):
        try:
            check_as_in_transformers(open_encoder(directory))
        except (ValueError, OSError) as error:
            problems.append(f"{where}: {one_line(error)}")
    for where, path in texts_of_vocabularies(study):
        if not path.exists() and not path.absolute().is_relative_to(places.output):
            problems.append(f"{where}: {path}: no such file")
    return problems


def foreign_tokenizers(study: Study, places: Places) -> Iterator[tuple[str, Path]]:
    """(place in STUDY.yaml, directory) of the tokenizers that are neither made nor those of models."""
    for name, part in study.tokenizers.items():
        if part.directory:
            yield f"tokenizers: {name}", places.tokenizer(name)
    named = [(f"data {name}: tokenizer", part.tokenizer) for name, part in study.data.items() if part.corpus]
    for name, model in study.models.items():
        for kind, (_, key) in VOCABULARY.items():
            if key in (flags := model.vocabulary_flags(kind)):
                named.append((f"model {name}: {kind}", str(flags[key])))
    yield from ((where, Path(own)) for where, own in named if own not in {*study.tokenizers, *study.models})


def texts_of_vocabularies(study: Study) -> Iterator[tuple[str, Path]]:
    """(place in STUDY.yaml, file or directory) of the text that changes of vocabulary read."""
    for name, model in study.models.items():
        for kind in VOCABULARY:
            flags = model.vocabulary_flags(kind)
            for key in TEXTS:
                given = flags.get(key, [])
                yield from (
                    (f"model {name}: {kind}", Path(str(one))) for one in (given if isinstance(given, list) else [given])
                )
