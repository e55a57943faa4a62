import dataclasses
import re
from pathlib import Path

import pytest

from data_tools.shards.manifest import Manifest
from finetune.mt.train import TranslationRecipe
from finetune.understanding.recipe import UnderstandingRecipe
from pretrain.models.initial_model import build_model
from pretrain.train import PretrainRecipe
from training.recipe.ds_config import DS_CONFIGS, read_ds_config
from training.recipe.option import FACTS, FREE, may_change, notes_of
from training.recipe.parsing import build_recipe, parse_recipe, read_yaml, save_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [(PretrainRecipe, path) for path in sorted((ROOT / "pretrain" / "recipes").glob("*.yaml"))]
RECIPES += [(TranslationRecipe, path) for path in sorted((ROOT / "finetune" / "mt" / "recipes").glob("*.yaml"))]


@pytest.mark.parametrize(("recipe_class", "path"), RECIPES, ids=lambda value: getattr(value, "stem", ""))
def test_every_shipped_recipe_is_sound(recipe_class, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_CORPORA", "/corpora")
    monkeypatch.setenv("VECO_RUNS", "/runs")
    recipe = build_recipe(recipe_class, read_yaml(path), path)
    read_ds_config(recipe.ds_config)


@pytest.mark.parametrize("path", sorted(DS_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_ds_config_is_read(path: Path) -> None:
    assert "zero_optimization" in read_ds_config(path.name)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("output: here\nlearning_rate: 2e-4\nsteps: 50\n")
    recipe = parse_recipe(PretrainRecipe, ["--config", str(path), "--steps", "7", "--resume"])
    assert (recipe.output, recipe.learning_rate, recipe.steps, recipe.warmup_steps) == ("here", 2e-4, 7, 100)
    assert recipe.resume == "auto"


def test_flags_of_recipes_as_of_all_commands(tmp_path: Path) -> None:
    recipe = parse_recipe(PretrainRecipe, ["--output", "x", "--learning-rate=2e-4", "--warmup-steps", "3"])
    assert (recipe.learning_rate, recipe.warmup_steps) == (2e-4, 3)
    with pytest.raises(ValueError, match="unknown flag --learning-rat, did you mean --learning_rate?"):
        parse_recipe(PretrainRecipe, ["--output", "x", "--learning-rat", "1"])
    with pytest.raises(ValueError, match="--steps is given twice"):
        parse_recipe(PretrainRecipe, ["--output", "x", "--steps", "3", "--steps", "4"])


def test_recipes_that_come_with_the_package_are_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = parse_recipe(PretrainRecipe, ["--config", "tiny"])
    assert tiny == parse_recipe(PretrainRecipe, ["--config", str(ROOT / "pretrain" / "recipes" / "tiny.yaml")])
    assert tiny == parse_recipe(PretrainRecipe, ["--config", "tiny.yaml"])
    Path("tiny.yaml").write_text("output: mine\n")  # a file goes first, with the ending that it has
    assert parse_recipe(PretrainRecipe, ["--config", "tiny.yaml"]).output == "mine"
    assert parse_recipe(PretrainRecipe, ["--config", "tiny"]) == tiny
    for name in ("demo_en_de", "elsewhere/tiny"):  # another program's, and another directory's
        with pytest.raises(ValueError, match=f"{name}: no such file"):
            parse_recipe(PretrainRecipe, ["--config", name])
    assert parse_recipe(TranslationRecipe, ["--config", "demo_en_de"]).cpu_processes == 2


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("output: x\nlearning_rat: 1\nsteps: many\nadam_beta1: 1.5\nds_config: none.json\n")
    with pytest.raises(ValueError) as error:
        parse_recipe(PretrainRecipe, ["--config", str(path)])
    message = str(error.value)
    assert "unknown field 'learning_rat', did you mean 'learning_rate'?" in message
    assert "steps: expected a whole number, found 'many'" in message
    assert "adam_beta1 1.5 must be" in message
    assert "ds_config 'none.json': no such file; ds_configs/ has cpu.json, " in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "model: {layers: 3}\n", "a: b: c\n"])
def test_files_that_are_no_recipes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="r.yaml"):
        read_yaml(path)


