"""What a run that goes on must have as before, what it may change, and how it then goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pretrain.recipe import PretrainRecipe
from training.checkpoints.finding import checkpoints_of, read_state
from training.checkpoints.saving import Contents, library_versions, save_checkpoint
from training.engine.plain_engine import PlainEngine
from training.run_directory.resuming import Start, begin

DATA = {"data_fingerprint": "abc"}


@pytest.fixture
def recipe(tmp_path: Path) -> PretrainRecipe:
    return PretrainRecipe(output=str(tmp_path), engine="plain", learning_rate=0.1, steps=10)


def engine_of(recipe: PretrainRecipe, start: Start) -> PlainEngine:
    torch.manual_seed(0)
    return PlainEngine(nn.Linear(3, 2), recipe, lambda step: 1.0 / (step + 1), {}, start.step)


def update(engine: PlainEngine) -> None:
    engine.backward(engine.model(torch.ones(1, 3)).square().sum())
    engine.step()


@pytest.fixture
def checkpoint(recipe: PretrainRecipe, tmp_path: Path) -> Path:
    """Of update 2, of a run that did not change before."""
    engine = engine_of(recipe, Start())
    update(engine)
    update(engine)
    save_checkpoint(engine, tmp_path, 2, Contents(recipe=recipe, state={**DATA, **Start().state()}))
    return checkpoints_of(tmp_path)[2]


def resumed(recipe: PretrainRecipe, checkpoint: Path, facts: dict[str, Any] = DATA, **fields: Any) -> Start:
    changed = dataclasses.replace(recipe, resume="auto", **fields)
    assert not changed.problems()
    return begin((2, checkpoint), changed, facts)


def test_what_is_free_changes_without_a_word(recipe, checkpoint: Path, capsys) -> None:
    start = resumed(recipe, checkpoint, steps=7, log_every=1, accumulation_steps=2, ds_config="zero1_bf16.json")
    assert start == Start(step=2, checkpoint=checkpoint)
    assert not capsys.readouterr().err


def test_another_run_is_refused_with_all_differences_and_how_to_mean_it(recipe, checkpoint: Path) -> None:
    other = {"data_fingerprint": "xyz"}
    with pytest.raises(ValueError, match="data_fingerprint was abc, is xyz; seed was 1, is 2; alpha was 0.5, is 0.7; "):
        resumed(recipe, checkpoint, other, seed=2, alpha=0.7)
    with pytest.raises(ValueError, match="; if that is meant, give --change alpha,data_fingerprint,seed$"):
        resumed(recipe, checkpoint, other, seed=2, alpha=0.7, change="alpha")
    never = "; objective cannot be different in the same run: give the value that it had, or another --output$"
    with pytest.raises(ValueError, match=rf"objective was ca_mlm\+tlm, is mlm{never}"):
        resumed(recipe, checkpoint, objective="mlm")
    with pytest.raises(ValueError, match="optimizer was adamw, is muon; optimizer cannot be different in the same run"):
        resumed(recipe, checkpoint, engine="plain", optimizer="muon")
    both = rf"is mlm; alpha was 0.5, is 0.7; --change seed,alpha would allow alpha{never}"
    with pytest.raises(ValueError, match=both):
        resumed(recipe, checkpoint, objective="mlm", alpha=0.7, change="seed")


def test_changes_are_told_and_noted_for_good(recipe, checkpoint: Path, tmp_path: Path, capsys) -> None:
    fields = {"learning_rate": 0.01, "change": "learning_rate, data_fingerprint"}
    start = resumed(recipe, checkpoint, {"data_fingerprint": "xyz"}, reset_schedule=True, **fields)
    changed = {"data_fingerprint": ("abc", "xyz"), "learning_rate": (0.1, 0.01)}
    assert start.history == ({"step": 2, "changed": changed, "reset": ["schedule"]},)
    told = "from update 2 on: data_fingerprint abc -> xyz, learning_rate 0.1 -> 0.01, schedule starts again\n"
    assert capsys.readouterr().err == told
    assert (start.schedule_start, start.takes_only_weights) == (2, False)
    engine = engine_of(recipe, start)
    save_checkpoint(engine, tmp_path, 5, Contents(recipe=recipe, state={**DATA, **start.state()}))
    noted = read_state(checkpoints_of(tmp_path)[5])
    assert noted["history"] == json.loads(json.dumps(start.history))
    again = begin((5, checkpoints_of(tmp_path)[5]), dataclasses.replace(recipe, resume="auto"), DATA)
    assert (again.schedule_start, list(again.history)) == (2, noted["history"])


def test_changes_of_nothing(recipe, checkpoint: Path, capsys) -> None:
    """A typo in --output must not begin a run, and who asks for a change is told when there is none."""
    fields = {"change": "seed", "reset_optimizer": True, "reset_schedule": True}
    expected = f"--change, --reset_optimizer, --reset_schedule need a checkpoint .* {recipe.output} has none"
    with pytest.raises(ValueError, match=expected):
        begin(None, dataclasses.replace(recipe, resume="auto", **fields), DATA)
    assert begin(None, dataclasses.replace(recipe, resume="auto"), DATA) == Start()
    start = resumed(recipe, checkpoint, change="alpha,learning-rate,seed", learning_rate=0.01)
    assert list(start.history[-1]["changed"]) == ["learning_rate"]
    told = capsys.readouterr().err
    assert told.startswith(f"change alpha, seed: same value as in {checkpoint}; no effect\n")


def test_changed_values_win_over_those_of_the_checkpoint(recipe, checkpoint: Path) -> None:
    """Adam's own state would bring back the rate, the decay and the betas that it was saved with."""
    fields = {"learning_rate": 0.01, "weight_decay": 0.5, "adam_beta2": 0.9}
    start = resumed(recipe, checkpoint, change=",".join(fields), **fields)
    engine = engine_of(dataclasses.replace(recipe, **fields), start)
    start.restore(engine)
    update(engine)
    assert engine.learning_rate() == pytest.approx(0.01 / 3), "a function of the step and the recipe as it is now"
    group = engine.optimizers["optimizer"].param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (engine.learning_rate(), 0.5, (0.9, 0.9))


