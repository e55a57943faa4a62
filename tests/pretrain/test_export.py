"""Export of runs that the plain engine trained, in this process; of ZeRO's, tests/test_ds_configs and integration."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

import veco
from pretrain.checkpoints import save_checkpoint
from pretrain.engine import build_engine
from pretrain.export import export
from pretrain.recipe import PretrainRecipe
from veco import VecoConfig, VecoForPreTraining

TIED = "lm_head.decoder.weight"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints 2, 4, 10 of a run in which every weight of checkpoint k is that of the first plus k."""
    run_dir = tmp_path_factory.mktemp("export") / "run"
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = VecoForPreTraining(VecoConfig(vocab_size=61, max_position_embeddings=20, **shape))
    recipe = PretrainRecipe(
        output=str(run_dir),
        engine="plain",
        ds_config="cpu.json",
        steps=10,
        save_every=2,
        keep_checkpoints=9,
        init_from="some/xlm-r",
    )
    engine = build_engine(model, recipe, lambda step: 1.0, run_dir / "logs")
    before = 0
    for step in (2, 4, 10):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += step - before
        before = step
        state = {"data_fingerprint": "f" * 64, "recent_losses": {"mono": [0.1234]}}
        save_checkpoint(engine, run_dir, step, recipe, state, model.config.save_pretrained)
    (run_dir / "tokenizer").mkdir()
    (run_dir / "tokenizer" / "sentencepiece.bpe.model").write_bytes(b"pieces")
    lines = [{"step": 4, "mono/mlm": 3.5, "lr": 1.0}, {"step": 10, "mono/mlm": 2.5}, {"step": 11, "mono/mlm": 1.25}]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    torch.save(model.state_dict(), run_dir / "expected.pt")
    return run_dir


def test_default_is_the_newest_in_bfloat16_and_opens(run: Path, tmp_path: Path) -> None:
    output = export(run, tmp_path / "model")
    assert sorted(path.name for path in output.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "sentencepiece.bpe.model",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    model = AutoModelForMaskedLM.from_pretrained(output)
    assert isinstance(model, veco.VecoForMaskedLM) and model.dtype == torch.bfloat16
    expected = torch.load(run / "expected.pt")
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, expected[name].bfloat16()), name
    # Tied weights are in the file once, and one again in the model.
    assert model.lm_head.decoder.weight is model.veco.embeddings.word_embeddings.weight


def test_means_of_the_last_checkpoints_in_several_files(run: Path, tmp_path: Path) -> None:
    output = export(run, tmp_path / "model", average=3, dtype="float32", max_file_bytes=20_000)
    assert len(list(output.glob("model-*.safetensors"))) > 1
    model = AutoModelForMaskedLM.from_pretrained(output)
    assert model.dtype == torch.float32
    newest = torch.load(run / "expected.pt")
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, newest[name] - 10 + (2 + 4 + 10) / 3, rtol=0, atol=2e-6, msg=name)
    early = AutoModelForMaskedLM.from_pretrained(export(run, tmp_path / "early", 4, 2, "float32"))
    torch.testing.assert_close(early.lm_head.dense.weight, newest["lm_head.dense.weight"] - 7, rtol=0, atol=2e-6)


def test_card_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    card = (export(run, tmp_path / "model", 10, 2) / "README.md").read_text()
    assert "# VECO, 10 updates" in card
    assert "- weights: the mean of the checkpoints after updates 4, 10 of 10, bfloat16" in card
    assert "- started from: some/xlm-r" in card and "f" * 64 in card
    assert "- layout: " in card and "- versions: " in card and "0.1234" not in card
    assert "| mono/mlm | 2.5000 | 10 |" in card and "1.25" not in card  # not what came later
    assert all(f"\n{field.name}: " in card for field in dataclasses.fields(PretrainRecipe))
    assert str(Path.cwd()) not in card.replace(str(run), "")


def test_bad_requests(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    for arguments, message in (
        ({"step": 3}, "no checkpoint of step 3; there are: 2, 4, 10"),
        ({"step": 4, "average": 3}, "--average 3 asks for more checkpoints than the run has"),
        ({"average": 0}, "--average must be at least 1, found 0"),
    ):
        with pytest.raises(ValueError, match=message):
            export(run, output, **arguments)
    with pytest.raises(ValueError, match="no complete checkpoint below"):
        export(tmp_path, output)
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    config = broken / "checkpoints" / "step-00000010" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match=r"veco.layers.2.*is missing.*in all"):
        export(broken, output)
    weights = broken / "checkpoints" / "step-00000010" / "plain_engine.pt"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="step-00000010 is damaged: plain_engine.pt has"):
        export(broken, output)
    assert not output.exists()
