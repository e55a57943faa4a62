"""Files in a model directory for sentence-transformers: which layer's states to average, and the longest text."""

from __future__ import annotations

from pathlib import Path

from veco.config import VecoConfig
from veco.tokenizer import read_json, write_json

MODULES, TRANSFORMER, POOLING = "modules.json", "sentence_bert_config.json", "1_Pooling"
# XTREME's scripts use layer 14 of 24 and 8 of 12: states of the last layers represent tokens rather than sentences.
USUAL_DEPTH = 0.6


def usual_layer(num_layers: int) -> int:
    """The layer whose states represent sentences, from 1 to `num_layers`."""
    return max(1, round(num_layers * USUAL_DEPTH))


def recorded_layer(directory: Path) -> int | None:
    """The layer that `write_sentence_files` recorded in a directory; None if it wrote none."""
    path = directory / TRANSFORMER
    return int(read_json(path)["config_args"]["num_hidden_layers"]) if path.is_file() else None


def write_sentence_files(directory: Path, config: VecoConfig, layer: int | None = None) -> int:
    """Make `SentenceTransformer(directory)` use `layer`, None being the usual one; return it.

    A sentence is the mean of that layer's states over its tokens, `<s>` and `</s>` included. The later layers stay in
    the weights but are not loaded. Raises ValueError for a layer that the model does not have.
    """
    num_layers = config.num_hidden_layers
    layer = usual_layer(num_layers) if layer is None else layer
    if not 1 <= layer <= num_layers:
        raise ValueError(f"layer {layer}: the model has layers 1 to {num_layers}")
    # Names that all releases from 3 on read; newer releases write others.
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
