"""Translation as a task: how models begin, what they read, and that a tiny one learns to copy and to sort digits."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from data_directories import make_data
from digits import digit_lines, sorted_digits, write_digit_model, write_lines
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, XLMRobertaConfig, XLMRobertaForMaskedLM

from data_tools.cli import one_line
from finetune.mt.average import average_models, best_models, last_models
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.translator import Translator, check_model
from finetune.mt.recipe import TranslationRecipe
from finetune.mt.score import sacrebleu_score
from finetune.mt.translation_task import BitextReader, TranslationTask, build_model
from finetune.pretrained import open_pretrained
from finetune.selection import Selection
from training.checkpoints.finding import checkpoints_of
from training.engine.build import build_engine
from training.meters import read_metrics
from training.run import train_run
from veco import VecoForConditionalGeneration, VecoForMaskedLM
from veco.convert import from_xlm_roberta

BETWEEN = "veco.layers.1.cross_attention.q_proj.weight"
SAME = "veco.layers.1.self_attention.q_proj.weight"
UP = "feed_forward.up_proj.weight"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, and digits to copy (de) and to sort (fr)."""
    directory = tmp_path_factory.mktemp("digits")
    write_digit_model(directory / "model")
    for part, number, seed in (("train", 1500, 1), ("valid", 60, 2), ("test", 60, 3)):
        lines = digit_lines(number, seed)
        write_lines(directory / f"{part}.en", lines)
        write_lines(directory / f"{part}.de", lines)
        write_lines(directory / f"{part}.fr", [sorted_digits(line) for line in lines])
    return directory


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if two processes shared the machine: with several threads, a tiny model waits more than it computes."""
    monkeypatch.setenv("LOCAL_SIZE", str(len(os.sched_getaffinity(0))))


def recipe_of(digits: Path, output: Path, languages: str = "de,fr", **fields: object) -> TranslationRecipe:
    targets = languages.split(",")
    files = {
        f"{part}_{side}": ",".join(str(digits / f"{part}.{'en' if side == 'source' else target}") for target in targets)
        for part in ("train", "valid")
        for side in ("source", "target")
    }
    defaults = {
        **{"output": str(output), "init_from": str(digits / "model"), "init": "random", "engine": "plain"},
        **{"directions": ",".join(f"en-{target}" for target in targets), "ds_config": "cpu.json", "max_length": 32},
        **{"decoder_layers": 1, "dropout": 0.0, "attention_dropout": 0.0, "adam_beta2": 0.98, "loader_workers": 0},
    }
    return TranslationRecipe(**{**defaults, **files, **fields})


def run(recipe: TranslationRecipe) -> bool:
    assert not recipe.problems()
    return train_run(recipe, TranslationTask.of_run)


def state_of(recipe: TranslationRecipe) -> dict[str, torch.Tensor]:
    return build_model(recipe)[1].state_dict()


def test_every_weight_of_a_pretrained_start(digits: Path, tmp_path: Path) -> None:
    pretrained = VecoForMaskedLM.from_pretrained(digits / "model").state_dict()
    state = state_of(recipe_of(digits, tmp_path, init="pretrained"))
    assert torch.equal(state[f"decoder.layers.0.{UP}"], pretrained[f"veco.layers.1.{UP}"])
    assert torch.equal(state["decoder.layers.0.cross_attention.q_proj.weight"], pretrained[BETWEEN])
    first = state_of(recipe_of(digits, tmp_path, init="pretrained", decoder_layers_from="first"))
    assert torch.equal(first[f"decoder.layers.0.{UP}"], pretrained[f"veco.layers.0.{UP}"])


def test_a_start_like_xlm_initialises_only_the_cross_attention_randomly(digits: Path, tmp_path: Path) -> None:
    recipe = recipe_of(digits, tmp_path, init="pretrained")
    ours, theirs = state_of(recipe), state_of(dataclasses.replace(recipe, cross_attention="random"))
    # Of the embeddings the rows of tags are drawn, too.
    different = {name for name, weight in ours.items() if not torch.equal(weight[:26], theirs[name][:26])}
    assert different and all(".cross_attention" in name and name.endswith("weight") for name in different)
    deviation = theirs["decoder.layers.0.cross_attention.q_proj.weight"].std()
    assert deviation == pytest.approx(64**-0.5, rel=0.1)  # the configuration's initializer_range


def test_a_start_that_lacks_what_is_copied_is_refused(digits: Path, tmp_path: Path) -> None:
    """A plugged-out model has no cross-attention, a classifier no head: both would be drawn at random."""
    model = tmp_path / "plugged_out"
    shutil.copytree(digits / "model", model)
    weights = load_file(model / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".cross_attention" not in name}
    save_file(kept, model / "model.safetensors", {"format": "pt"})
    recipe = recipe_of(digits, tmp_path, init="pretrained", init_from=str(model))
    with pytest.raises(ValueError, match="plugged_out: lacks weights of VecoForMaskedLM: .*cross_attention"):
        build_model(recipe)
    state_of(dataclasses.replace(recipe, cross_attention="random"))
    headless = {name: weight for name, weight in weights.items() if not name.startswith("lm_head")}
    save_file(headless, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="plugged_out: lacks weights of VecoForMaskedLM: lm_head"):
        build_model(recipe)


def test_random_weights_of_encoder_and_decoder_are_independent(digits: Path, tmp_path: Path) -> None:
    state = state_of(recipe_of(digits, tmp_path, init="random"))
    for name in (UP, "self_attention.q_proj.weight"):
        ours, encoders = (state[f"{part}.layers.{number}.{name}"] for part, number in (("decoder", 0), ("veco", 1)))
        assert not torch.equal(ours, encoders)
        assert float(ours.std()) == pytest.approx(float(encoders.std()), rel=0.1)
    norm = state["decoder.layers.0.self_attention_norm.weight"]
    assert torch.equal(norm, torch.ones_like(norm))


def test_a_start_from_xlm_roberta(digits: Path, tmp_path: Path) -> None:
    directory = tmp_path / "xlmr"
    shutil.copytree(digits / "model", directory)
    torch.manual_seed(3)
    shape = {"vocab_size": 26, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = XLMRobertaConfig(**shape, intermediate_size=24, max_position_embeddings=34, type_vocab_size=1)
    XLMRobertaForMaskedLM(config).save_pretrained(directory)
    recipe = recipe_of(digits, tmp_path, init="pretrained", init_from=str(directory))
    tokenizer, model = build_model(recipe)
    expected = from_xlm_roberta(directory).state_dict()
    assert torch.equal(model.state_dict()[SAME], expected[SAME])
    assert model.dtype == torch.float32 and len(tokenizer) == model.config.vocab_size == 28
    fresh = build_model(dataclasses.replace(recipe, init="random"))[1]
    assert fresh.config.hidden_size == 16 and not torch.equal(fresh.state_dict()[SAME], expected[SAME])


def test_tags(digits: Path, tmp_path: Path) -> None:
    tokenizer, model = build_model(recipe_of(digits, tmp_path, source_tags="__bt__"))
    assert tokenizer.convert_tokens_to_ids(["__de__", "__fr__", "__bt__"]) == [26, 27, 28]
    assert model.config.vocab_size == 29
    assert model.config.decoder_start_token_id is None, "with two target languages nobody knows"
    assert build_model(recipe_of(digits, tmp_path, "fr"))[1].config.decoder_start_token_id == 26


def test_tied_self_attention(digits: Path, tmp_path: Path) -> None:
    model = build_model(recipe_of(digits, tmp_path, tie_self_attention=True))[1]
    weight = model.decoder.layers[0].self_attention.q_proj.weight
    assert weight is model.veco.layers[1].self_attention.q_proj.weight


def test_a_translation_model_keeps_its_weights(digits: Path, tmp_path: Path) -> None:
    """Decoder, cross-attention and tags; a new tag gets a row, and dropout is the recipe's."""
    recipe = recipe_of(digits, tmp_path, "de", init="random")
    tokenizer, model = build_model(recipe)
    model.save_pretrained(tmp_path / "translation")
    tokenizer.save_pretrained(tmp_path / "translation")
    fields = {"init": "pretrained", "init_from": str(tmp_path / "translation"), "dropout": 0.25}
    going_on = dataclasses.replace(recipe, **fields, source_tags="__bt__")
    again, same = build_model(going_on)
    weights, before = same.state_dict(), model.state_dict()
    assert weights.keys() == before.keys() and len(again) == len(tokenizer) + 1
    assert all(torch.equal(weights[name][: len(weight)], weight) for name, weight in before.items())
    assert same.config.hidden_dropout_prob == 0.25 and same.config.decoder_start_token_id == 26
    other_code, same = build_model(dataclasses.replace(recipe, **fields, directions="eng_Latn-deu_Latn"))
    assert len(other_code) == len(tokenizer) and same.config.decoder_start_token_id == 26, "no second tag of German"
    for name, value, message in (
        ("init", "random", "init random must be pretrained"),
        ("decoder_layers", 2, "decoder_layers 2 must be 1"),
        ("tie_self_attention", True, "tie_self_attention True must be False"),
    ):
        with pytest.raises(ValueError, match=f"a translation model keeps its decoder: {message}"):
            build_model(dataclasses.replace(going_on, **{name: value}))
    with pytest.raises(ValueError, match="a translation model; expected a model that was pre-trained"):
        open_pretrained(tmp_path / "translation")