def test_unset_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE_AT_ALL", raising=False)
    values = {"output": "${NOWHERE_AT_ALL}/x", "init_from": "${NOWHERE_AT_ALL}/y", "cross_attention_steps": 5}
    with pytest.raises(ValueError) as error:
        build_recipe(PretrainRecipe, values, None)
    told = [f"{name}: the environment variable NOWHERE_AT_ALL is not set" for name in ("output", "init_from")]
    assert str(error.value) == f"recipe (command line): {'; '.join(told)}", "and nothing that follows from it"


def test_home_directory_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    values = {"output": "~/run", "init_from": "~/veco", "directions": "en-de", "train_source": "~/a.en, ~/b.en,c~.en"}
    fields = {"train_target": "~", "valid_source": "x", "valid_target": "x"}
    with pytest.raises(ValueError, match="train_target is not set"):  # YAML's word for nothing
        build_recipe(TranslationRecipe, {**values, **fields}, None)
    fields = {"train_target": "x,y,z", "valid_source": "x,y,z", "valid_target": "x,y,z"}
    recipe = build_recipe(TranslationRecipe, {**values, **fields, "directions": "en-de,en-fr,en-ru"}, None)
    assert (recipe.output, recipe.init_from, recipe.train_source) == (
        *("/home/x/run", "/home/x/veco"),
        "/home/x/a.en, /home/x/b.en,c~.en",
    )


@pytest.mark.parametrize("word", ["null", "NULL", "Null", "none", "None", "~", ""])
def test_nothing_has_the_same_words_in_files_and_flags(tmp_path: Path, word: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"output: x\ninit_from: {word}\nmax_time: {word}\n")
    flags = [f"--init_from={word}", f"--max_time={word}"]
    for argv in (["--config", str(path)], ["--output", "x", *flags]):
        recipe = parse_recipe(PretrainRecipe, argv)
        assert (recipe.init_from, recipe.max_time) == (None, "")


