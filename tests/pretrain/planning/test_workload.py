"""Expected values by hand, from the paper's table 8 and the model's equations."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import DistilBertConfig

from pretrain.planning.workload import PairShape, model_shape, plan_workload, read_recipe, recipe_precision
from veco import VecoConfig
from veco.objectives.objective_sum import ObjectiveSum

RECIPES = Path(__file__).resolve().parents[3] / "pretrain" / "recipes"
D, F, V, LAYERS = 32, 48, 60, 3
CONFIG = VecoConfig(vocab_size=V, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=F)


def test_tokens_of_a_pair() -> None:
    bilingual = PairShape(length=130, mask_rate=0.25, objective=ObjectiveSum.of("ca_mlm+tlm"))
    assert (bilingual.tokens(False), bilingual.tokens(True)) == (4 * 130, 2 * 130)
    # Of 128 tokens that are neither <s> nor </s> 32 are predicted: of x and y in H and in S, and both in TLM.
    assert bilingual.positions == 32 * 6
    assert (bilingual.attended(False), bilingual.attended(True)) == (2 * 130**2 + 260**2, 4 * 130**2)
    plain = PairShape(length=130, mask_rate=0.25, objective=ObjectiveSum.of("mlm"))
    assert (plain.tokens(False), plain.tokens(True), plain.positions) == (2 * 130, 0, 64)
    assert PairShape(length=130, mask_rate=0.25, objective=ObjectiveSum.of("clm")).positions == 2 * 129


def test_operations_of_a_pair() -> None:
    """H of x, y and TLM; S of x and y with its cross-attention; the head; forward once and backward twice."""
    length, predicted = 22, 5
    shape = PairShape(length, 0.25, ObjectiveSum.of("ca_mlm+tlm"))
    tokens = 2 * length
    projections = 8 * D * D + 4 * D * F
    h = 2 * tokens * projections + 4 * D * (2 * length**2 + tokens**2)
    s = tokens * projections + 4 * D * 2 * length**2
    cross = tokens * 8 * D * D + 4 * D * 2 * length**2
    head = 2 * (D * D + D * V) * predicted * 6
    layers = LAYERS * (h + s + cross)
    assert shape.flops(CONFIG, recompute=False) == 3 * (layers + head)
    assert shape.flops(CONFIG, recompute=True) == 4 * layers + 3 * head


def test_the_papers_recipe_needs_nothing_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECO_RUNS", raising=False)
    workload = plan_workload(read_recipe(RECIPES / "large.yaml"), None, [], None)
    assert (workload.config.num_hidden_layers, workload.config.hidden_size) == (24, 1024)
    assert workload.parameters.model == workload.parameters.trained == 660_952_210  # SPEC's 660.95M
    kinds = {name: (kind.batch_pairs, kind.longest.length) for name, kind in workload.kinds.items()}
    assert kinds == {"mono": (1024, 512), "bilingual": (4096, 128)}
    assert [(part.updates, part.updates_of_a_kind) for part in workload.parts] == [(10_000, 5000), (240_000, 120_000)]
    assert any("the shape of xlm-roberta-large" in note for note in workload.notes)
    assert any(note.startswith("no --data") for note in workload.notes)


def test_data_decide_lengths_and_kinds_but_not_the_longest_row() -> None:
    recipe = read_recipe(RECIPES / "tiny.yaml")
    workload = plan_workload(recipe, None, [{"mono": 30.4}], 500)
    assert list(workload.kinds) == ["mono"] and workload.parts[0].updates_of_a_kind == recipe.steps
    assert (workload.kinds["mono"].average.length, workload.kinds["mono"].longest.length) == (30, 64)
    assert workload.config.vocab_size == 500
    assert model_shape(recipe, 500, 3)[0].max_tokens == recipe.max_position_embeddings - 4


def test_without_ca_mlm_the_cross_attention_is_not_trained(tmp_path: Path) -> None:
    path = tmp_path / "mlm.yaml"
    path.write_text("objective: mlm+tlm\nhidden_size: 32\nnum_hidden_layers: 3\nintermediate_size: 48\n")
    workload = plan_workload(read_recipe(path), None, [], V)
    assert workload.parameters.model - workload.parameters.trained == 3 * (4 * (D * D + D) + 2 * D)
    assert recipe_precision(workload.recipe) == "bf16"


def test_a_model_that_is_nowhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(f"init_from: {tmp_path}/some-model\n")
    with pytest.raises(ValueError, match=r"some-model: expected a model's directory, or one that is called xlm-"):
        plan_workload(read_recipe(path), None, [], None)


def test_a_model_of_another_kind_is_named(tmp_path: Path) -> None:
    """As the run does it, for a teacher, too."""
    DistilBertConfig(vocab_size=99, n_layers=1).save_pretrained(tmp_path / "other")
    path = tmp_path / "other.yaml"
    for field, more in (("init_from", ""), ("teacher", "objective: mlm + distil\n")):
        path.write_text(f"{field}: {tmp_path}/other\n{more}")
        with pytest.raises(
            ValueError, match=f"^{field} .*other: expected an xlm-roberta or a veco, found a distilbert"
        ):
            plan_workload(read_recipe(path), None, [], None)


def test_what_an_assumed_teacher_does_not_take_names_the_assumption(tmp_path: Path) -> None:
    path = tmp_path / "student.yaml"
    path.write_text(f"teacher: {tmp_path}/later\nobjective: mlm + distil(heads=48)\n")
    with pytest.raises(ValueError, match=r"heads 48 .*width 1024 \(a teacher of VECO-large's shape: there is no model"):
        plan_workload(read_recipe(path), None, [], None)


def test_a_model_at_hand_decides_the_shape(tmp_path: Path) -> None:
    VecoConfig.small(vocab_size=1234, pad_token_id=0).save_pretrained(tmp_path / "xlm-roberta-large")
    path = tmp_path / "from.yaml"
    path.write_text(f"init_from: {tmp_path}/xlm-roberta-large\ndropout: 0.0\n")
    config, notes = model_shape(read_recipe(path), None, 3)
    assert (config.num_hidden_layers, config.vocab_size, config.hidden_dropout_prob) == (6, 1234, 0.0)
    assert config.max_tokens == config.max_position_embeddings - 1, "its padding is 0"
    assert not notes