def test_a_model_converted_from_fairseq_keeps_its_form_of_sentences(digits: Path, tmp_path: Path) -> None:
    """No <s>, its own start token, no tags; batches for training and validation have that form."""
    frame = {"source_prefix_ids": [], "source_suffix_ids": [2, 7], "target_suffix_ids": [2, 8]}
    converted = tmp_path / "converted"
    shutil.copytree(digits / "model", converted)
    model = VecoForConditionalGeneration.from_veco(
        digits / "model", 1, decoder_start_token_id=8, separate_decoder_embeddings=False, **frame
    )
    model.save_pretrained(converted)
    recipe = recipe_of(digits, tmp_path, "de", init="pretrained", init_from=str(converted))
    tokenizer, again = build_model(recipe)
    assert len(tokenizer) == 26 and again.config.decoder_start_token_id == 8
    assert again.config.target_suffix_ids == [2, 8] and again.generation_config.eos_token_id == 8
    reader = BitextReader(recipe, tokenizer, again.config)
    line = tokenizer((digits / "valid.de").read_text().splitlines()[0], add_special_tokens=False)["input_ids"]
    for batches in (reader.batches(reader.train()), reader.held_out()["en-de"].batches):
        batch = batches[0]
        last = batch["attention_mask"].sum(1) - 1
        rows = torch.arange(len(last))
        assert (batch["input_ids"] != 0).all() and (batch["input_ids"][rows, last] == 7).all()
        end = (batch["labels"] != -100).sum(1) - 1
        assert (batch["decoder_input_ids"][:, 0] == 8).all() and (batch["labels"][rows, end] == 8).all()
    sources = [row.tolist() for k in range(len(batches)) for row in batches[k]["input_ids"]]
    assert any(row[: len(line) + 2] == [*line, 2, 7] for row in sources)
    with pytest.raises(ValueError, match="a model converted from fairseq keeps its own start token"):
        build_model(dataclasses.replace(recipe, directions="en-de,en-fr"))


