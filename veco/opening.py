"""Open what lies beside a model's weights by transformers, with one line for files that it does not expect so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

CONFIG_FILE = "config.json"


def open_config(directory: str | Path, field: str = "") -> PreTrainedConfig:
    """The configuration in a directory or on the Hub; `field` names it in error messages.

    Code that comes with a model is not run. Raises ValueError for a kind of model that transformers itself does not
    have, and for values that cannot be right.
    """
    place = f"{field} {directory}".strip()
    with errors_of_transformers(f"{place}: its {CONFIG_FILE}"):
        content, _ = PreTrainedConfig.get_config_dict(directory)
        kind = content.get("model_type")
        config = (
            None
            if kind and kind not in CONFIG_MAPPING
            else AutoConfig.from_pretrained(directory, trust_remote_code=False)
        )
    if config is None:
        raise ValueError(f"{place}: a {kind}, a kind of model that transformers does not have; foreign code is not run")
    return config


@contextmanager
def errors_of_transformers(what: str) -> Iterator[None]:
    """Raise ValueError, on one line, for anything that transformers raises over a file that it did not expect so."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{what} cannot be opened by transformers: {type(error).__name__}: {reason}") from error
