"""Bitexts of numbers, which are their own ids."""

from __future__ import annotations

from pathlib import Path

from digits import write_lines

from finetune.mt.bitext import Bitext
from finetune.mt.special_tokens import Frame

TAG = 5
FRAME = Frame(source_prefix=(0,), source_suffix=(2,), target_suffix=(2,), pad=1)  # <s> x </s> and y </s>


def encode(lines: list[str]) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in lines]


def bitext_of(
    tmp_path: Path, source: list[str], target: list[str], max_length: int = 64, frame: Frame = FRAME
) -> Bitext:
    return Bitext.from_files(
        write_lines(tmp_path / "a.x", source),
        write_lines(tmp_path / "a.y", target),
        encode,
        decoder_start_token_id=TAG,
        max_length=max_length,
        frame=frame,
    )