def test_files_that_cannot_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("output: x\nsteps: 5\nsteps: 6\n")
    with pytest.raises(ValueError, match="r.yaml: line 3: key 'steps' is given twice"):
        read_yaml(path)
    path.write_bytes("output: Stra\xdfe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="r.yaml: not UTF-8 at byte 12 .*; convert the file"):
        read_yaml(path)


TRANSLATION = {
    **{"output": "x", "init_from": "m", "directions": "en-de"},
    **dict.fromkeys(("train_source", "train_target", "valid_source", "valid_target"), "t"),
}


@pytest.mark.parametrize(
    ("given", "loser", "decider"),
    [
        ({"epochs": 3, "steps": 100}, "steps 100", "epochs 3"),
        ({"epochs": 3, "save_every": 100}, "save_every 100", "epochs 3"),
        ({"epochs": 3, "validate_every": 100}, "validate_every 100", "epochs 3"),
        ({"warmup_share": 0.1, "warmup_steps": 100}, "warmup_steps 100", "warmup_share 0.1"),
        ({"batch_tokens": 8192, "accumulation_steps": 2}, "accumulation_steps 2", "batch_tokens 8192"),
    ],
)
def test_of_two_fields_that_decide_one_quantity_one_is_given(given, loser: str, decider: str) -> None:
    name = decider.split()[0]
    message = f"{loser} is not used, as {decider} decides: leave one of them out, or give {name} 0"
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_recipe(TranslationRecipe, [f"--{key}={value}" for key, value in {**TRANSLATION, **given}.items()])
    build_recipe(TranslationRecipe, {**TRANSLATION, **given, name: 0}, None)


def test_shape_of_a_model_that_there_is_already() -> None:
    with pytest.raises(
        ValueError, match="hidden_size 64 is not used, as init_from m decides: .* or give init_from null"
    ):
        build_recipe(PretrainRecipe, {"output": "x", "init_from": "m", "hidden_size": 64}, None)


def test_flag_that_decides_in_place_of_a_line_of_the_file_tells_so(tmp_path: Path, capsys) -> None:
    """As of a recipe that was saved beside a checkpoint, with all its fields."""
    path = tmp_path / "r.yaml"
    save_recipe(build_recipe(TranslationRecipe, {**TRANSLATION, "steps": 100, "save_every": 50}, None), path)
    recipe = parse_recipe(TranslationRecipe, ["--config", str(path), "--epochs", "2"])
    assert recipe.epochs == 2
    assert "ignored recipe fields: " in (told := capsys.readouterr().err)
    assert "steps 100 (overridden by epochs)" in told and "save_every 50 (overridden by epochs)" in told
    with pytest.raises(ValueError, match="steps 7 is not used, as epochs 2 decides"):
        parse_recipe(TranslationRecipe, ["--config", str(path), "--epochs", "2", "--steps", "7"])


def test_seed_is_no_negative_number() -> None:
    with pytest.raises(ValueError, match="seed -1 must not be negative"):
        build_recipe(PretrainRecipe, {"output": "x", "seed": -1}, None)


@pytest.mark.parametrize("kind", [PretrainRecipe, TranslationRecipe, UnderstandingRecipe])
def test_fields_keep_what_their_base_says_of_them(kind) -> None:
    free = {field for field in kind.__dataclass_fields__ if notes_of(kind, field)["on_resume"] is FREE}
    assert {"steps", "output", "keep_checkpoints", "data"} <= free
    assert {"learning_rate", "seed", "dropout"} <= set(may_change(kind)) <= {*kind.__dataclass_fields__, *FACTS}
    decided = {name for field in kind.__dataclass_fields__ for name in notes_of(kind, field)["decides"]}
    assert decided <= kind.__dataclass_fields__.keys()
    if kind is UnderstandingRecipe:  # it gives epochs another default
        assert {"steps", "warmup_steps", "accumulation_steps"} <= decided


def test_saved_recipe_reads_back(tmp_path: Path) -> None:
    recipe = build_recipe(PretrainRecipe, {"output": "x", "resume": False, "init_from": None, "alpha": "0.7"}, None)
    assert recipe.resume == "no"
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert parse_recipe(PretrainRecipe, ["--config", str(tmp_path / "recipe.yaml")]) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "camlm"}, "objective 'camlm': unknown objective 'camlm', did you mean ca_mlm?"),
        ({"mask_token_share": 0.8, "random_token_share": 0.3}, "must not be negative, nor above 1 together"),
        ({"span_length": 0.5}, "span_length 0.5 must be 0 or at least 1"),
        (
            {"bilingual_mask_rate": 0.3, "bilingual_mask_spread": 0.4},
            "bilingual_mask_spread 0.4 must not be",
        ),
        ({"validate_batches": -1}, "validate_batches -1 must not be negative"),
        ({"peak_tflops": 0}, "peak_tflops 0.0 must be above 0"),
        ({"cpu_precision": "fp8"}, "cpu_precision 'fp8' must be one of auto, bf16, float32"),
        (
            {"cpu_precision": "bf16", "ds_config": "zero3_fp32.json"},
            "cpu_precision 'bf16': ds_config zero3_fp32.json does not enable bf16",
        ),
        ({"attention": "flash"}, "attention 'flash' must be one of auto, eager, sdpa"),
        (
            {"objective": "mlm", "cross_attention_steps": 5, "init_from": "x"},
            "objective 'mlm' does not train the cross-attention",
        ),
    ],
)
def test_objectives_and_masks_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build_recipe(PretrainRecipe, {"output": "x", **values}, None)


