"""Open the configuration of a model, of whatever kind, with one line for one that cannot be right."""

from __future__ import annotations

from pathlib import Path

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

CONFIG_FILE = "config.json"


def open_config(directory: str | Path, field: str = "") -> PreTrainedConfig:
    """The configuration in a directory or on the Hub; `field` names it in error messages.

    Code that comes with a model is not run. Raises ValueError for a kind of model that transformers itself does not
    have, and for values that cannot be right.
    """
    from data_tools.transformers_errors import errors_of_transformers  # which `import veco` does without

    place = f"{field} {directory}".strip()
    with errors_of_transformers(f"{place}: its {CONFIG_FILE}"):
        content, _ = PreTrainedConfig.get_config_dict(directory)
    if (kind := content.get("model_type")) and kind not in CONFIG_MAPPING:
        raise ValueError(f"{place}: a {kind}, a kind of model that transformers does not have; foreign code is not run")
    with errors_of_transformers(f"{place}: its {CONFIG_FILE}"):
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)
