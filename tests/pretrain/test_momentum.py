"""Runs with a momentum encoder in this process: its queue is filled, moves on, resumes to the bit, stays behind."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForMaskedLM

from data_tools.shards.manifest import Manifest
from pretrain.export import Form, export
from pretrain.models.initial_model import build_model
from pretrain.momentum import FILE, of_all_ranks
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training import run as training_run
from training.checkpoints.finding import checkpoints_of
from training.engine import plain_engine
from training.meters import read_metrics
from training.run import train_run
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective import MONO, Count, ItemLosses, Objective, Route, Term
from veco.objectives.shared.momentum import MomentumModule
from veco.objectives.shared.pooling import pooled
from veco.objectives.states import States
from veco.objectives.table import OBJECTIVES
from veco.objectives.xlco import queued_contrast
from veco.views import CLEAN_X, CLEAN_Y

OBJECTIVE = "mlm + xlco(layer=1, queue=16, momentum=0.5, project=true)"
KEYS = 6  # of an update: two pairs each
FIELDS: dict[str, Any] = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "objective": OBJECTIVE,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "mono_max_length": 24,
    "bilingual_max_length": 12,
    "mono_batch_pairs": 12,
    "bilingual_batch_pairs": 2 * KEYS,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "warmup_steps": 0,
    "learning_rate": 5e-3,
    "log_every": 1,
    "save_every": 1,
    "keep_checkpoints": 9,
    "loader_workers": 0,
}


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_engine, "share_cores", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")


def recipe_of(data: Path, run_dir: Path, **options: Any) -> PretrainRecipe:
    return PretrainRecipe(output=str(run_dir), data=str(data), **{**FIELDS, **options})


def run(data: Path, run_dir: Path, **options: Any) -> list[dict[str, float]]:
    """The losses of each update of a run."""
    train_run(recipe_of(data, run_dir, **options), PretrainingTask.on(data))
    return losses_of(run_dir)


def losses_of(run_dir: Path) -> list[dict[str, float]]:
    kept = ("mono/", "bilingual/", "grad_norm")
    return [{name: of for name, of in line.items() if name.startswith(kept)} for line in read_metrics(run_dir)]


def momentum_of(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    tensors = load_file(checkpoints_of(run_dir)[step] / FILE)
    return {name.removeprefix("xlco."): tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def whole_run(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("momentum") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")
        run(random_data, run_dir, steps=4)
    return run_dir


def first_vectors(model: VecoForPreTraining, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Keys by the model itself, on padded rows."""
    with torch.no_grad():
        ids, mask = batch["joined_y_input_ids"], batch["joined_y_attention_mask"]
        hidden = model.eval().veco(ids, mask, output_hidden_states=True).hidden_states[1]
        return hidden[:, 0] @ model.objective_modules["xlco"].projection.weight.t()


def test_queue_is_filled_by_the_initial_encoder_and_then_turns(whole_run: Path, random_data: Path) -> None:
    recipe = recipe_of(random_data, whole_run)
    task = PretrainingTask(recipe, random_data)
    model = build_model(recipe, random_data, Manifest.load(random_data))
    filled = torch.cat([first_vectors(model, task.other_batches()[step]) for step in (1, 3, 5)])  # 18 for 16 places
    expected = torch.cat([filled[16:], filled[2:16]])
    first = momentum_of(whole_run, 1)
    torch.testing.assert_close(first["queue"], expected)
    assert first["oldest"] == 2, "a monolingual update adds no keys"
    second = momentum_of(whole_run, 2)
    assert second["oldest"] == 2 + KEYS
    kept = [place for place in range(16) if not 2 <= place < 2 + KEYS]
    assert torch.equal(second["queue"][kept], first["queue"][kept])
    assert not torch.isclose(second["queue"][2 : 2 + KEYS], first["queue"][2 : 2 + KEYS]).all(1).any()
    assert momentum_of(whole_run, 4)["oldest"] == (2 + 2 * KEYS) % 16
    trained = {tuple(row) for batch in (1, 3) for row in task.train[batch]["joined_y_input_ids"].tolist()}
    others = {tuple(row) for batch in (1, 3) for row in task.other_batches()[batch]["joined_y_input_ids"].tolist()}
    assert not trained & others, "no key is among its own negatives"


