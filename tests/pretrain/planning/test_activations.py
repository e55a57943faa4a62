"""The oracle is the model itself, run without values on a device that counts what lives on it."""

from __future__ import annotations

import pytest
from live_bytes import Counted, counted_step

from pretrain.models.teacher import teach
from pretrain.momentum import modules_with_momentum
from pretrain.planning.activations import MicroStep, Storage, micro_step
from pretrain.planning.workload import PairShape
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.distil import Distillation
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.teacher import Teacher

GIB = 2**30
MONO = PairShape(length=512, mask_rate=0.04, objective=ObjectiveSum.of("ca_mlm"))
BILINGUAL = PairShape(length=128, mask_rate=0.025, objective=ObjectiveSum.of("ca_mlm+tlm"))


def planned_peak(config: VecoConfig, step: MicroStep, gradients: int) -> int:
    """With the gradient of the embedding, which is made first, and those of all parameters, which are there for H."""
    embedding = 2 * config.vocab_size * config.hidden_size
    return step.kept + max(
        step.logits + embedding, step.without_gradient, step.first_layer + embedding, step.h_layer + gradients
    )


def check(
    config: VecoConfig,
    shape: PairShape,
    pairs: int,
    recompute: bool,
    rel: float = 0.1,
    teacher: VecoConfig | None = None,
) -> Counted:
    def prepare(model: VecoForPreTraining) -> None:
        for module in modules_with_momentum(model).values():
            module.begin(model.veco)
        if teacher is not None:
            learning = [part for part in shape.objective if isinstance(part, Distillation)]
            teach(model, Teacher(VecoForPreTraining(teacher, "mlm")), learning)

    counted = counted_step(config, shape.example(pairs, 60), recompute, shape.objective, prepare)
    step = micro_step(config, shape, pairs, Storage(recompute=recompute), teacher)
    assert step.kept == pytest.approx(counted.kept, rel=0.05)
    assert planned_peak(config, step, counted.gradients) == pytest.approx(counted.peak, rel=rel)
    return counted


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("shape", "pairs"), [(MONO, 16), (BILINGUAL, 64)], ids=["mono", "bilingual"])
def test_veco_large_keeps_what_was_counted(shape: PairShape, pairs: int, recompute: bool) -> None:
    counted = check(VecoConfig.large(), shape, pairs, recompute)
    assert counted.gradients == pytest.approx(2 * 660_952_210, rel=0.001)  # the counter counts


@pytest.mark.parametrize("objective", ["ca_mlm", "mlm+tlm", "clm"])
@pytest.mark.parametrize("recompute", [False, True])
def test_other_shapes_keep_what_was_counted(objective: str, recompute: bool) -> None:
    config = VecoConfig.small(num_hidden_layers=6, vocab_size=8_000, hidden_dropout_prob=0.0)
    # Without S the last layer's own gradients, not there yet, count for something in so small a model.
    rel = 0.1 if objective == "ca_mlm" else 0.15
    check(config, PairShape(64, 0.3, ObjectiveSum.of(objective)), 24, recompute, rel)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("objective", "deepest"),
    [("mlm + distil(relations=0, logits=1)", 24), ("mlm + xlco(layer=4)", None), ("btmlm", None)],
)
def test_passes_without_gradient_keep_what_was_counted(objective: str, deepest: int | None, recompute: bool) -> None:
    config = VecoConfig.small(num_hidden_layers=6, vocab_size=8_000)
    teacher = None if deepest is None else VecoConfig.large(num_hidden_layers=deepest, vocab_size=8_000)
    check(config, PairShape(64, 0.3, ObjectiveSum.of(objective)), 24, recompute, 0.15, teacher)


def test_a_pass_without_gradient_has_one_layer_and_perhaps_all_states() -> None:
    """By hand: x and y of 10 tokens through a teacher of 3 layers; then through 2 layers of the momentum encoder."""
    student, teacher = (
        VecoConfig(vocab_size=100, hidden_size=of, num_hidden_layers=3, num_attention_heads=4, intermediate_size=200)
        for of in (64, 32)
    )
    in_a_layer = 2 * 32 + 2 * 200
    for options, kept in (("relations=0, logits=1", 0), ("relations=1", 3 * 32), ("relations=0, states=1", 0)):
        shape = PairShape(10, 0.0, ObjectiveSum.of(f"distil({options})"))
        assert micro_step(student, shape, 5, Storage(), teacher).without_gradient == 5 * 20 * (in_a_layer + kept) * 2
    shape = PairShape(10, 0.0, ObjectiveSum.of("xlco(layer=2)"))
    assert micro_step(student, shape, 5, Storage()).without_gradient == 5 * 10 * (2 * 64 + 2 * 200) * 2


def test_a_layer_keeps_so_many_bytes_of_a_token() -> None:
    """By hand, without dropout: 8 tensors of the width, the inner one, 2 LayerNorms, the statistics of 4 heads."""
    config = VecoConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=200,
        hidden_dropout_prob=0.0,
    )
    shape = PairShape(10, 0.0, ObjectiveSum.of("mlm"))
    deeper = VecoConfig(**{**config.to_dict(), "num_hidden_layers": 2})
    one, two = (micro_step(shaped, shape, 3, Storage()).kept for shaped in (config, deeper))
    assert two - one == 3 * 20 * (8 * 64 * 2 + 200 * 2 + 2 * 8 + 4 * 4)
    recomputed = [micro_step(shaped, shape, 3, Storage(recompute=True)).kept for shaped in (config, deeper)]
    assert recomputed[1] - recomputed[0] == 3 * 20 * 64 * 2  # its input


def test_logits_exist_by_one_chunk() -> None:
    config = VecoConfig(vocab_size=50_000, hidden_size=64, num_hidden_layers=1, num_attention_heads=4)
    shape = PairShape(512, 0.5, ObjectiveSum.of("ca_mlm"))  # 255 of 510 of each are predicted, twice
    few, more, many = (micro_step(config, shape, pairs, Storage()).logits for pairs in (1, 2, 50))
    assert few == 1020 * 50_000 * (2 + 2 * 4)  # less than a chunk, with two copies in float32
    assert more == many == 1024 * 50_000 * (2 + 2 * 4)
    on_cpu = micro_step(config, shape, 50, Storage(on_cpu=True)).logits
    assert on_cpu == 1024 * 50_000 * 2 + 2 * 4 * 2**18  # copies of a few rows alone
