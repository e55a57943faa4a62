"""Whether a tokenizer.json gives the ids of transformers' tokenizer, which other files beside it may change."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.tokenizers.encoder import Encoder
from data_tools.tokenizers.tokenizer_json import TokenizerJsonEncoder
from data_tools.transformers_errors import errors_of_transformers

NUM_PROBED = 200  # pieces
ACUTE = "\u0301"


def probes(spellings: Sequence[str]) -> list[str]:
    """Text that tokenizers with the same pieces may cut otherwise, made of some of their `spellings` (V,).

    One may make letters small, lose accents and widths, put a space in front, or cut between Chinese characters.
    """
    lines = ["Übergröße NASA's naïve ２nd-best 12,5 % café 漢字"]
    known = [spelling for spelling in spellings if spelling and spelling.isprintable()]
    for piece in known[:: max(1, len(known) // NUM_PROBED)]:
        accented = unicodedata.normalize("NFC", piece[0] + ACUTE) + piece[1:]
        lines.append(f"{piece} {piece.capitalize()} {piece.upper()} {piece}{piece} {accented}")
    return lines


def open_in_transformers(directory: Path, named: Path | None = None) -> Any:
    """transformers' tokenizer in a directory, which errors call `named` if it is given; no foreign code is run."""
    from transformers import AutoTokenizer  # slow to import: only here

    with errors_of_transformers(f"{named or directory}: its tokenizer"):
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def check_as_in_transformers(encoder: Encoder, tokenizer: Any | None = None) -> None:
    """Raise ValueError where transformers' tokenizer in the same directory cuts text otherwise; None opens it.

    It rebuilds parts of a tokenizer.json by the settings of tokenizer_config.json, such as `do_lower_case` and
    `add_prefix_space`, and by what its class has without them; they may not be those that the file was made with.
    """
    if not isinstance(encoder, TokenizerJsonEncoder):
        return
    directory = encoder.tokenizer_dir
    if tokenizer is None:
        tokenizer = open_in_transformers(directory)
    for line in probes(encoder.spellings):
        ids, _ = encoder.encode_flat([line])
        if tokenizer(line, add_special_tokens=False)["input_ids"] != ids.tolist():
            raise ValueError(
                f"{directory}: tokenizer.json and transformers' {type(tokenizer).__name__} cut {line!r} into different "
                "pieces; if the file is right, give tokenizer_config.json its settings (do_lower_case, strip_accents, "
                "add_prefix_space …); if the class is, write its file anew: "
                f"AutoTokenizer.from_pretrained({str(directory)!r}).save_pretrained(NEW)"
            )