def test_phase_one_needs_a_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cross_attention_steps needs init_from"):
        build_recipe(PretrainRecipe, {"output": "x", "cross_attention_steps": 5}, None)


@pytest.mark.parametrize(
    "values",
    [
        *({"cross_attention_steps": 5}, {"trains": "embeddings"}, {"mono_max_length": 600}),
        {"trains": "adapters", "adapter": "pfeiffer"},
    ],
)
def test_a_resumed_run_needs_no_start(values: dict[str, object], random_data: Path) -> None:
    """Its checkpoint has the weights; where there is none after all, that is told when the model is built."""
    recipe = build_recipe(PretrainRecipe, {"output": "x", "resume": "auto", **values}, None)
    with pytest.raises(ValueError, match="needs init_from|takes rows of|tokens a row|600"):
        build_model(recipe, random_data, Manifest.load(random_data))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"bf16": {"enabled": "auto"}}', '"auto" is not understood'),
        ('{"bf61": {}}', "unknown key bf61"),
        ('{"optimizer": {}}', "set optimizer settings in the recipe .*, not in the ds_config"),
        ('{"checkpoint": {"writer": {"decoupled": true}}}', "checkpoint.writer: a decoupled writer would still write"),
        ('["bf16"]', "expected an object, found a list"),
        ("{", "not JSON"),
        ('{"bf16": true}', r"ds.json: bf16: expected an object such as \{…\}, found true$"),
        ('{"checkpoint": 3}', "checkpoint: expected an object"),
        ('{"bf16": {"enabled": "true"}}', 'bf16.enabled: expected true or false, found "true"'),
        ('{"zero_optimization": {"stage": "3"}}', 'zero_optimization.stage: expected 0, 1, 2 or 3, found "3"'),
        ('{"zero_optimization": {"stage": 4}}', "zero_optimization.stage: expected 0, 1, 2 or 3, found 4"),
        ('{"zero_optimization": {"stage": true}}', "zero_optimization.stage: expected 0, 1, 2 or 3, found true"),
        ('{"bf16": {"enabled": true}, "fp16": {"enabled": true}}', "bf16 and fp16 are both enabled: choose one"),
    ],
)
def test_ds_configs_that_would_do_harm(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "ds.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_ds_config(str(path))


def test_ds_config_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_bytes('{"bf16": {"enabled": "ü"}}'.encode("latin-1"))
    with pytest.raises(ValueError, match="ds.json: not UTF-8 at byte 22"):
        read_ds_config(str(path))


def test_accumulation_follows_from_the_tokens_that_a_device_takes() -> None:
    """Whole divisors of the global batch, the fewest; on few devices as on many."""
    recipe = PretrainRecipe(
        output="x",
        micro_batch_tokens=16_384,  # 16 pairs of 2 x 512 tokens, 64 of 2 x 128
        mono_batch_pairs=1024,
        bilingual_batch_pairs=4096,
        mono_max_length=512,
        bilingual_max_length=128,
    )
    steps = {ranks: recipe.accumulated(ranks, ["mono", "bilingual"]).accumulation_steps for ranks in (1, 8, 32, 64)}
    assert steps == {1: 64, 8: 8, 32: 2, 64: 1}
    odd = dataclasses.replace(recipe, mono_batch_pairs=24 * 9, bilingual_batch_pairs=64 * 9)
    assert odd.accumulated(8, ["mono", "bilingual"]).accumulation_steps == 3  # 9 and 24 pairs; 2 does not divide 27
    assert recipe.accumulated(64, ["bilingual"]).accumulation_steps == 1
    assert dataclasses.replace(recipe, micro_batch_tokens=0, accumulation_steps=5).accumulated(3, ["mono"]) == (
        dataclasses.replace(recipe, micro_batch_tokens=0, accumulation_steps=5)
    )


def test_momentum_encoder_is_refused_under_zero3() -> None:
    expected = [
        "objective 'mlm + xlco': xlco has a momentum copy of the encoder, whose weights ZeRO-3 (zero3_bf16.json) cuts "
        "into parts; take a ds_config of ZeRO-1 or -2, or contrast instead"
    ]
    recipe = PretrainRecipe(output="x", objective="mlm + xlco")
    assert recipe.problems() == expected
    for fields in ({"ds_config": "zero2_bf16.json"}, {"engine": "plain"}, {"objective": "mlm + contrast"}):
        assert dataclasses.replace(recipe, **fields).problems() == []
    missing = dataclasses.replace(recipe, ds_config="none.json").problems()
    assert len(missing) == 1 and "no such file" in missing[0]


@pytest.mark.parametrize(
    ("objective", "steps"), [("ca_mlm+tlm", 8), ("contrast", 4), ("clsa", 4), ("contrast(across_ranks=true)", 8)]
)
def test_accumulation_keeps_contrasted_pairs_together(objective: str, steps: int) -> None:
    """48 pairs a rank in groups of 12: 6 of 64 tokens would fit a device, 12 are the fewest."""
    recipe = PretrainRecipe(
        output="x", objective=objective, micro_batch_tokens=6 * 2 * 64, bilingual_batch_pairs=96, contrast_pairs=12
    )
    if steps == 8:
        assert recipe.accumulated(2, ["bilingual"]).accumulation_steps == steps
    else:
        with pytest.raises(ValueError, match="768 is too little: on 2 ranks the smallest .* need 1536"):
            recipe.accumulated(2, ["bilingual"])
        larger = dataclasses.replace(recipe, micro_batch_tokens=1600)
        assert larger.accumulated(2, ["bilingual"]).accumulation_steps == steps
    mixed = dataclasses.replace(recipe, micro_batch_tokens=99_999, mono_batch_pairs=50)
    assert mixed.accumulated(2, ["mono", "bilingual"]).accumulation_steps == 1


@pytest.mark.parametrize(
    ("ranks", "tokens", "message"),
    [
        (3, 4096, "mono_batch_pairs 8 and bilingual_batch_pairs 16 cannot be divided evenly by 3 ranks"),
        (2, 100, "micro_batch_tokens 100 is too little: on 2 ranks .* need 256"),
    ],
)
def test_tokens_that_no_accumulation_meets_are_refused(ranks: int, tokens: int, message: str) -> None:
    recipe = PretrainRecipe(output="x", mono_batch_pairs=8, bilingual_batch_pairs=16, micro_batch_tokens=tokens)
    with pytest.raises(ValueError, match=message):
        recipe.accumulated(ranks, ["mono", "bilingual"])


def test_auto_leaves_accumulation_to_the_field_that_decides(tmp_path: Path, capsys) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("output: x\naccumulation_steps: auto\nmicro_batch_tokens: 512\n")
    assert parse_recipe(PretrainRecipe, ["--config", str(path)]).micro_batch_tokens == 512
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="accumulation_steps 4 is not used, as micro_batch_tokens 512 decides"):
        parse_recipe(PretrainRecipe, ["--config", str(path), "--accumulation_steps", "4"])
    with pytest.raises(ValueError, match="accumulation_steps: expected a whole number, found 'auto'"):
        parse_recipe(PretrainRecipe, ["--output", "x", "--accumulation_steps", "auto"])


@pytest.mark.parametrize(("objective", "needed"), [("mlm", None), ("mlm + btmlm", 402), ("mml", None)])
def test_longest_row_is_that_of_the_objective(objective: str, needed: int | None) -> None:
    """Behind a segment `btmlm` writes as much again; an objective that is none has its own message."""
    recipe = PretrainRecipe(
        output="x", objective=objective, mono_max_length=200, bilingual_max_length=90, max_position_embeddings=258
    )
    found = [problem for problem in recipe.problems() if "max_position_embeddings" in problem]
    assert found == [] if needed is None else f"258 must be at least {needed}: twice mono_max_length" in found[0]
