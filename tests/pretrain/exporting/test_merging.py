"""Low-rank matrices merged piece by piece, against the product of whole matrices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pretrain.exporting.merging import MergedTensor, merged
from training.checkpoints.stored_tensors import read_safetensors

MODULE = "veco.layers.0.feed_forward.up_proj"
SCALE = 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_piece_is_that_of_the_sum(dtype: torch.dtype, tmp_path: Path) -> None:
    """Pieces may begin and end inside rows; bias and other weights stay."""
    torch.manual_seed(0)
    weights = {
        f"{MODULE}.base_layer.weight": torch.randn(7, 5, dtype=dtype),
        f"{MODULE}.base_layer.bias": torch.randn(7, dtype=dtype),
        f"{MODULE}.lora_A.default.weight": torch.randn(2, 5),
        f"{MODULE}.lora_B.default.weight": torch.randn(7, 2),
        "veco.embeddings.norm.weight": torch.randn(5),
    }
    save_file(weights, tmp_path / "stored.safetensors")
    found = merged(read_safetensors(tmp_path / "stored.safetensors"), SCALE)
    assert found.keys() == {f"{MODULE}.weight", f"{MODULE}.bias", "veco.embeddings.norm.weight"}
    base, _, down, up, norm = weights.values()
    expected = base.double() + SCALE * up.double() @ down.double()
    whole = found[f"{MODULE}.weight"]
    assert isinstance(whole, MergedTensor) and whole.shape == (7, 5) and whole.dtype == torch.float32
    for start in range(35):
        for stop in range(start + 1, 36):
            piece = whole.read_flat(start, stop)
            torch.testing.assert_close(piece.double(), expected.flatten()[start:stop], rtol=0, atol=1e-5)
    assert torch.equal(found[f"{MODULE}.bias"].read(), weights[f"{MODULE}.base_layer.bias"])
    assert torch.equal(found["veco.embeddings.norm.weight"].read(), norm)
