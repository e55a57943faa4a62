"""Translation from a (random) VECO on a few sentences of the embedded corpus, by the commands a user types."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from launching import launch, run_module, run_script
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import veco
from training.checkpoints.finding import checkpoints_of

STEPS = 4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("text") / "text"
    result = run_module(
        "data_tools.toy_corpus",
        *("--output", str(directory), "--documents", "60", "--pairs", "60"),
        *("--train", "80", "--valid", "20", "--test", "6"),
    )
    assert result.returncode == 0, result.stderr
    return directory


@pytest.fixture(scope="module")
def pretrained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VECO of random weights with its tokenizer, as pretrain.export would write it."""
    directory = tmp_path_factory.mktemp("model") / "model"
    text = [str(corpus / "mono" / f"{language}.txt") for language in ("de", "en")]
    arguments = ("--input", *text, "--vocab-size", "400", "--output", str(directory))
    result = run_module("data_tools.train_tokenizer", *arguments)
    assert result.returncode == 0, result.stderr
    torch.manual_seed(0)
    config = veco.VecoConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=130,
        initializer_range=0.1,
    )
    veco.VecoForMaskedLM(config).save_pretrained(directory)
    return directory


def arguments_of(corpus: Path, pretrained: Path, output: Path) -> tuple[str, ...]:
    files = [
        word
        for part in ("train", "valid")
        for side, language in (("source", "en"), ("target", "de"))
        for word in (f"--{part}_{side}", str(corpus / "mt" / f"{part}.{language}"))
    ]
    return (
        *("--init_from", str(pretrained), "--output", str(output), "--directions", "en-de", *files),
        *("--decoder_layers", "1", "--dropout", "0", "--attention_dropout", "0", "--ds_config", "zero3_fp32.json"),
        *("--steps", str(STEPS), "--warmup_steps", "1", "--learning_rate", "5e-3", "--log_every", "1"),
        *("--save_every", "2", "--loader_workers", "0", "--bleu_beam", "1", "--bleu_lines", "7"),
    )


def lines(run_dir: Path) -> list[dict[str, float]]:
    kept = ("train/smoothed", "valid/nll", "valid/bleu", "grad_norm", "step")
    read = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in kept if name in line} for line in read]


@pytest.fixture(scope="module")
def zero3_run(corpus: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("mt") / "run"
    result = launch("finetune/mt/train.py", *arguments_of(corpus, pretrained, run_dir), "--max_tokens", "256")
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


def test_zero3_equals_the_plain_run(zero3_run: Path, corpus: Path, pretrained: Path, tmp_path: Path) -> None:
    """Two ranks of one micro-batch against one process of two: the same global batches."""
    run_dir = tmp_path / "plain"
    plain = ("--engine", "plain", "--batch_tokens", "512", "--max_tokens", "256")
    result = run_script("finetune/mt/train.py", *arguments_of(corpus, pretrained, run_dir), *plain)
    assert result.returncode == 0, result.stderr[-3000:]
    ours, reference = lines(zero3_run), lines(run_dir)
    assert len(ours) == len(reference) == STEPS + 2  # two validations
    for one, other in zip(ours, reference, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert reference[-1]["valid/nll"] < reference[2]["valid/nll"], "it learns"


def test_resumed_run_equals_the_undisturbed_one(
    zero3_run: Path, corpus: Path, pretrained: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(zero3_run, run_dir)
    shutil.rmtree(checkpoints_of(run_dir)[STEPS])
    arguments = (*arguments_of(corpus, pretrained, run_dir), "--max_tokens", "256", "--resume")
    result = launch("finetune/mt/train.py", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    assert lines(run_dir) == lines(zero3_run)


def test_average_translate_and_score(zero3_run: Path, corpus: Path, tmp_path: Path) -> None:
    averaged, output, scores = tmp_path / "averaged", tmp_path / "out.de", tmp_path / "score.json"
    result = run_module("finetune.mt.average", str(zero3_run), "--last", "2", "--output", str(averaged))
    assert result.returncode == 0, result.stderr
    source, reference = corpus / "mt" / "test.en", corpus / "mt" / "test.de"
    generate = ("--input", str(source), "--reference", str(reference), "--output", str(output), "--max-len-b", "5")
    result = run_module("finetune.mt.generate", str(averaged), *generate)
    assert result.returncode == 0, result.stderr
    for number in range(6):
        for letter in "STHDP":
            assert f"\n{letter}-{number}\t" in "\n" + result.stdout
    assert len(output.read_text(encoding="utf-8").splitlines()) == 6
    score = ("--system", str(output), "--reference", str(reference), "--json", str(scores))
    result = run_module("finetune.mt.score", *score)
    assert result.returncode == 0, result.stderr
    assert "tok:13a" in json.loads(scores.read_text())["scores"]["sacrebleu"]["signature"]


def test_checkpoint_opens_with_transformers(zero3_run: Path) -> None:
    model_dir = checkpoints_of(zero3_run)[STEPS] / "model"
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(model_dir), AutoTokenizer.from_pretrained(model_dir)
    assert isinstance(model, veco.VecoForConditionalGeneration)
    assert len(model.decoder.layers) == 1
    assert model.generation_config.decoder_start_token_id == tokenizer.convert_tokens_to_ids("__de__") == 400
    assert len(tokenizer) == model.config.vocab_size == 401


def test_random_start_ignores_the_weights(pretrained: Path) -> None:
    from finetune.mt.recipe import TranslationRecipe
    from finetune.mt.translation_task import build_model

    fields = {"init_from": str(pretrained), "directions": "en-de", "output": "x", "activation_checkpointing": True}
    kept = build_model(TranslationRecipe(**fields))[1].state_dict()
    fresh = build_model(TranslationRecipe(**fields, init="random"))[1]
    expected = veco.VecoForMaskedLM.from_pretrained(pretrained).state_dict()
    name = "veco.layers.0.feed_forward.up_proj.weight"
    assert torch.equal(kept[name], expected[name])
    assert not torch.equal(fresh.state_dict()[name], expected[name])
    assert fresh.veco.layers[0].gradient_checkpointing, "the recipe's activation_checkpointing reaches the layers"
