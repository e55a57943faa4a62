"""Precision and device by name, and what is told where torch has neither."""

from __future__ import annotations

import argparse

import pytest
import torch
from torch.nn import functional

from finetune.placement import Placement, add_device_flag, add_dtype_flag


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


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("float64",), "dtype 'float64': expected float32, bfloat16, float16"),
        (("float32", "gpu"), "device 'gpu': expected auto, cpu, cuda, or cuda:N"),
        (("float32", "meta"), "device 'meta': expected auto, cpu"),
        (("float32", "cuda"), "device cuda: torch finds none of the cards it names; expected auto, cpu"),
        (("bfloat16", "cuda:3"), "device cuda:3: torch finds none"),
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


def test_a_card_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(
        ValueError, match=r"dtype bfloat16: this card \(sm_70\) does not compute in it, .* take float16"
    ):
        Placement.of("bfloat16", "cuda")
    assert Placement.of("float32", "cuda").chosen_device == torch.device("cuda")
