"""Whether prepared data and a model give the same ids to the same pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.files.atomic import sha256_of
from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.agreement import probes
from data_tools.tokenizers.encoder import model_file, open_encoder
from veco.tokenizer import has_tokenizer, open_tokenizer


def check_own_tokenizer(data_dir: Path, manifest: Manifest) -> None:
    """Raise ValueError when the tokenizer in a data directory is not the one that its shards were made with."""
    model = model_file(data_dir / "tokenizer")
    if model.is_file() and sha256_of(model) != manifest.tokenizer_sha256:
        raise ValueError(
            f"{model.parent}: not the tokenizer that {data_dir} was prepared with; run data_tools.prepare again"
        )


def check_data_pieces(data_dir: Path, manifest: Manifest, tokenizer: Any, model_dir: Path | str) -> None:
    """Raise ValueError when shards hold ids that a model's tokenizer has for other pieces than theirs.

    The pieces are compared, not files: a tokenizer may be kept as a SentencePiece model, as tokenizer.json, or both.
    Tags that were added to the model's behind `<mask>` do not matter, since no text becomes one.
    """
    check_own_tokenizer(data_dir, manifest)
    directory = data_dir / "tokenizer"
    if not has_tokenizer(directory):
        raise ValueError(f"{directory}: no tokenizer there; run data_tools.prepare again")
    of_data = open_tokenizer(directory)
    theirs, ours = of_data.get_vocab(), tokenizer.get_vocab()
    different = sorted(piece for piece, id_ in theirs.items() if id_ < manifest.vocab_size and ours.get(piece) != id_)
    if different or len(theirs) < manifest.vocab_size:
        raise ValueError(
            f"{data_dir} was prepared with another tokenizer ({manifest.vocab_size:,} pieces) than that of {model_dir} "
            f"({len(ours):,} pieces): {len(different):,} pieces have other ids, such as {different[:3]}; prepare the "
            "data with the model's"
        )
    for line in probes(open_encoder(directory).spellings):
        if of_data(line)["input_ids"] != tokenizer(line)["input_ids"]:
            raise ValueError(
                f"{data_dir} was prepared with a tokenizer that has the pieces of {model_dir}'s but cuts text "
                f"otherwise, as one that makes letters small does: {line!r} has other ids; prepare the data with the "
                "model's"
            )