@pytest.mark.parametrize(
    ("directions", "languages"), [("en-fr", ("en", "fr")), ("en-fr,de-fr", (None, "fr")), ("en-de,en-de", ("en", "de"))]
)
def test_a_model_converted_from_fairseq_is_of_the_languages_it_is_trained_on(
    digits: Path, tmp_path: Path, directions: str, languages: tuple[str | None, str]
) -> None:
    frame = {"source_prefix_ids": [], "source_suffix_ids": [2], "target_suffix_ids": [2], "decoder_start_token_id": 2}
    shutil.copytree(digits / "model", tmp_path / "converted")
    VecoForConditionalGeneration.from_veco(
        digits / "model", 1, source_language="en", target_language="de", **frame
    ).save_pretrained(tmp_path / "converted")
    fields = {"init": "pretrained", "init_from": str(tmp_path / "converted"), "directions": directions}
    tokenizer, model = build_model(recipe_of(digits, tmp_path, "de,fr", **fields))
    assert (model.config.source_language, model.config.target_language) == languages
    for part in (tokenizer, model):
        part.save_pretrained(tmp_path / "further")
    assert check_model(tmp_path / "further", languages[1])[1] == 2
    other = "de" if languages[1] == "fr" else "fr"
    with pytest.raises(ValueError, match=rf"^--target-language {other}: .*further translates into {languages[1]} and"):
        check_model(tmp_path / "further", other)


