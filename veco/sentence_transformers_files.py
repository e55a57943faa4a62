"""Files in a model directory for sentence-transformers: which layer's states to average, and the longest text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from veco.config import VecoConfig
from veco.opening import CONFIG_FILE, open_config
from veco.tokenizer import read_json, write_json

MODULES, TRANSFORMER, POOLING = "modules.json", "sentence_bert_config.json", "1_Pooling"
NORMALIZE = "2_Normalize"  # which has no settings, and so no file
PROMPTS, TOKENIZER = "config_sentence_transformers.json", "tokenizer_config.json"
NO_LENGTH = 10**6  # from here on a tokenizer's longest text says that it has none
COMPUTED_HERE = ("Transformer", "Pooling", "Normalize")  # modules of sentence-transformers
# Pooling -> its key in files of older releases, which newer ones read; they write it as the value of pooling_mode.
POOLING_KEYS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
# XTREME's scripts use layer 14 of 24 and 8 of 12: states of the last layers represent tokens rather than sentences.
USUAL_DEPTH = 0.6


def usual_layer(num_layers: int) -> int:
    """The layer whose states represent sentences, from 1 to `num_layers`."""
    return max(1, round(num_layers * USUAL_DEPTH))


class SentenceSettings(NamedTuple):
    """Of which layer's states sentence-transformers makes a vector, and how: their mean, or the first one (cls).

    `max_length` is the longest text in tokens, special ones included; None is what the model takes. With `normalise`
    sentence-transformers brings each vector to length 1.
    """

    layer: int
    pooling: str
    max_length: int | None = None
    normalise: bool = False


def recorded_settings(directory: Path) -> SentenceSettings | None:
    """What sentence-transformers computes of a model directory; None where it has no files for it.

    That is the layer that `write_sentence_files` recorded, or else the last one. Raises ValueError for vectors that are
    made in another way, and for files that cannot be read.
    """
    if not any((directory / name).is_file() for name in (MODULES, TRANSFORMER)):
        return None
    try:
        modules = (
            json.loads((directory / MODULES).read_text(encoding="utf-8")) if (directory / MODULES).is_file() else []
        )
        paths = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
        if others := [kind for kind in paths if kind not in COMPUTED_HERE]:
            raise ValueError(f"has a module {others[0]}, expected {', '.join(COMPUTED_HERE)} alone")
        pooling = _content(directory / paths.get("Pooling", POOLING) / CONFIG_FILE)
        transformer, prompts = (_content(directory / name) for name in (TRANSFORMER, PROMPTS))
        if transformer.get("do_lower_case") or prompts.get("default_prompt_name"):
            raise ValueError("changes texts before they are read, by do_lower_case or default_prompt_name")
        # The second name is that of newer releases.
        options = {**(transformer.get("config_args") or {}), **(transformer.get("config_kwargs") or {})}
        layer = options.get("num_hidden_layers") or open_config(directory).num_hidden_layers
        max_length = _max_length(transformer, _content(directory / TOKENIZER))
        return SentenceSettings(int(layer), _pooling(pooling), max_length, "Normalize" in paths)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = error if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(f"{directory}: its files of sentence-transformers cannot be followed: {what}") from None


def settings_with_recorded(
    directory: Path, layer: int | None, pooling: str | None, max_length: int | None
) -> tuple[int | None, str | None, int | None]:
    """The settings, each that is None as a directory records it; still None where it has no files for it.

    Raises ValueError as `recorded_settings` does, unless layer and pooling are given, which say how vectors are made.
    """
    if None not in (layer, pooling, max_length):
        return layer, pooling, max_length
    try:
        recorded = recorded_settings(directory)
    except ValueError:
        if layer is None or pooling is None:
            raise
        recorded = None
    if recorded is None:
        return layer, pooling, max_length
    return (
        recorded.layer if layer is None else layer,
        pooling or recorded.pooling,
        recorded.max_length if max_length is None else max_length,
    )


def copy_sentence_files(source: Path, directory: Path, config: VecoConfig, tell: Callable[[str], object]) -> int | None:
    """Write what a directory has for sentence-transformers to that of a model made of it; return the layer.

    It is None where there are no such files, or where they cannot be followed, which `tell` is told.
    """
    try:
        recorded = recorded_settings(source)
    except ValueError as error:
        tell(f"{error}; they are not copied")
        return None
    return None if recorded is None else write_sentence_files(directory, config, *recorded)


def _content(path: Path) -> dict[str, Any]:
    """That of a JSON file, which may be missing."""
    return read_json(path) if path.is_file() else {}


def _max_length(transformer: dict[str, Any], tokenizer: dict[str, Any]) -> int | None:
    """The longest text: in the settings of older releases, the tokenizer's in newer ones."""
    longest = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    return int(longest) if longest and longest < NO_LENGTH else None


def _pooling(content: dict[str, Any]) -> str:
    """How the module Pooling makes a vector of states. Raises ValueError for other ways than mean and cls."""
    modes = content.get("pooling_mode") or [mode for mode, key in POOLING_KEYS.items() if content.get(key)] or "mean"
    mode = modes[0] if isinstance(modes, list) and len(modes) == 1 else modes
    if mode not in ("mean", "cls"):
        raise ValueError(f"pools by {mode}, expected mean or cls")
    return str(mode)


def write_sentence_files(
    directory: Path,
    config: VecoConfig,
    layer: int | None = None,
    pooling: str = "mean",
    max_length: int | None = None,
    normalise: bool = False,
) -> int:
    """Make `SentenceTransformer(directory)` use `layer`, None being the usual one; return it.

    A sentence is the mean of that layer's states over its tokens, `<s>` and `</s>` included, or with `pooling` "cls"
    the state of the first, with `normalise` divided by its length; it is cut to `max_length` tokens, None being the
    model's most. The later layers stay in the weights but are not loaded. Raises ValueError for a layer that the model
    does not have.
    """
    num_layers = config.num_hidden_layers
    layer = usual_layer(num_layers) if layer is None else layer
    if not 1 <= layer <= num_layers:
        raise ValueError(f"layer {layer}: the model has layers 1 to {num_layers}")
    # Names that all releases from 3 on read; newer releases write others.
    kinds = {"": "Transformer", POOLING: "Pooling"} | ({NORMALIZE: "Normalize"} if normalise else {})
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    settings = {
        "max_seq_length": max_length or config.max_tokens,
        "do_lower_case": False,
        "config_args": {"num_hidden_layers": layer},
    }
    (directory / POOLING).mkdir()
    write_json(directory / MODULES, modules)
    write_json(directory / TRANSFORMER, settings)
    of_pooling = {"word_embedding_dimension": config.hidden_size, POOLING_KEYS[pooling]: True, "include_prompt": True}
    write_json(directory / POOLING / CONFIG_FILE, of_pooling)
    return layer
