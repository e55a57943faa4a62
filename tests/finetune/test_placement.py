"""Precision and device by name, and what is told where torch has neither."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import torch
from torch.nn import functional

from finetune.placement import Placement, add_device_flag, add_dtype_flag, add_max_tokens_flag, batch_tokens


def test_names_stand_for_what_torch_has() -> None:
    assert Placement.of() == Placement(torch.float32, None)
    assert Placement.of("bfloat16", "cpu") == Placement(torch.bfloat16, torch.device("cpu"))
    assert Placement.of("float16").dtype is torch.float16
    assert Placement().chosen_device.type == "cpu", "the tests see no card"


def test_flags_have_these_names() -> None:
    parser = argparse.ArgumentParser()
    add_dtype_flag(parser)
    add_device_flag(parser)
    defaults = parser.parse_args([])
    assert Placement.of(defaults.dtype, defaults.device) == Placement()
    given = parser.parse_args(["--dtype", "float16", "--device", "cpu"])
    assert Placement.of(given.dtype, given.device) == Placement(torch.float16, torch.device("cpu"))


def test_a_batch_that_nobody_has_chosen_is_small_on_a_cpu() -> None:
    parser = argparse.ArgumentParser()
    add_max_tokens_flag(parser)
    assert parser.parse_args([]).max_tokens is None
    assert parser.parse_args(["--max-tokens", "96"]).max_tokens == 96
    assert "(default: 1024 on a CPU, 8192 on a card)" in " ".join(parser.format_help().split())
    assert batch_tokens(None, torch.device("cpu")) == 1024
    assert batch_tokens(None, torch.device("cuda")) == 8192
    assert batch_tokens(96, torch.device("cpu")) == batch_tokens(96, torch.device("cuda")) == 96


@pytest.mark.parametrize("size", [0, -5])
def test_batches_of_nothing_are_told(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=f"max_tokens {size}: expected at least 1"):
        batch_tokens(size, torch.device("cpu"))
    parser = argparse.ArgumentParser()
    add_max_tokens_flag(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--max-tokens={size}"])
    assert f"argument --max-tokens: expected a whole number of at least 1, found {size}" in capsys.readouterr().err


def test_a_command_may_have_a_batch_of_its_own() -> None:
    parser = argparse.ArgumentParser()
    add_max_tokens_flag(parser, 2048)
    assert parser.parse_args([]).max_tokens == 2048
    assert "(default: 2048)" in parser.format_help()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("float64",), "dtype 'float64': expected float32, bfloat16, float16"),
        (("float32", "gpu"), "device 'gpu': expected auto, cpu, cuda, or cuda:N"),
        (("float32", "meta"), "device 'meta': expected auto, cpu"),
        (("float32", "cuda"), "device cuda: torch finds no cards; expected auto, cpu"),
        (("bfloat16", "cuda:3"), "device cuda:3: torch finds no cards"),
    ],
)
def test_what_is_not_there_is_told(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Placement.of(*names)
    assert "\n" not in str(raised.value)


def test_a_precision_that_torch_does_not_compute_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As older versions on the CPU, which have no product in float16."""

    def linear(states: torch.Tensor, *others: object) -> torch.Tensor:
        if states.dtype is torch.float16:
            raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")
        return states

    monkeypatch.setattr(functional, "linear", linear)
    with pytest.raises(ValueError, match=r"dtype float16: torch .* does not compute in it on cpu; take float32, or a"):
        Placement.of("float16")
    assert Placement.of("bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize(("count", "found"), [(1, "1 card"), (2, "2 cards")])
def test_a_card_of_a_number_that_there_is_not(count: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=f"device cuda:3: torch finds {found}; expected auto, cpu"):
        Placement.of(device="cuda:3")


@pytest.mark.parametrize("device", ["cpu", 0])
def test_a_device_that_is_none(device: Any) -> None:
    with pytest.raises(ValueError, match=f"device {device!r}: expected a torch.device, or None; Placement.of takes"):
        Placement(device=device)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let an operation fail, on a device without numbers that stands for a card."""

    def linear(*states: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(functional, "linear", linear)


@pytest.mark.parametrize(
    "error", [NotImplementedError("no such operator"), RuntimeError("\"gelu\" not implemented for 'Half'")]
)
def test_a_card_whose_operations_are_missing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other card is advised."""
    failing(monkeypatch, error)
    with pytest.raises(ValueError, match=r"dtype float16: torch .* does not compute in it on meta; take float32$"):
        Placement(torch.float16, torch.device("meta"))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: initialization error")]
)
def test_a_card_that_fails_is_not_told_as_a_missing_precision(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error), match=str(error)):
        Placement(torch.float16, torch.device("meta"))


def test_a_card_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(
        ValueError, match=r"dtype bfloat16: this card \(sm_70\) does not compute in it, .* take float16"
    ):
        Placement.of("bfloat16", "cuda")
    assert Placement.of("float32", "cuda").chosen_device == torch.device("cuda")
