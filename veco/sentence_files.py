"""What sentence-transformers reads of a model directory: which layer's states, their mean, and the longest text."""

from __future__ import annotations

from pathlib import Path

from veco.config import VecoConfig
from veco.tokenizer import read_json, write_json

MODULES, TRANSFORMER, POOLING = "modules.json", "sentence_bert_config.json", "1_Pooling"
# XTREME's scripts take layer 14 of 24 and 8 of 12: states near the end are about tokens, not sentences.
USUAL_DEPTH = 0.6


def usual_layer(num_layers: int) -> int:
    """The layer whose states stand for sentences, of 1 to `num_layers`."""
    return max(1, round(num_layers * USUAL_DEPTH))


def recorded_layer(directory: Path) -> int | None:
    """The layer that `write_sentence_files` wrote down in a directory; None where it was not there."""
    path = directory / TRANSFORMER
    return int(read_json(path)["config_args"]["num_hidden_layers"]) if path.is_file() else None


def write_sentence_files(directory: Path, config: VecoConfig, layer: int | None = None) -> int:
    """The layer that `SentenceTransformer(directory)` takes from now on: `layer`, or None for the usual one.

    A sentence is the mean of that layer's states over its tokens, `<s>` and `</s>` among them. The layers behind are
    not loaded for it; they stay in the weights. Raises ValueError for a layer that the model does not have.
    """
    num_layers = config.num_hidden_layers
    layer = usual_layer(num_layers) if layer is None else layer
    if not 1 <= layer <= num_layers:
        raise ValueError(f"layer {layer}: the model has layers 1 to {num_layers}")
    # The names are those that all releases since 3 read; newer ones write others.
    kinds = {"": "Transformer", POOLING: "Pooling"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    settings = {
        "max_seq_length": config.max_tokens,
        "do_lower_case": False,
        "config_args": {"num_hidden_layers": layer},
    }
    (directory / POOLING).mkdir()
    write_json(directory / MODULES, modules)
    write_json(directory / TRANSFORMER, settings)
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
    write_json(directory / POOLING / "config.json", {**pooling, "include_prompt": True})
    return layer