def test_tags_tell_the_language_of_other_models(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "model", tmp_path / "named")
    VecoForConditionalGeneration.from_veco(digits / "model", 1, target_language="fr").save_pretrained(
        tmp_path / "named"
    )
    fields = {"init": "pretrained", "init_from": str(tmp_path / "named")}
    assert build_model(recipe_of(digits, tmp_path, "de", **fields))[1].config.target_language is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_from": "nowhere"}, "init_from nowhere: expected a model directory"),
        ({"decoder_layers": 3}, "decoder_layers 3 must lie between 1 and the 2 of"),
        ({"max_length": 40}, "max_length 40 exceeds the 32 tokens the model takes"),
        ({"train_source": "none"}, "none: No such file"),
    ],
)
def test_bad_input(fields: dict[str, object], message: str, digits: Path, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError)) as error:
        TranslationTask(recipe_of(digits, tmp_path, "de", **fields))
    assert message in one_line(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"directions": "ende"}, "directions: 'ende' must be source-target"),
        ({"directions": "en-xx"}, "directions: 'en-xx' names 'xx', which is not a language code"),
        ({"directions": "zh-CN-en"}, "'zh-CN-en' must be source-target with one hyphen; did you mean 'zh_CN-en'?"),
        ({"directions": "en-zh-Hant"}, "one hyphen; did you mean 'en-zh_Hant'?"),
        ({"directions": "a-b-c"}, "one hyphen; inside a code write _, as in zh_CN-en"),
        ({"directions": ""}, "directions is not set"),
        ({"directions": "en-de,en-fr,en-cs"}, "train_source names 2 files for 3 directions"),
        ({"data": "d", "train_source": "", "train_target": "", "source_tags": "__bt__"}, "train_source is not set"),
        ({"source_tags": "<bt>"}, "source_tags: '<bt>' must look like __bt__"),
        ({"source_tags": "__bt__,__fr__"}, "source_tags: '__fr__' would be the tag of a target language"),
        ({"batch_tokens": 5000}, "batch_tokens 5000 must be a multiple of max_tokens 4096"),
        ({"best_by": "bleu"}, "best_by 'bleu' must be one of nll"),
        ({"cross_attention": "none"}, "cross_attention 'none' must be"),
    ],
)
def test_mistakes_in_recipes(fields: dict[str, object], message: str, digits: Path, tmp_path: Path) -> None:
    assert message in "; ".join(recipe_of(digits, tmp_path, **fields).problems())


def test_a_language_has_one_spelling_in_a_recipe(digits: Path, tmp_path: Path) -> None:
    recipe = recipe_of(digits, tmp_path, directions="en-deu_Latn,eng-de,de-EN,en-de_AT")
    assert list(map(str, recipe.all_directions())) == ["en-deu_Latn", "en-deu_Latn", "deu_Latn-en", "en-de_AT"]


def test_accumulation_follows_from_the_ranks(digits: Path, tmp_path: Path) -> None:
    recipe = recipe_of(digits, tmp_path, max_tokens=512, batch_tokens=4096)
    assert [recipe.resolved(100, ranks).accumulation_steps for ranks in (1, 2, 8)] == [8, 4, 1]
    with pytest.raises(ValueError, match="an update has 8 micro-batches, which 3 ranks do not divide"):
        recipe.resolved(100, 3)


