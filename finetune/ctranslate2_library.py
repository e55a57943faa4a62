"""CTranslate2, which is an optional dependency: translation and exported encoders run in it."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase


def import_ctranslate2() -> Any:
    """The library, set to use AVX-512 if the CPU has it. Raises ValueError if it is not installed."""
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")  # by default it uses AVX2 on AMD, which is 10 % slower
    try:
        import ctranslate2
    except ImportError:
        raise ValueError("CTranslate2 is not installed: pip install 'veco[ct2]'") from None
    return ctranslate2


def unknown_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The piece that an exported model has for unknown words, without which CTranslate2 does not open it.

    A tokenizer that has pieces for every word has no such token: then it is that of padding, which no text has.
    """
    return str(tokenizer.unk_token or tokenizer.pad_token)
