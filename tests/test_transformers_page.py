"""The examples of docs/transformers.md, run unchanged on a model from `pretrain.export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModelForMaskedLM, XLMRobertaTokenizer

from pretrain.export import Form, export
from pretrain.recipe import PretrainRecipe
from training.checkpoints.saving import Contents, save_checkpoint
from training.engine.build import build_engine
from veco import VecoConfig, VecoForMaskedLM, VecoForPreTraining, VecoModel

PAGE = Path(__file__).resolve().parents[1] / "docs" / "transformers.md"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's runs/mine in the working directory: a model of five layers, and one for sentences."""
    monkeypatch.chdir(tmp_path)
    run_dir = Path("runs/mine")
    torch.manual_seed(3)
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)]).save_pretrained(run_dir / "tokenizer")
    shape = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 48}
    vocab_size = len(special) + len(pieces) + 1
    model = VecoForPreTraining(VecoConfig(vocab_size=vocab_size, max_position_embeddings=34, **shape))
    recipe = PretrainRecipe(output="runs/mine", engine="plain", ds_config="cpu.json", steps=1)
    engine = build_engine(model, recipe, lambda step: 1.0, run_dir / "logs")
    state = {"data_fingerprint": "f" * 64, "recent_losses": {}}
    contents = Contents(recipe=recipe, state=state, add_files=model.config.save_pretrained)
    save_checkpoint(engine, run_dir, 1, contents)
    (run_dir / "metrics.jsonl").write_text('{"step": 1, "mono/mlm": 3.5}\n')
    export(run_dir, run_dir / "model")
    export(run_dir, run_dir / "sentences", form=Form("xlm-roberta", dtype="float32", layer=4))
    return run_dir


def example(title: str) -> dict[str, Any]:
    """The names that the Python code of a section defines."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", section, re.S):
        exec(code, names)
    return names


def test_lora(mine: Path) -> None:
    pytest.importorskip("peft")
    names = example("LoRA")
    trained = {name for name, weight in names["adapted"].named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 6 * 5, "two matrices for six products of five layers"
    assert not any("cross_attention" in name for name in trained)
    merged = AutoModelForMaskedLM.from_pretrained(mine / "merged")
    assert isinstance(merged, VecoForMaskedLM)
    names["adapted"](torch.tensor([[0, 5, 6, 2]])).logits.sum().backward()
    assert {name for name, weight in names["adapted"].named_parameters() if weight.grad is not None} == trained


def test_quantisation(mine: Path) -> None:
    pytest.importorskip("optimum.quanto")
    names = example("Quantisation")
    layer = names["model"].layers[0]
    assert type(layer.feed_forward.up_proj) is not torch.nn.Linear
    assert type(layer.cross_attention.q_proj) is torch.nn.Linear
    ids = names["tokenizer"]("Das Haus ist rot.", return_tensors="pt")
    with torch.no_grad():
        expected = VecoModel.from_pretrained(mine / "model", dtype=torch.float32).eval()(**ids).last_hidden_state
    assert 0 < (names["states"] - expected).abs().max() < 0.2


def test_onnx(mine: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    names = example("ONNX")
    ids = names["tokenizer"]("Ein rotes Haus", return_tensors="pt")
    with torch.no_grad():
        expected = names["model"](**ids).last_hidden_state
    torch.testing.assert_close(torch.from_numpy(names["states"]), expected, rtol=0, atol=1e-5)


def test_sentence_transformers(mine: Path) -> None:
    pytest.importorskip("sentence_transformers")
    names = example("sentence-transformers")
    assert names["vectors"].shape == (2, 32)
    assert len(names["encoder"][0].model.encoder.layer) == 4
    assert names["similarity"][0, 0] == pytest.approx(1.0, abs=1e-5)


def test_the_hub(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(HfApi, name, lambda self, *names, _name=name, **options: calls.append((_name, options)))
    example("The hub")
    assert [name for name, _ in calls] == ["create_repo", "upload_folder"]
    folder = Path(calls[1][1]["folder_path"])
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.license, card.data.language) == (
        "transformers",
        "apache-2.0",
        ["de", "en"],
    )
    assert card.data.tags == ["veco", "fill-mask"] and "## Recipe" in card.text