@pytest.mark.parametrize("accumulation", [2, 3])
def test_losses_and_queue_are_the_same_for_any_accumulation(
    whole_run: Path, random_data: Path, tmp_path: Path, accumulation: int
) -> None:
    lines = run(random_data, tmp_path / "run", steps=4, accumulation_steps=accumulation)
    expected = losses_of(whole_run)
    assert {"bilingual/xlco", "bilingual/mlm"} <= lines[1].keys() and "mono/xlco" not in lines[0]
    for one, other in zip(lines, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    ours, theirs = momentum_of(tmp_path / "run", 4), momentum_of(whole_run, 4)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_resumed_run_is_the_undisturbed_one_bit_for_bit(
    whole_run: Path, random_data: Path, tmp_path: Path, step: int
) -> None:
    shutil.copytree(whole_run, tmp_path / "run")
    for later in range(step + 1, 5):
        shutil.rmtree(checkpoints_of(tmp_path / "run")[later])
    resumed = run(random_data, tmp_path / "run", steps=4, resume="auto")
    assert resumed == losses_of(whole_run)
    ours, theirs = momentum_of(tmp_path / "run", 4), momentum_of(whole_run, 4)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@dataclass(frozen=True)
class SegmentContrast(Objective):
    """A segment of monolingual text against the queue of the segments that followed others."""

    name = "segments"
    kinds = (MONO,)
    views = (CLEAN_X, CLEAN_Y)
    routes = (Route(CLEAN_X),)
    terms = (Term("segments", (Count(CLEAN_X, of_rows=True),), is_of_tokens=False),)
    momentum_view = CLEAN_Y

    def module(self, config: VecoConfig) -> MomentumModule:
        return MomentumModule(config, None, queue=16, momentum=0.5, projects=False)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        assert isinstance(module, MomentumModule)
        momentum, packed = module.running(), states.batch.packed
        queries_RD = pooled(states.of(Route(CLEAN_X)), packed, CLEAN_X, "cls")
        keys_RD = momentum.vectors(states.batch, CLEAN_Y)
        momentum.keys.append(keys_RD)
        values, is_right = queued_contrast(queries_RD, keys_RD, momentum.queue_QD, temperature=1.0)
        return [ItemLosses(self.name, values, torch.arange(len(values)), is_right, self.terms[0].counts[0])]


def test_queue_is_filled_from_the_view_and_kind_of_batch_that_the_objective_names(
    random_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "segments", SegmentContrast)
    lines = run(random_data, tmp_path / "run", steps=2, objective="mlm + segments")
    assert "mono/segments" in lines[0] and "bilingual/segments" not in lines[1]
    recipe = recipe_of(random_data, tmp_path / "run", steps=2, objective="mlm + segments")
    model = build_model(recipe, random_data, Manifest.load(random_data)).eval()
    batches = PretrainingTask(recipe, random_data).other_batches()
    with torch.no_grad():
        filled = [
            model.veco(batches[step]["clean_y_input_ids"], batches[step]["clean_y_attention_mask"]).last_hidden_state
            for step in (0, 2)
        ]
    first_RD = torch.cat([states[:, 0] for states in filled])  # 24 for 16 places
    tensors = load_file(checkpoints_of(tmp_path / "run")[1] / FILE)
    assert tensors["segments.oldest"] == (24 + 12) % 16, "the queue moved on with the monolingual update"
    torch.testing.assert_close(tensors["segments.queue"][4:8], first_RD[20:24])  # the other places have its keys


@dataclass
class OneOfTwo:
    """A rank whose sums have what the other one contributed, if that is known already."""

    rank: int
    sums: list[torch.Tensor]
    world_size: int = 2

    def sum_over_ranks(self, values: torch.Tensor) -> torch.Tensor:
        self.sums.append(values)
        return torch.stack(self.sums).sum(0)


def test_keys_of_all_ranks_are_in_the_order_of_their_samples() -> None:
    """Of the accumulation steps, of the ranks in each, of the samples on each, as batches are split."""
    samples = torch.arange(12.0).view(3, 2, 2, 1).expand(3, 2, 2, 4)
    sums: list[torch.Tensor] = []
    found = [of_all_ranks(list(samples[:, rank]), OneOfTwo(rank, sums)) for rank in range(2)]
    assert torch.equal(found[1], samples.reshape(12, 4))


STAGES = (
    {"steps": 2, "objective": "mlm"},
    {"steps": 2, "objective": OBJECTIVE},
    {"steps": 1, "alpha": 0.3, "objective": OBJECTIVE},
    {"steps": 1, "objective": "mlm"},
    {"steps": 2, "objective": OBJECTIVE},
)


def test_momentum_begins_and_ends_with_the_stages_that_have_it(random_data: Path, tmp_path: Path) -> None:
    """A run that resumes at a border has the one that the whole run has there."""
    whole = run(random_data, tmp_path / "whole", stages=STAGES, save_every=99)
    found = [step for step, path in checkpoints_of(tmp_path / "whole").items() if (path / FILE).is_file()]
    assert found == [4, 5, 8]
    for stop in (5, 6):
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        for step, path in checkpoints_of(tmp_path / "run").items():
            if step > stop:
                shutil.rmtree(path)
        assert run(random_data, tmp_path / "run", stages=STAGES, save_every=99, resume="auto") == whole
        ours, theirs = momentum_of(tmp_path / "run", 8), momentum_of(tmp_path / "whole", 8)
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"objective": OBJECTIVE.replace("layer=1", "layer=2")}, "one momentum encoder in the whole run: expected"),
        ({"objective": OBJECTIVE, "pairs": []}, "^update 3: xlco fills its queue from bilingual batches"),
    ],
)
def test_stages_that_cannot_have_momentum_are_refused_before_the_run(
    random_data: Path, tmp_path: Path, stage: dict[str, Any], message: str
) -> None:
    stages = ({"steps": 1, "objective": OBJECTIVE}, {"steps": 1, "objective": "mlm"}, {"steps": 1, **stage})
    with pytest.raises(ValueError, match=message):
        run(random_data, tmp_path / "run", stages=stages)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_export_has_neither_momentum_nor_projection(whole_run: Path, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(export(whole_run, tmp_path / "model", form=Form(dtype="float32")))
    (file,) = (tmp_path / "model").glob("*.safetensors")
    stored = load_file(file).keys()
    assert stored < model.state_dict().keys() and "veco.embeddings.word_embeddings.weight" in stored


def test_run_starts_from_an_export_with_a_new_projection(whole_run: Path, random_data: Path, tmp_path: Path) -> None:
    start = export(whole_run, tmp_path / "model", form=Form(dtype="float32"))
    lines = run(random_data, tmp_path / "run", steps=2, init_from=str(start), cross_attention_steps=0)
    assert "bilingual/xlco" in lines[1]


def test_momentum_file_of_another_kind_is_refused(whole_run: Path, random_data: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "run")
    path = checkpoints_of(tmp_path / "run")[4] / FILE
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match="momentum.safetensors: expected the momentum encoders of a checkpoint"):
        run(random_data, tmp_path / "run", steps=5, resume="auto")


def test_validation_contrasts_with_the_queue_as_it_is(random_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("mono", "parallel", "tokenizer"):
        (data / name).symlink_to(random_data / name)
    manifest = Manifest.load(random_data)
    manifest.valid.update({"mono": {}, "parallel": manifest.parallel})
    manifest.save(data)
    validated = run(data, tmp_path / "run", steps=2, validate_every=1)
    plain = run(random_data, tmp_path / "plain", steps=2)
    assert [line for line in validated if line] == plain
    noted = [line for line in read_metrics(tmp_path / "run") if "valid/bilingual_xlco" in line]
    assert len(noted) == 2 and "valid/bilingual_xlco_accuracy" in noted[0]
