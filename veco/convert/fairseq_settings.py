"""The settings of fairseq that a conversion reads, under fairseq's names, as users give them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

SETTINGS: dict[str, type] = {
    "encoder_attention_heads": int,
    "decoder_attention_heads": int,
    "activation_fn": str,
    "no_scale_embedding": bool,
    "dropout": float,
    "attention_dropout": float,
    "task": str,
    "source_lang": str,
    "target_lang": str,
    "prepend_bos": bool,
}
EXPECTED = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
# YAML's and Python's spellings, in small letters. Text is taken as it is: "no" is Norwegian, too.
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NONE = ("None", "null", "~")


def read_setting(text: str) -> tuple[str, Any]:
    """Name and value of `name=value`; the value stays text where it is not of the setting's type."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: expected name=value")
    if value in NONE:
        return name, None
    kind = SETTINGS.get(name, str)
    if kind is bool:
        return name, BOOLEANS.get(value.lower(), value)
    try:
        return name, kind(value)
    except ValueError:
        return name, value


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that no conversion reads, and for values of another type; None is unset."""
    for name, value in settings.items():
        if name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, n=1)
            meant = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(SETTINGS)}"
            raise ValueError(f"unknown setting {name}; {meant}")
        kind = SETTINGS[name]
        fits = type(value) in ((int, float) if kind is float else (kind,))  # True is an int to isinstance
        if value is not None and not fits:
            raise ValueError(f"setting {name}: expected {EXPECTED[kind]}, found {value!r}")