def test_a_direction_twice_has_one_validation_set(digits: Path, tmp_path: Path) -> None:
    """True and synthetic pairs, the latter with a tag in front of the source."""
    synthetic = write_lines(tmp_path / "bt.en", ["__bt__ 1 2", "__bt__ 3"])
    lines = write_lines(tmp_path / "bt.de", ["1 2", "3"])
    recipe = recipe_of(
        digits,
        tmp_path,
        **{"directions": "en-de,en-de", "source_tags": "__bt__"},
        **{"train_source": f"{digits / 'train.en'},{synthetic}", "train_target": f"{digits / 'train.de'},{lines}"},
        **{"valid_source": str(digits / "valid.en"), "valid_target": str(digits / "valid.de")},
        **{"bleu_beam": 1, "bleu_lines": 7},
    )
    assert not recipe.problems()
    tokenizer, model = build_model(recipe)
    reader = BitextReader(recipe, tokenizer, model.config)
    train, held_out = reader.train(), reader.held_out()
    tag = tokenizer.convert_tokens_to_ids("__bt__")
    assert len(train) == 1502 and [train.source[i][0] == tag for i in (0, 1499, 1500, 1501)] == [
        False,
        False,
        True,
        True,
    ]
    assert list(held_out) == ["en-de"]
    assert held_out["en-de"].sources == digit_lines(60, 2)[:7] == held_out["en-de"].references


def test_likelihood_is_that_of_the_models_own_loss(digits: Path, tmp_path: Path) -> None:
    """Over all tokens, not the mean of batches or directions."""
    write_lines(tmp_path / "few.en", digit_lines(7, 8))
    recipe = recipe_of(digits, tmp_path, max_tokens=64, label_smoothing=0.3)
    few = {f"valid_{side}": f"{digits / 'valid.en'},{tmp_path / 'few.en'}" for side in ("source", "target")}
    task = TranslationTask(dataclasses.replace(recipe, **few))
    engine = build_engine(task.model, recipe, recipe.lr_factor, tmp_path)
    found = task.validate(engine)
    assert task.model.training, "it goes on training"
    sums = {}
    for name, held_out in task.held_out.items():
        batches = [held_out.batches[k] for k in range(len(held_out.batches))]
        counts = [int(batch["labels"].ne(-100).sum()) for batch in batches]
        with torch.no_grad():
            model = task.model.eval()
            losses = [float(model(**batch).loss) for batch in batches]
        sums[name] = (sum(loss * count for loss, count in zip(losses, counts, strict=True)), sum(counts))
    assert found["en-fr/nll"] == pytest.approx(sums["en-fr"][0] / sums["en-fr"][1], rel=1e-5)
    both = sum(loss for loss, _ in sums.values()) / sum(count for _, count in sums.values())
    assert found["nll"] == pytest.approx(both, rel=1e-5) and found["perplexity"] == pytest.approx(math.exp(both))


def test_prepared_shards_instead_of_text(digits: Path, tmp_path: Path) -> None:
    lines = digit_lines(700, 5)
    make_data(tmp_path / "data", digits / "model", {"de": lines, "en": lines})
    fields = dict.fromkeys(("train_source", "train_target", "valid_source", "valid_target"), "")
    fields |= {"directions": "de-en,en-de", "data": str(tmp_path / "data"), "bleu_beam": 1}
    recipe = recipe_of(digits, tmp_path, **fields)
    assert not recipe.problems()
    task = TranslationTask(recipe)
    assert len(task.train.bitext) == 100 and task.train.bitext.report.num_lines == 100
    assert list(task.held_out) == ["de-en", "en-de"]
    # What the ids say is the text that was prepared; a fifth sentence is the last one held out.
    assert task.held_out["de-en"].sources == lines[600:605] == task.held_out["en-de"].references
    assert task.fingerprint != TranslationTask(dataclasses.replace(recipe, directions="en-de")).fingerprint
    # Beside them text, such as synthetic pairs with a tag.
    synthetic = write_lines(tmp_path / "bt.de", ["__bt__ 1 2"])
    beside = {"train_source": f"{synthetic},{synthetic}", "train_target": f"{synthetic},{synthetic}"}
    both = TranslationTask(dataclasses.replace(recipe, **beside, source_tags="__bt__"))
    assert len(both.train.bitext) == 102 and both.train.bitext.source[101][0] == len(both.tokenizer) - 1
    # Another validation set is another run: what was best on the one need not be on the other.
    valid = {"valid_source": f"{digits / 'valid.de'},{digits / 'valid.en'}"}
    valid["valid_target"] = f"{digits / 'valid.en'},{digits / 'valid.de'}"
    assert TranslationTask(dataclasses.replace(recipe, **valid)).fingerprint != task.fingerprint
    other = write_digit_model(tmp_path / "other", seed=9)
    with pytest.raises(ValueError, match="was prepared with another tokenizer .* than that of .*other"):
        TranslationTask(dataclasses.replace(recipe, init_from=str(other)))
    (other / "sentencepiece.bpe.model").unlink()
    with pytest.raises(ValueError, match="was prepared with another tokenizer .* than that of .*other"):
        TranslationTask(dataclasses.replace(recipe, init_from=str(other)))