def test_moments_are_forgotten_only_when_asked_for(recipe, checkpoint: Path) -> None:
    for asked in (False, True):
        start = resumed(recipe, checkpoint, reset_optimizer=asked)
        engine = engine_of(recipe, start)
        start.prepare(engine.model, recipe)
        start.restore(engine)
        update(engine)
        assert [int(state["step"]) for state in engine.optimizers["optimizer"].state.values()] == [
            1 if asked else 3
        ] * 2
    assert start.history[-1]["reset"] == ["optimizer"]


def test_what_the_checkpoint_has_is_not_read_again(recipe, checkpoint: Path, capsys) -> None:
    resumed(recipe, checkpoint, init_from="moved")
    assert capsys.readouterr().err == f"init_from moved is not read: the run resumes from {checkpoint}\n"


def test_run_from_a_model_goes_on_without_its_name(recipe, tmp_path: Path, capsys) -> None:
    """Its shape fields were not used at the start; those of a recipe file are none of the run's when it goes on."""
    begun = dataclasses.replace(recipe, init_from="model")
    save_checkpoint(engine_of(begun, Start()), tmp_path, 2, Contents(recipe=begun, state={**DATA, **Start().state()}))
    path = checkpoints_of(tmp_path)[2]
    other = dataclasses.replace(recipe, num_hidden_layers=2, max_position_embeddings=200)
    start = resumed(other, path)
    assert capsys.readouterr().err == ""
    settled = start.settled(dataclasses.replace(other, resume="auto", change="seed", reset_optimizer=True))
    assert settled == dataclasses.replace(begun, resume="auto"), "later checkpoints say where the run came from"
    with pytest.raises(ValueError, match="objective"):
        resumed(other, path, init_from="moved", objective="mlm")
    assert capsys.readouterr().err == "", "nothing of a run that does not go on"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"change": "learning-rat"}, "change: unknown field 'learning_rat', did you mean 'learning_rate'?"),
        ({"change": "xyz"}, "change: unknown field 'xyz', these can change: seed, "),
        ({"change": "objective"}, "change: 'objective' cannot be different in the same run; these can: seed, "),
        ({"change": "learning-rate,steps"}, "change: 'steps' may be different without being named: leave it out"),
        ({"change": "init_from"}, "change: 'init_from' is not read when a run goes on: leave it out"),
        ({"resume": "no", "reset_optimizer": True}, "reset_optimizer is for a run that goes on: give --resume"),
        ({"resume": "no", "change": "seed"}, "change is for a run that goes on: give --resume"),
    ],
)
def test_changes_that_cannot_be(recipe, fields: dict[str, Any], message: str) -> None:
    problem, *_ = dataclasses.replace(recipe, **{"resume": "5", **fields}).problems()
    assert problem.startswith(message)


