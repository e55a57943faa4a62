"""Export of runs that the plain engine trained, in this process; of ZeRO's, tests/test_ds_configs and integration."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaTokenizer

import veco
from pretrain.export import Form, export, main
from pretrain.exporting.checkpoints import run_and_step
from pretrain.recipe import PretrainRecipe
from training.checkpoints.saving import Contents, save_checkpoint
from training.engine.build import build_engine
from veco import VecoConfig, VecoForMaskedLM, VecoForPreTraining, VecoModel
from veco.convert import to_xlm_roberta

TIED = "lm_head.decoder.weight"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints 2, 4, 10 of a run in which every weight of checkpoint k is that of the first plus k."""
    return write_run(tmp_path_factory.mktemp("export") / "run", {2: 2, 4: 4, 10: 10})


def write_run(run_dir: Path, shifts: dict[int, float], **shape_fields: Any) -> Path:
    """A run with checkpoints in which this was added to every weight."""
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = VecoForPreTraining(VecoConfig(vocab_size=61, max_position_embeddings=20, **shape, **shape_fields))
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
    before = 0.0
    for step, shift in shifts.items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += shift - before
        before = shift
        state = {"data_fingerprint": "f" * 64, "recent_losses": {"mono": [0.1234]}}
        contents = Contents(recipe=recipe, state=state, add_files=model.config.save_pretrained)
        save_checkpoint(engine, run_dir, step, contents)
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(f"▁p{number}", -5.0 - number) for number in range(56)]
    XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)]).save_pretrained(run_dir / "tokenizer")
    lines = [{"step": 4, "mono/mlm": 3.5, "lr": 1.0}, {"step": 10, "mono/mlm": 2.5}, {"step": 11, "mono/mlm": 1.25}]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    torch.save(model.state_dict(), run_dir / "expected.pt")
    return run_dir


def test_default_is_the_newest_in_bfloat16_and_opens(run: Path, tmp_path: Path) -> None:
    output = export(run, tmp_path / "model")
    assert sorted(path.name for path in output.iterdir()) == [
        "1_Pooling",
        "README.md",
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
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
    output = export(run, tmp_path / "model", average=3, form=Form(dtype="float32", max_file_bytes=20_000))
    assert len(list(output.glob("model-*.safetensors"))) > 1
    model = AutoModelForMaskedLM.from_pretrained(output)
    assert model.dtype == torch.float32
    newest = torch.load(run / "expected.pt")
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, newest[name] - 10 + (2 + 4 + 10) / 3, rtol=0, atol=2e-6, msg=name)
    early = AutoModelForMaskedLM.from_pretrained(export(run, tmp_path / "early", 4, 2, Form(dtype="float32")))
    torch.testing.assert_close(early.lm_head.dense.weight, newest["lm_head.dense.weight"] - 7, rtol=0, atol=2e-6)