SHORT = {"steps": 6, "save_every": 2, "keep_checkpoints": 3, "log_every": 1, "max_tokens": 256, "warmup_steps": 2}


def kept_metrics(recipe: TranslationRecipe) -> list[dict[str, float]]:
    """Metrics that do not depend on speed."""
    volatile = ("seconds", "tokens_per_second", "data_wait", "memory_gib")
    return [
        {name: value for name, value in line.items() if name not in volatile}
        for line in read_metrics(Path(recipe.output))
    ]


def test_a_resumed_run_equals_an_uninterrupted_one(digits: Path, tmp_path: Path) -> None:
    """Bit by bit, with dropout, accumulation, two directions, tied weights, BLEU and the record of the best.

    The initial model has moved: the checkpoint suffices.
    """
    fields = {**SHORT, "dropout": 0.2, "batch_tokens": 512, "bleu_beam": 1, "bleu_lines": 5, "keep_best": 1}
    fields["tie_self_attention"] = True
    whole = recipe_of(digits, tmp_path / "whole", **fields)
    assert run(whole)
    stopped = dataclasses.replace(whole, output=str(tmp_path / "stopped"), resume="auto", init_from="moved")
    shutil.copytree(whole.output, stopped.output)
    for step in (4, 6):
        shutil.rmtree(checkpoints_of(Path(stopped.output))[step])
    assert run(stopped)
    assert kept_metrics(stopped) == kept_metrics(whole)
    ends = [checkpoints_of(Path(recipe.output))[6] for recipe in (whole, stopped)]
    # The model it starts from is of 34 positions, with a tokenizer that was made without any model.
    assert AutoTokenizer.from_pretrained(ends[0] / "model").model_max_length == 32
    weights = [load_file(end / "model" / "model.safetensors") for end in ends]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    assert Selection.read(ends[0]).validations == Selection.read(ends[1]).validations
    # Tied weights are written once, and are whole again when transformers opens the model.
    assert not any(".decoder.layers.0.self_attention" in f".{name}" for name in weights[0])
    trained = torch.load(ends[0] / "plain_engine.pt", weights_only=True)["model"]
    opened = VecoForConditionalGeneration.from_pretrained(ends[0] / "model").state_dict()
    assert trained.keys() == opened.keys()
    assert all(torch.equal(weight, opened[name]) for name, weight in trained.items())
    files = [sorted(path.name for path in (end / "model").iterdir()) for end in ends]
    assert files[0] == files[1] and "sentencepiece.bpe.model" in files[0]


def test_learning_rate_follows_from_the_step_and_the_current_recipe(digits: Path, tmp_path: Path) -> None:
    """Also after a resume with more steps, a named change and a restarted schedule."""
    recipe = recipe_of(digits, tmp_path / "run", "de", **{**SHORT, "steps": 2, "learning_rate": 1e-3})
    assert run(recipe)
    more = dataclasses.replace(recipe, steps=4, resume="auto")
    assert run(more)
    with pytest.raises(ValueError, match="was 0.001, is 0.0004; if that is meant, give --change learning_rate"):
        run(dataclasses.replace(more, learning_rate=4e-4))
    changed = dataclasses.replace(more, steps=8, learning_rate=4e-4, change="learning_rate", reset_schedule=True)
    assert run(changed)
    rates = [line["lr"] for line in read_metrics(tmp_path / "run") if "lr" in line]
    # Two of warm-up, the rest of two or of four; then anew: two of warm-up and two that go down.
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 5e-4, 2e-4, 4e-4, 4e-4, 2e-4])
    history = json.loads((checkpoints_of(tmp_path / "run")[8] / "state.json").read_text())["history"]
    assert history == [{"step": 4, "changed": {"learning_rate": [1e-3, 4e-4]}, "reset": ["schedule"]}]