def test_versions_are_told_not_compared(recipe, checkpoint: Path, capsys) -> None:
    state = read_state(checkpoint)
    state["versions"]["torch"] = "1.0"
    (checkpoint / "state.json").write_text(json.dumps(state))
    resumed(recipe, checkpoint)
    assert f"written with other versions: torch 1.0 -> {library_versions()['torch']}" in capsys.readouterr().err


def test_field_younger_than_the_checkpoint_is_its_default(recipe, checkpoint: Path) -> None:
    path = checkpoint / "recipe.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("bilingual_mask_rate")]
    path.write_text("\n".join(lines))
    resumed(recipe, checkpoint)
    with pytest.raises(ValueError, match="bilingual_mask_rate was 0.25, is 0.3"):
        resumed(recipe, checkpoint, bilingual_mask_rate=0.3)


def test_checkpoint_from_before_there_were_changes_goes_on(recipe, checkpoint: Path) -> None:
    state = read_state(checkpoint)
    del state["history"], state["schedule_start"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    assert resumed(recipe, checkpoint) == Start(step=2, checkpoint=checkpoint)


def test_facts_that_are_mappings_are_compared_by_key(recipe, tmp_path: Path) -> None:
    facts = {**DATA, "task_file": {"name": "mine", "metrics": ["accuracy", "macro_f1"], "labels": ["a", "b"]}}
    save_checkpoint(
        engine_of(recipe, Start()), tmp_path, 3, Contents(recipe=recipe, state={**facts, **Start().state()})
    )
    own = checkpoints_of(tmp_path)[3]
    assert resumed(recipe, own, facts) == Start(step=2, checkpoint=own)
    changed = {
        **DATA,
        "task_file": {"name": "mine", "metrics": ["macro_f1"], "score": ["macro_f1"], "labels": ["a", "b"]},
    }
    message = (
        r"metrics of task_file was \['accuracy', 'macro_f1'\], is \['macro_f1'\]; score of task_file was None, is "
        r"\['macro_f1'\]; if that is meant, give --change task_file$"
    )
    with pytest.raises(ValueError, match=message):
        resumed(recipe, own, changed)
    start = resumed(recipe, own, changed, change="task_file")
    before, now = start.history[-1]["changed"]["task_file"]
    assert before == {"metrics": ["accuracy", "macro_f1"], "score": None} and now.keys() == before.keys()


def test_a_fact_that_an_older_checkpoint_does_not_note_is_not_compared(recipe, checkpoint: Path) -> None:
    assert resumed(recipe, checkpoint, {**DATA, "task_file": {"name": "mine"}}) == Start(step=2, checkpoint=checkpoint)
