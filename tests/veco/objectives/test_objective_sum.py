"""Sums of objectives as recipes write them, and the sweeps that they share."""

from __future__ import annotations

import re

import pytest
import torch
from random_pairs import MASKING, batch_of_views, random_samples

from pretrain.micro_batch import SAMPLES, make_batch
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.contrast import SentenceContrast
from veco.objectives.objective import BILINGUAL, MONO, Count
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.states import sweeps_of
from veco.objectives.table import OBJECTIVES


def test_sum_has_weights_and_options() -> None:
    found = ObjectiveSum.of("ca_mlm + tlm + 0.1 * contrast(temperature=1, pooling=cls, masked=true, layer=-1)")
    assert [part.weight for part in found.parts] == [1.0, 1.0, 0.1]
    assert list(found)[2] == SentenceContrast(temperature=1.0, pooling="cls", masked=True, layer=-1)
    assert found.views == ("x", "y", "tlm")
    assert found.counts == (Count("x"), Count("y"), Count("tlm"), Count("x", of_rows=True))
    assert found.weights == {"mlm": 1.0, "ca_mlm": 1.0, "tlm": 1.0, "contrast": 0.1}


@pytest.mark.parametrize("text", ["ca_mlm+tlm", "ca_mlm + tlm", " ca_mlm +tlm "])
def test_names_of_before_mean_what_they_meant(text: str) -> None:
    found = ObjectiveSum.of(text)
    assert [part.name for part in found] == ["ca_mlm", "tlm"]
    assert [part.name for part in found.of_kind(MONO)] == ["ca_mlm"]
    assert [part.name for part in found.of_kind(BILINGUAL)] == ["ca_mlm", "tlm"]
    assert [part.name for part in found.of_batch(["tlm"])] == ["tlm"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camlm", "objective 'camlm': unknown objective 'camlm', did you mean ca_mlm?"),
        ("mlm + other_thing", "unknown objective 'other_thing', expected one of ca_mlm, mlm, tlm"),
        ("0 * mlm", "the weight of mlm is 0, expected a number above 0"),
        ("-1 * mlm", "the weight of mlm is -1, expected a number above 0"),
        ("big * mlm", "the weight of mlm is big, expected a number above 0"),
        ("True * mlm", "the weight of mlm is True, expected a number above 0"),
        ("1e999 * mlm", "the weight of mlm is inf, expected a number above 0"),
        ("1" * 400 + " * mlm", "the weight of mlm is 111"),
        ("contrast(temperature=1e999)", "temperature of contrast is inf, expected a number"),
        ("contrast(margin=-1e999)", "margin of contrast is -inf, expected a number"),
        ("contrast(temperature={[]})", "expected a number or a word, found {[]}"),
        (" + ".join(["mlm"] * 3000), "expected a sum such as ca_mlm + tlm"),
        ("mlm + mlm", "mlm and mlm both have the loss mlm; leave one of them out"),
        ("mlm + ca_mlm", "mlm and ca_mlm both have the loss mlm; leave one of them out"),
        ("mlm +", "expected a sum such as ca_mlm + tlm"),
        ("", "expected a sum such as ca_mlm + tlm"),
        ("mlm - tlm", "expected a sum such as ca_mlm + tlm + 0.1 * contrast(temperature=0.05), found mlm - tlm"),
        ("contrast(0.05)", "found contrast(0.05)"),
        ("contrast(temprature=0.05)", "unknown option of contrast 'temprature', did you mean temperature?"),
        ("contrast(temperature=cold)", "temperature of contrast is 'cold', expected a number"),
        ("mlm(share=0.5)", "unknown option of mlm 'share', there is none"),
        ("contrast(layer=1, layer=2)", "layer is given twice; give it once"),
        ("contrast(layer=0.5)", "layer of contrast is 0.5, expected a whole number"),
        ("contrast(layer=true)", "layer of contrast is True, expected a whole number"),
        ("contrast(temperature=0)", "contrast: temperature 0.0 must be above 0"),
        ("contrast(pooling=max)", "contrast: pooling 'max' must be one of mean, cls"),
        ("__import__('os').system('true')", "expected a sum such as"),
        ("contrast(temperature=f())", "expected a number or a word, found f()"),
        (f"contrast(temperature={'-' * 1900}1)", "expected a sum such as ca_mlm + tlm"),
        ("xlco(queue=100000000000000)", "xlco: queue 100000000000000 must be from 1 to 10,000,000"),
    ],
)
def test_mistakes_are_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as found:
        ObjectiveSum.of(text)
    assert "\n" not in str(found.value)