def test_patience_ends_a_run_and_the_best_is_kept(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A rate far too small to change a float32: no validation is better than the first.
    fields = {**SHORT, "steps": 40, "learning_rate": 1e-30, "keep_checkpoints": 1, "keep_best": 1, "weight_decay": 0.0}
    recipe = recipe_of(digits, tmp_path / "run", "de", patience=2, **fields)
    assert run(recipe)
    # Best after update 2, not better after 4 and 6: the best and the last are there.
    assert list(checkpoints_of(tmp_path / "run")) == [2, 6]
    assert "lowest nll" in (told := capsys.readouterr().err) and "ended after 2 validations without a better" in told
    assert re.search(r"\| precision as in the ds_config \| attention (eager|sdpa) \(timed: ", told.splitlines()[0])
    over = dataclasses.replace(recipe, resume="auto")
    assert run(over) and list(checkpoints_of(tmp_path / "run")) == [2, 6], "over is over"
    back = dataclasses.replace(over, resume="2", steps=2)
    assert run(back) and list(checkpoints_of(tmp_path / "run")) == [2, 6], "nothing came in the place of 6"
    assert "has 2 updates; checkpoint 6 stays" in capsys.readouterr().err
    assert run(dataclasses.replace(over, patience=3)) and list(checkpoints_of(tmp_path / "run")) == [2, 8]


def test_the_best_validation_has_a_checkpoint(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if none is due: validations are more frequent than checkpoints."""
    values = iter([3.0, 1.0, 2.0, 4.0, 0.5, 6.0])
    monkeypatch.setattr(TranslationTask, "validate", lambda task, engine: {"nll": next(values)})
    fields = {**SHORT, "validate_every": 1, "save_every": 3, "keep_checkpoints": 1, "keep_best": 2}
    assert run(recipe_of(digits, tmp_path / "run", "de", **fields))
    assert list(checkpoints_of(tmp_path / "run")) == [2, 5, 6]
    places = {name: (tmp_path / "run" / name).resolve().parent.name for name in ("best", "last")}
    assert places == {"best": "step-00000005", "last": "step-00000006"}
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / "best"), VecoForConditionalGeneration)
    assert [path.parent.name[-1] for path in best_models(tmp_path / "run", 2)] == ["5", "2"]
    assert [path.parent.name[-1] for path in last_models(tmp_path / "run", 1)] == ["6"]


def test_copying_and_sorting_digits_is_learnt(digits: Path, tmp_path: Path) -> None:
    """One model, two tags, trained, averaged and used to translate as a user would."""
    recipe = recipe_of(
        digits,
        tmp_path / "run",
        **{"steps": 500, "warmup_steps": 30, "learning_rate": 3e-3, "max_tokens": 512, "label_smoothing": 0.0},
        **{"save_every": 100, "log_every": 100, "keep_checkpoints": 1, "keep_best": 2},
    )
    assert run(recipe)
    average_models(best_models(tmp_path / "run", 1), tmp_path / "model")
    sources = (digits / "test.en").read_text().splitlines()
    for language in ("de", "fr"):
        translator = Translator.load(tmp_path / "model", SearchOptions(beam=2), target_language=language)
        translations = [found[0].text for found in translator.translate(sources)]
        references = (digits / f"test.{language}").read_text().splitlines()
        score = sacrebleu_score(translations, references, lowercase=False, tokenize="13a")
        assert score.value >= 95, (language, score)
    lines = [line for line in read_metrics(tmp_path / "run") if "valid/nll" in line]
    nll = [line["valid/nll"] for line in lines]
    assert nll[-1] < 0.1 < nll[0]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == 28
    noted = json.loads((checkpoints_of(tmp_path / "run")[500] / "state.json").read_text())
    assert list(noted["selection"]["validations"]) == ["100", "200", "300", "400", "500"]
