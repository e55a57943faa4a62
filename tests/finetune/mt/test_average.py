"""Averaging against the mean computed by hand, on tiny models that `save_pretrained` wrote."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, BertConfig, BertForSequenceClassification, GenerationConfig

from data_tools.cli import run_main
from finetune.mt.average import average_models, best_models, chosen_models, last_models, main, models_of
from finetune.selection import Selection
from veco import VecoConfig, VecoForConditionalGeneration


def tiny_model(seed: int) -> VecoForConditionalGeneration:
    torch.manual_seed(seed)
    config = VecoConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
        decoder_layers=1,
        decoder_start_token_id=29,
    )
    return VecoForConditionalGeneration(config)


RECIPE = "save_every: 1\nkeep_checkpoints: 100\nkeep_every: 0\n"


def write_run(path: Path, steps: list[int]) -> Path:
    for step in steps:
        model = path / "checkpoints" / f"step-{step:07d}" / "model"
        tiny_model(step).save_pretrained(model)
        GenerationConfig(decoder_start_token_id=29, num_beams=step).save_pretrained(model)
        (model / "tokenizer.json").write_text(json.dumps({"step": step}), encoding="utf-8")
        (model / "tokenizer_config.json").write_text('{"model_max_length": 512, "mask_token": "<mask>"}')  # as once
        (model.parent / "state.json").write_text("{}", encoding="utf-8")
        (model.parent / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return path


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:07d}" / "model" / "model.safetensors")


def test_mean_of_two_to_the_bit_and_it_loads(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [100, 200, 1000])
    chosen = last_models(run, 2)
    average_models(chosen, tmp_path / "mean")
    assert [path.parent.name for path in chosen] == ["step-0000200", "step-0001000"]
    a, b, mean = weights(run, 200), weights(run, 1000), load_file(tmp_path / "mean" / "model.safetensors")
    assert mean.keys() == a.keys()
    for name, tensor in mean.items():
        # (a + b) / 2 in float32 is exact but for the rounding of the sum, which halving does not touch.
        assert torch.equal(tensor, (a[name] + b[name]) / 2), name
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "mean")
    assert isinstance(loaded, VecoForConditionalGeneration)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in mean.items())
    # Whatever was tied is tied again: the head projects with the averaged embeddings.
    embeddings = loaded.get_input_embeddings().weight
    assert any(
        parameter.data_ptr() == embeddings.data_ptr()
        for name, parameter in loaded.named_parameters(remove_duplicate=False)
        if name.startswith("lm_head")
    )
    # Everything else comes from the last checkpoint.
    assert loaded.generation_config.num_beams == 1000
    assert json.loads((tmp_path / "mean" / "tokenizer.json").read_text(encoding="utf-8")) == {"step": 1000}
    tokenizer_config = json.loads((tmp_path / "mean" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokenizer_config == {"model_max_length": 18, "mask_token": "<mask>"}


@pytest.mark.parametrize(("keep_every", "expected"), [(0, [400, 500]), (200, [200, 400, 500])])
def test_the_last_are_those_saved_in_turn(tmp_path: Path, keep_every: int, expected: list[int]) -> None:
    """They do not include checkpoints kept only because they are the best."""
    run = write_run(tmp_path / "run", [200, 350, 400, 450, 500])
    recipe = f"save_every: 100\nkeep_checkpoints: 2\nkeep_every: {keep_every}\n"
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "recipe.yaml").write_text(recipe, encoding="utf-8")
    assert [int(path.parent.name.removeprefix("step-")) for path in models_of(run)] == expected
    with pytest.raises(ValueError, match=f"has the last {len(expected)} checkpoints, but 4 were asked for"):
        last_models(run, 4)


def test_mean_of_the_best(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [10, 20, 30, 40])
    selection = Selection("bleu", "highest")
    for step, bleu in {10: 30.0, 15: 99.0, 20: 20.0, 30: 31.0, 40: 25.0}.items():  # none was kept of update 15
        selection.note(step, {"bleu": bleu})
    newest = run / "checkpoints" / "step-0000040" / "state.json"
    newest.write_text(json.dumps({"files": {}, **selection.state()}), encoding="utf-8")
    average_models(best_models(run, 2), tmp_path / "mean")
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    a, b = weights(run, 10), weights(run, 30)
    assert all(torch.equal(tensor, (a[name] + b[name]) / 2) for name, tensor in mean.items())
    with pytest.raises(ValueError, match="4 validated checkpoints, but the best 5"):
        best_models(run, 5)


def test_mean_of_bfloat16_is_exact_and_kept_in_float32(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2, 3])
    for step, value in (
        (1, 256.0),
        (2, 1.0),
        (3, 2.5),
    ):  # in bfloat16, 256 + 1 would stay 256 and 86.5 is 86
        path = run / "checkpoints" / f"step-{step:07d}" / "model" / "model.safetensors"
        filled = {name: torch.full_like(t, value, dtype=torch.bfloat16) for name, t in load_file(path).items()}
        save_file(filled, path, metadata={"format": "pt"})
    average_models(last_models(run, 3), tmp_path / "mean")
    for tensor in load_file(tmp_path / "mean" / "model.safetensors").values():
        assert torch.equal(tensor, torch.full_like(tensor, 86.5))
        assert tensor.dtype is torch.float32


def test_one_checkpoint_is_itself_and_an_old_output_is_replaced(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [5, 7])
    average_models(last_models(run, 2), tmp_path / "mean")
    average_models(last_models(run, 1), tmp_path / "mean")
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    assert all(torch.equal(mean[name], tensor) for name, tensor in weights(run, 7).items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean", "run"]  # no temporary is left


@pytest.mark.parametrize("place", ["model", "run", "run/checkpoints/step-0000001/model", "link"])
def test_a_directory_it_did_not_make_is_kept(tmp_path: Path, place: str) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    tiny_model(3).save_pretrained(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"{place}: was not made by finetune\.mt\.average"):
        average_models(last_models(run, 2), tmp_path / place)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_average_that_was_trained_further_is_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    average_models(last_models(run, 2), tmp_path / "mean")
    tiny_model(3).save_pretrained(tmp_path / "mean")
    with pytest.raises(ValueError, match=r"mean: holds .*model\.safetensors, changed since"):
        average_models(last_models(run, 2), tmp_path / "mean")


def test_incomplete_checkpoints_do_not_count(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    (run / "checkpoints" / "step-0000003" / "model").mkdir(parents=True)
    (run / "checkpoints" / "latest").write_text("step-0000002", encoding="utf-8")
    shutil.copytree(run / "checkpoints" / "step-0000002", run / "checkpoints" / ".step-0000004.tmp")
    assert [path.parent.name for path in models_of(run)] == ["step-0000001", "step-0000002"]


def test_too_few_checkpoints(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    with pytest.raises(ValueError, match=r"has the last 2 checkpoints, but 10 were asked for: use --last 2"):
        average_models(last_models(run, 10), tmp_path / "mean")
    with pytest.raises(ValueError, match="at least 1"):
        last_models(run, 0)
    with pytest.raises(ValueError, match="--best must be at least 1"):
        best_models(run, 0)
    with pytest.raises(ValueError, match=r"none.checkpoints: no such directory"):
        average_models(last_models(tmp_path / "none", 1), tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_checkpoints_that_do_not_match(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    path = run / "checkpoints" / "step-0000002" / "model" / "model.safetensors"
    whole = load_file(path)
    name = sorted(whole)[0]
    save_file({**whole, name: torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=rf"{name} is F32 .* but F32 \[3\] in .*step-0000002"):
        average_models(last_models(run, 2), tmp_path / "mean")
    save_file({key: tensor for key, tensor in whole.items() if key != name}, path)
    with pytest.raises(ValueError, match=rf"step-0000002.model has no tensor {name}, which .*step-0000001"):
        average_models(last_models(run, 2), tmp_path / "mean")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        average_models(last_models(run, 2), tmp_path / "mean")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run"]


def test_weights_in_several_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    for step in (1, 2):
        model = run / "checkpoints" / f"step-{step:07d}" / "model"
        (model / "model.safetensors").unlink()
        tiny_model(step).save_pretrained(model, max_shard_size="3KB")
        assert not (model / "model.safetensors").exists()
    average_models(last_models(run, 2), tmp_path / "mean")
    one, two = tiny_model(1).state_dict(), tiny_model(2).state_dict()
    assert sorted(path.name for path in (tmp_path / "mean").glob("model*")) == ["model.safetensors"]
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "mean").state_dict()
    assert all(torch.equal(tensor, (one[name] + two[name]) / 2) for name, tensor in loaded.items())


def test_models_without_safetensors_are_refused(tmp_path: Path) -> None:
    """A directory of pickles, or one that was copied in part."""
    models = [model.parent for model in sorted(write_run(tmp_path / "run", [1, 2]).rglob("model.safetensors"))]
    (models[0] / "model.safetensors").rename(models[0] / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"step-0000001/model: no model.safetensors and no model.safetensors.index.json"
    ):
        average_models(models, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_an_average_does_not_replace_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    for name in ("one", "two"):
        average_models(last_models(run, 1), tmp_path / name)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    monkeypatch.setattr(sys, "argv", ["average", one, two, "--output", one])
    with pytest.raises(ValueError, match="--output .*one: the input .*one is in it; choose another --output"):
        main()
    kept, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in kept.items())


def test_another_encoder_keeps_its_tokenizer(tmp_path: Path) -> None:
    """The longest text of a BERT is as many tokens as it has positions, which is not so of a VECO."""
    shape = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    for name in ("one", "two"):
        config = BertConfig(**shape, intermediate_size=8, max_position_embeddings=66)
        BertForSequenceClassification(config).save_pretrained(tmp_path / name)
        (tmp_path / name / "tokenizer_config.json").write_text('{"model_max_length": 66}')
    average_models([tmp_path / "one", tmp_path / "two"], tmp_path / "mean")
    assert json.loads((tmp_path / "mean" / "tokenizer_config.json").read_text()) == {"model_max_length": 66}
    one, two, mean = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "mean"))
    assert all(torch.equal(tensor, (one[name] + two[name]) / 2) for name, tensor in mean.items())


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    arguments = ["average", str(run), "--output", str(tmp_path / "mean"), "--last"]
    monkeypatch.setattr(sys, "argv", [*arguments, "2"])
    main()
    assert "mean of 2 models: " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "3"])
    with pytest.raises(SystemExit) as stopped:
        run_main(main)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1


def test_default_is_all_checkpoints_that_training_kept(tmp_path: Path, monkeypatch, capsys) -> None:
    def average(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["average", *map(str, words), "--output", str(tmp_path / "mean")])
        main()
        return capsys.readouterr().out

    run = write_run(tmp_path / "run", list(range(1, 13)))
    models = [run / "checkpoints" / f"step-{step:07d}" / "model" for step in range(1, 13)]
    assert average(run) == f"{tmp_path / 'mean'}: mean of 10 models: {', '.join(map(str, models[2:]))}\n"
    few = write_run(tmp_path / "few", [5, 7])
    assert "mean of 2 models" in average(few)
    # Checkpoints and models, of one run or of several.
    assert "mean of 2 models" in average(models[0].parent, models[3])
    mean = load_file(tmp_path / "mean" / "model.safetensors")
    one, four = weights(run, 1), weights(run, 4)
    assert all(torch.equal(tensor, (one[name] + four[name]) / 2) for name, tensor in mean.items())
    with pytest.raises(ValueError, match="--last and --best choose among the checkpoints of one run, found"):
        average(models[0], models[1], "--last", 2)
    with pytest.raises(ValueError, match="run is a run; name it alone"):
        average(run, models[1])


def test_pre_training_run_is_refused_with_advice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1])
    (run / "checkpoints" / "step-0000001" / "recipe.yaml").write_text(RECIPE + "objective: mlm\n")
    advice = rf"found a run of pre-training: python -m pretrain.export {run} --average N --output MODEL averages"
    with pytest.raises(ValueError, match=advice):
        chosen_models([run], None, None)
    with pytest.raises(ValueError, match="checkpoint of pre-training: python -m pretrain.export RUN --average N"):
        chosen_models([run / "checkpoints" / "step-0000001"], None, None)


def test_one_model_under_two_names_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1, 2])
    model = run / "checkpoints" / "step-0000002" / "model"
    for name in ("best", "last"):
        (run / name).symlink_to(model)
    with pytest.raises(ValueError, match=rf"{run / 'best'} and {run / 'last'} are one model, {model}; name it once"):
        chosen_models([run / "best", run / "last"], None, None)