def test_a_run_has_one_momentum_encoder() -> None:
    """Other options of it would come into force in no later stage; those of others may differ."""
    assert len(ObjectiveSum.union(["contrast(layer=1) + xlco", "contrast(layer=2) + 0.1 * xlco"]).parts) == 2
    with pytest.raises(ValueError, match=r"xlco has one momentum encoder in the whole run: .* 256.*found .* 64"):
        ObjectiveSum.union(["xlco", "mlm + xlco(queue=64)"])


@pytest.mark.parametrize(
    ("text", "num_sweeps"),
    [
        ("mlm", 1),
        ("mlm + tlm", 1),
        ("ca_mlm", 2),
        ("ca_mlm + tlm", 2),
        ("ca_mlm + tlm + contrast", 2),
        ("mlm + clm", 2),
    ],
)
def test_sweeps_are_shared(text: str, num_sweeps: int) -> None:
    objectives = ObjectiveSum.of(text)
    sweeps = sweeps_of(list(objectives), objectives.views)
    assert len(sweeps) == num_sweeps
    routes = [route for sweep in sweeps for route in sweep.routes]
    assert len(routes) == len(set(routes)) and set(routes) >= {r for part in objectives for r in part.all_routes}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_says_what_it_needs(name: str) -> None:
    """Its terms are named once, count views that it reads, and its routes are of these views."""
    (objective,) = ObjectiveSum.of(name)
    assert objective.name == name and objective.kinds and objective.terms
    assert {count.view for term in objective.terms for count in term.counts} <= set(objective.views)
    assert {route.view for route in objective.all_routes} <= set(objective.views)
    assert {prediction.term for prediction in objective.predictions} <= {term.name for term in objective.terms}


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("xlco(normalise=true, temperature=0.01)", "temperature 0.01 has no effect: with normalise, cosine_temp"),
        ("xlco(cosine_temperature=0.01)", "cosine_temperature 0.01 has no effect: give normalise=true, or temp"),
        ("distil(temperature=2)", "temperature 2.0 has no effect: it is of logits, whose weight is 0"),
        ("distil(every_layer=true)", "every_layer True has no effect: it is of states, whose weight is 0"),
        ("distil(relations=0, states=1, heads=4)", "heads 4 has no effect: they are of relations, whose weight is 0"),
        ("distil(relations=0, states=1, layer=2)", "layer 2 has no effect: they are of relations"),
    ],
)
def test_options_that_nothing_reads_are_refused(objective: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ObjectiveSum.of(objective)
    for read in ("xlco(normalise=true, cosine_temperature=0.01)", "distil(logits=1, temperature=2)"):
        ObjectiveSum.of(read)


def test_own_weights_have_a_gradient_in_every_batch(config: VecoConfig) -> None:
    """0 where no loss depends on them: without one torch's Adam would pass over them, and ZeRO's would not."""
    torch.manual_seed(1)
    model = VecoForPreTraining(config, "mlm + clwr")
    batch = batch_of_views("x", "y")
    model(**batch).loss.backward()
    (weight,) = model.objective_modules["clwr"].parameters()
    assert weight.grad is not None and not weight.grad.any()
    expected = model(**batch, objective="mlm").loss
    assert model(**batch).loss == expected


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("clwr", "objective clwr has parameters of its own, which this model, for mlm, was built without"),
        ("mlm + xlco(layer=1)", "objective xlco has parameters of its own"),
        ("contrast(layer=9)", "objective contrast: layer 9 must be -1, the last, or from 0, the embeddings, to 3"),
        ("contrast(layer=-2)", "objective contrast: layer -2 must be"),
    ],
)
def test_objective_that_a_model_cannot_compute_is_refused(config: VecoConfig, objective: str, message: str) -> None:
    model = VecoForPreTraining(config, "mlm")
    with pytest.raises(ValueError, match=re.escape(message)):
        model(**batch_of_views(*ObjectiveSum.of(objective).views), objective=objective)


@pytest.mark.parametrize(("name", "terms"), [("de", ["mlm"]), ("de-en", ["mlm", "contrast", "clsa"])])
def test_neighbours_in_a_document_are_not_contrasted(config: VecoConfig, name: str, terms: list[str]) -> None:
    """Masked x and y are in batches of both kinds, but only in one of them do they translate each other."""
    objective = ObjectiveSum.of("mlm + contrast(masked=true) + clsa(masked=true)")
    batch = make_batch(random_samples(name=name), objective.views, MASKING)
    output = VecoForPreTraining(config, objective)(**{key: of for key, of in batch.items() if key != SAMPLES})
    assert list(output.losses) == list(output.row_totals) == terms