def test_truncation_is_the_models_own(run: Path, tmp_path: Path) -> None:
    """20 positions are 18 tokens; the tokenizer of the run knows of none."""
    model = AutoModelForMaskedLM.from_pretrained(export(run, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    inputs = tokenizer("p1 " * 50, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 18)
    assert model(**inputs).logits.shape == (1, 18, 61)


IN_A_PROCESS_WITHOUT_VECO = """
import sys
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

directory, veco_directory, output = sys.argv[1:]
model, report = AutoModelForMaskedLM.from_pretrained(directory, output_loading_info=True)
assert not any(report.values()), report
batch = AutoTokenizer.from_pretrained(directory)(["p3 p7 p9", "p50"], padding=True, return_tensors="pt")
vectors = SentenceTransformer(directory, device="cpu").encode(["p3 p7 p9", "p50", "p4 " * 40])
try:
    AutoModel.from_pretrained(veco_directory)
except ValueError as error:
    message = str(error)
assert "veco" not in sys.modules
torch.save([message, type(model).__name__, dict(batch), model(**batch).logits, torch.tensor(vectors)], output)
"""


def test_xlm_roberta_opens_without_veco_and_equals_it_plugged_out(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    run = write_run(tmp_path / "run", {1: 0.0})  # as drawn: sums of weights near 2 would cancel
    plain = export(run, tmp_path / "plain", form=Form("xlm-roberta", dtype="float32", layer=1))
    output = export(run, tmp_path / "veco", form=Form(dtype="float32"))
    code = ["-c", IN_A_PROCESS_WITHOUT_VECO, str(plain), str(output), str(tmp_path / "seen.pt")]
    done = subprocess.run([sys.executable, *code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    message, kind, batch, logits, vectors = torch.load(tmp_path / "seen.pt")
    assert kind == "XLMRobertaForMaskedLM"
    # What transformers says of the other format is not clear; its card is.
    assert "model type `veco`" in message
    assert "transformers does not know the model type `veco` by itself" in (output / "README.md").read_text()
    model = AutoModelForMaskedLM.from_pretrained(output).eval()
    is_token = batch["attention_mask"].bool()
    torch.testing.assert_close(logits[is_token], model(**batch).logits[is_token], rtol=0, atol=1e-5)
    states = model(**batch, output_hidden_states=True).hidden_states[1]
    for row, length in enumerate((5, 3)):
        torch.testing.assert_close(vectors[row], states[row, :length].mean(dim=0), rtol=0, atol=1e-5)
    long = AutoTokenizer.from_pretrained(plain)("p4 " * 40, truncation=True, return_tensors="pt")
    states = model(**long, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(vectors[2], states[0].mean(dim=0), rtol=0, atol=1e-5)
    card = (plain / "README.md").read_text()
    assert "import veco" not in card and "layer 1 of 2" in card
    converted = to_xlm_roberta(VecoForMaskedLM.from_pretrained(tmp_path / "veco")).state_dict()
    for name, weight in load_file(plain / "model.safetensors").items():
        assert torch.equal(weight, converted[name]), name


def test_xlm_roberta_is_averaged_and_cut_into_files_too(run: Path, tmp_path: Path) -> None:
    as_xlm_r, as_veco = (Form(name, max_file_bytes=10_000) for name in ("xlm-roberta", "veco"))
    plain = export(run, tmp_path / "plain", average=3, form=as_xlm_r)
    assert len(list(plain.glob("model-*.safetensors"))) > 1
    found = XLMRobertaForMaskedLM.from_pretrained(plain)
    assert found.dtype == torch.bfloat16
    expected = to_xlm_roberta(VecoForMaskedLM.from_pretrained(export(run, tmp_path / "veco", average=3, form=as_veco)))
    for name, weight in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight), name


def test_sentence_transformers_opens_veco_too(run: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    output = export(run, tmp_path / "model", form=Form(dtype="float32", layer=1))
    encoder = sentence_transformers.SentenceTransformer(str(output), device="cpu")
    assert encoder.max_seq_length == 18 and len(encoder[0].model.layers) == 1
    batch = AutoTokenizer.from_pretrained(output)(["p3 p7 p9"], return_tensors="pt")
    model = VecoModel.from_pretrained(output).eval()
    states = model(**batch, output_hidden_states=True).hidden_states[1]
    expected = states[0].mean(dim=0).detach()
    torch.testing.assert_close(torch.tensor(encoder.encode("p3 p7 p9")), expected, rtol=0, atol=1e-5)


def test_the_lines_of_a_card_work(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    for model_format, imports in (("veco", 2), ("xlm-roberta", 0)):
        output = export(run, tmp_path / model_format, form=Form(model_format, dtype="float32"))
        card = (output / "README.md").read_text()
        assert card.count("\nimport veco") == imports
        for block in card.split("```python\n")[1:]:
            exec(block.partition("```")[0].replace("DIRECTORY", str(output)), {})


def test_card_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    card = (export(run, tmp_path / "model", 10, 2) / "README.md").read_text()
    assert "# VECO, 10 updates" in card
    assert "- weights: the mean of the checkpoints after updates 4, 10 of 10, bfloat16" in card
    assert "- started from: some/xlm-r" in card and "f" * 64 in card
    assert "- layout: " in card and "- versions: " in card and "0.1234" not in card
    assert "| mono/mlm | 2.5000 | 10 |" in card and "1.25" not in card  # not what came later
    assert all(f"\n{field.name}: " in card for field in dataclasses.fields(PretrainRecipe))
    assert str(Path.cwd()) not in card.replace(str(run), "")


def test_checkpoint_names_its_run_and_step(run: Path) -> None:
    assert run_and_step(run, None) == (run, None) and run_and_step(run, 4) == (run, 4)
    checkpoint = run / "checkpoints" / "step-00000004"
    assert run_and_step(checkpoint, None) == (run, 4)
    with pytest.raises(ValueError, match="step-00000004 is a checkpoint already; --step chooses one of a run"):
        run_and_step(checkpoint, 2)


def test_what_is_no_pre_training_is_named(run: Path, tmp_path: Path) -> None:
    model = export(run, tmp_path / "model")
    with pytest.raises(ValueError, match="model: expected a run of pre-training .* found a model; there is nothing to"):
        run_and_step(model, None)
    with pytest.raises(
        ValueError, match=r"none: expected a run of pre-training .* found nothing \(no such file or directory\)$"
    ):
        run_and_step(tmp_path / "none", None)
    moved = shutil.copytree(run / "checkpoints" / "step-00000004", tmp_path / "moved")
    with pytest.raises(ValueError, match="moved: lies outside its run, which has its tokenizer"):
        run_and_step(moved, None)
    (moved / "recipe.yaml").write_text("directions: en-de\n")
    with pytest.raises(ValueError, match="found a checkpoint of fine-tuning for translation, whose checkpoints hold"):
        run_and_step(moved, None)


def test_a_head_that_is_not_tied_is_exported_with_its_own_matrix(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {2: 2}, tie_word_embeddings=False)
    expected = torch.load(run / "expected.pt", weights_only=True)
    assert not torch.equal(expected[TIED], expected["veco.embeddings.word_embeddings.weight"])
    export(run, tmp_path / "model", form=Form(dtype="float32"))
    found = VecoForMaskedLM.from_pretrained(tmp_path / "model").state_dict()
    assert torch.equal(found[TIED], expected[TIED])
    with pytest.raises(ValueError, match="its head is not tied to its embeddings, .*; expected --format veco"):
        export(run, tmp_path / "xlmr", form=Form("xlm-roberta"))
    assert not (tmp_path / "xlmr").exists()


def test_an_adapter_alone_has_no_form(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for flags in (("--format", "xlm-roberta"), ("--dtype", "float16"), ("--layer", "1"), ("--max_file_gb", "1")):
        monkeypatch.setattr(sys, "argv", ["export", str(run), "--output", str(tmp_path / "x"), "--adapter", *flags])
        with pytest.raises(ValueError, match=f"{flags[0].replace('_', '-')} .*: is of a whole model; leave it out"):
            main()


def test_bad_requests(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    for arguments, message in (
        ({"step": 3}, "no checkpoint of step 3; there are: 2, 4, 10"),
        ({"step": 4, "average": 3}, "--average 3 asks for more checkpoints than the run has"),
        ({"average": 0}, "--average must be at least 1, found 0"),
        ({"form": Form(layer=3)}, "layer 3: the model has layers 1 to 2"),
        ({"form": Form("xlm-roberta", layer=0)}, "layer 0: the model has layers 1 to 2"),
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
