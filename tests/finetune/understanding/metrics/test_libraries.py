"""Each metric against the library that has it, or against its formula, written out; and the files of each form."""

from __future__ import annotations

import itertools
import math
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics
from scipy import stats

from finetune.understanding.heads.classification import Classification
from finetune.understanding.heads.multilabel import MultiLabel
from finetune.understanding.metrics.choices import read_choices, write_choices
from finetune.understanding.metrics.gold import read_gold
from finetune.understanding.metrics.pools import average_precision
from finetune.understanding.metrics.prediction_files import prediction_path, read_predictions, write_predictions
from finetune.understanding.metrics.scoring import FORMS, POOL_FORM, form_of, gold_of, score
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.examples import Choices, HiddenLabelsError, LabelledText, PooledSet
from finetune.understanding.tasks.task import METRICS, OF_POOLS, RETRIEVAL, WITH_LABELS, Head, Task
from finetune.understanding.tasks.task_file import task_of

LABELS = ("no", "maybe", "yes")
SETS = [own for size in range(4) for own in itertools.combinations(LABELS, size)]


def task_with(head: Head, *metrics: str, **fields: Any) -> Task:
    metrics = metrics or METRICS[head]
    return Task(
        name="mine",
        title="Mine",
        head=head,
        languages=("en", "de"),
        train_languages=("en",),
        metrics=metrics,
        main_metrics=metrics[:1],
        **{"labels": LABELS if head in WITH_LABELS else (), "positive_label": "yes", **fields},
    )


def test_each_form_has_the_metrics_that_a_task_of_its_head_can_name() -> None:
    of_search = {*FORMS[Head.SEARCH].metrics, *POOL_FORM.metrics}
    found = {head: set(form.metrics) for head, form in FORMS.items()} | {Head.SEARCH: of_search}
    assert found == {head: set(metrics) for head, metrics in METRICS.items()}
    assert tuple(POOL_FORM.metrics) == OF_POOLS


@pytest.mark.parametrize("head", [Head.SEQUENCE, Head.CONTEXT_WORD])
@pytest.mark.parametrize("seed", range(3))
def test_labels_are_scored_as_scikit_learn_does(head: Head, seed: int) -> None:
    draw = random.Random(seed)
    gold = draw.choices(LABELS, k=200)
    predicted = [label if draw.random() < 0.5 else draw.choice(LABELS) for label in gold]
    binary = [label == "yes" for label in gold], [label == "yes" for label in predicted]
    expected = {
        "accuracy": 100 * sum(map(str.__eq__, gold, predicted)) / 200,
        "f1": 100 * sklearn.metrics.f1_score(*binary),
        "macro_f1": 100 * sklearn.metrics.f1_score(gold, predicted, average="macro"),
        "matthews": 100 * sklearn.metrics.matthews_corrcoef(gold, predicted),
    }
    found = score(task_with(head), gold, predicted, "en")
    assert list(found) == list(METRICS[head])
    assert found == pytest.approx({metric: expected[metric] for metric in METRICS[head]}, rel=1e-12)


def test_a_score_has_the_metrics_of_the_task_in_its_order() -> None:
    found = score(task_with(Head.SEQUENCE, "matthews", "accuracy"), ["no", "yes"], ["no", "no"], "en")
    assert list(found.items()) == [("matthews", 0.0), ("accuracy", 50.0)]


def test_f1_is_of_the_positive_label() -> None:
    found = {
        label: score(
            task_with(Head.SEQUENCE, "f1", positive_label=label), ["no", "yes", "yes"], ["no", "no", "yes"], "en"
        )
        for label in LABELS
    }
    assert {label: own["f1"] for label, own in found.items()} == pytest.approx(
        {"no": 200 / 3, "yes": 200 / 3, "maybe": 0}
    )


@pytest.mark.parametrize("seed", range(3))
def test_sets_of_labels_are_scored_as_scikit_learn_does(seed: int) -> None:
    draw = random.Random(seed)
    gold = draw.choices(SETS, k=100)
    predicted = [own if draw.random() < 0.4 else draw.choice(SETS) for own in gold]
    binarizer = sklearn.preprocessing.MultiLabelBinarizer(classes=LABELS)
    tables = binarizer.fit_transform(gold), binarizer.transform(predicted)
    assert score(task_with(Head.MULTILABEL), gold, predicted, "en") == pytest.approx(
        {
            "micro_f1": 100 * sklearn.metrics.f1_score(*tables, average="micro"),
            "macro_f1": 100 * sklearn.metrics.f1_score(*tables, average="macro"),
            "exact_match": 100 * np.mean([set(one) == set(other) for one, other in zip(gold, predicted, strict=True)]),
        },
        rel=1e-12,
    )
    # The order of a row's labels is of no importance.
    turned = [own[::-1] for own in predicted]
    assert score(task_with(Head.MULTILABEL), gold, turned, "en") == score(
        task_with(Head.MULTILABEL), gold, predicted, "en"
    )


def test_a_single_label_is_no_pair_of_classes() -> None:
    """One right, one not found, one wrongly found: precision and recall 1/2; its absence is no class."""
    found = score(task_with(Head.MULTILABEL), [("yes",), ("yes",), (), ()], [("yes",), (), ("yes",), ()], "en")
    assert found == {"micro_f1": 50.0, "macro_f1": 50.0, "exact_match": 50.0}
    # A label that is neither there nor predicted does not count.
    assert score(task_with(Head.MULTILABEL, "macro_f1"), [("yes",)], [("yes",)], "en") == {"macro_f1": 100.0}


def test_no_labels_at_all_score_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(task_with(Head.MULTILABEL), [(), ()], [(), ()], "en")
    assert found == {"micro_f1": 0.0, "macro_f1": 0.0, "exact_match": 100.0}


def test_correlations_are_those_of_scipy() -> None:
    drawn = np.random.default_rng(0)
    gold = drawn.integers(0, 6, 80).astype(float).tolist()  # with ties
    predicted = (np.array(gold) + drawn.normal(0, 2, 80)).tolist()
    ranks = [stats.rankdata(side) for side in (gold, predicted)]
    expected = {"pearson": 100 * np.corrcoef(gold, predicted)[0, 1], "spearman": 100 * np.corrcoef(*ranks)[0, 1]}
    assert score(task_with(Head.REGRESSION), gold, predicted, "en") == pytest.approx(expected, rel=1e-9)
    assert expected["pearson"] == pytest.approx(100 * stats.pearsonr(gold, predicted).statistic)


@pytest.mark.parametrize(
    ("gold", "predicted"), [([1.0, 2.0], [3.0, 3.0]), ([3.0, 3.0], [1.0, 2.0]), ([2.0] * 3, [0.0] * 3)]
)
def test_constant_numbers_correlate_with_none_and_without_a_warning(gold: list[float], predicted: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(task_with(Head.REGRESSION), gold, predicted, "en") == {"pearson": 0.0, "spearman": 0.0}


def test_a_single_number_has_no_correlation() -> None:
    with pytest.raises(ValueError, match="1 row; expected two or more for a correlation"):
        score(task_with(Head.REGRESSION), [1.0], [1.0], "en")


def gains(grades: list[float]) -> float:
    """Discounted, linear: grade / log2(rank + 1)."""
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


@pytest.mark.parametrize("seed", range(3))
def test_rankings_score_as_their_formulas_say(seed: int) -> None:
    """Over the queries; one of a single candidate does not count, as in XGLUE's script."""
    draw = random.Random(seed)
    sizes = [1, 2, 5, 1, 7, 3]
    gold = [(f"query {query}", float(draw.randint(0, 4))) for query, size in enumerate(sizes) for _ in range(size)]
    predicted = draw.sample([number / 7 for number in range(100)], k=len(gold))
    ndcgs, averages = [], []
    for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
        if size == 1:
            continue
        rows = sorted(zip(predicted[end - size : end], gold[end - size : end], strict=True), reverse=True)
        grades = [grade for _, (_, grade) in rows]
        best = gains(sorted(grades, reverse=True))
        ndcgs.append(gains(grades) / best if best else 0.0)
        ranks = [rank for rank, grade in enumerate(grades, start=1) if grade]
        if ranks:
            averages.append(sum(place / rank for place, rank in enumerate(ranks, start=1)) / len(ranks))
    expected = {"ndcg": 100 * sum(ndcgs) / 4, "map": 100 * sum(averages) / len(averages)}
    assert score(task_with(Head.RANKING), gold, predicted, "en") == pytest.approx(expected, rel=1e-12)


def test_rankings_without_two_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="no query has two candidates or more"):
        score(task_with(Head.RANKING), [("a", 1.0), ("b", 1.0)], [0.0, 1.0], "en")
    with pytest.raises(ValueError, match="no query has a candidate of a grade above 0"):
        score(task_with(Head.RANKING, "map"), [("a", 0.0), ("a", 0.0)], [0.0, 1.0], "en")


def test_words_are_counted_as_seqeval_counts_them() -> None:
    draw = random.Random(0)
    tags = ["B-X", "I-X", "O"]
    gold = [draw.choices(tags, k=draw.randint(1, 9)) for _ in range(30)]
    predicted = [[tag if draw.random() < 0.6 else draw.choice(tags) for tag in own] for own in gold]
    found = score(task_with(Head.TOKEN, labels=tuple(tags)), gold, predicted, "en")
    assert found == pytest.approx(
        {
            metric: 100 * getattr(seqeval.metrics, f"{metric}_score")(gold, predicted)
            for metric in ("f1", "precision", "recall", "accuracy")
        },
        rel=1e-12,
    )
    flat = list(zip(itertools.chain(*gold), itertools.chain(*predicted), strict=True))
    assert found["accuracy"] == pytest.approx(100 * sum(one == other for one, other in flat) / len(flat))


def test_choices_are_scored_by_number() -> None:
    examples = [Choices("why", ("a", "b", "c"), label, "en") for label in (0, 2, 1)]
    task = task_with(Head.CHOICE)
    assert gold_of(task, examples) == ["0", "2", "1"]
    assert score(task, gold_of(task, examples), ["0", "2", "2"], "en") == pytest.approx({"accuracy": 200 / 3})


def pooled(*metrics: str) -> Task:
    return task_with(Head.SEARCH, *(metrics or OF_POOLS), pool=True)


def test_pools_are_scored_as_by_hand() -> None:
    """Two targets found at ranks 1 and 3 of three; one that is not found; none predicted; one at rank 21."""
    gold = {"1": ["a", "b", "c"], "2": ["x"], "3": ["y"], "4": ["z"]}
    predicted = {
        "1": ["a", "q", "b"],
        "2": ["q", "r"],
        "4": [*(f"q{number}" for number in range(20)), "z"],
        "9": ["of another file"],
    }
    first = (1 / 1 + 2 / 3) / 3
    expected = {"map_at_20": 100 * first / 4, "map": 100 * (first + 1 / 21) / 4, "mrr_at_20": 100 * 1 / 4}
    assert score(pooled(), gold, predicted, "en") == pytest.approx(expected)


def test_at_20_the_divisor_is_the_number_of_targets_that_can_be_found() -> None:
    """LAReQA with 25 targets, all of the first 20 among them: as good as can be."""
    targets = [f"t{number}" for number in range(25)]
    assert score(pooled("map_at_20"), {"q": targets}, {"q": targets[:20]}, "en") == {"map_at_20": 100.0}
    assert score(pooled("map"), {"q": targets}, {"q": targets[:20]}, "en") == {"map": pytest.approx(80.0)}
    one_wrong = ["wrong", *targets[:19]]
    expected = sum(place / (place + 1) for place in range(1, 20)) / 20
    assert score(pooled("map_at_20"), {"q": targets}, {"q": one_wrong}, "en")["map_at_20"] == pytest.approx(
        100 * expected
    )


@pytest.mark.parametrize("seed", range(3))
def test_full_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    draw = random.Random(seed)
    ranked = [str(number) for number in draw.sample(range(200), k=200)]
    targets = draw.sample(ranked, k=7)
    expected = sklearn.metrics.average_precision_score([id in targets for id in ranked], range(200, 0, -1))
    assert average_precision(targets, ranked) == pytest.approx(expected, rel=1e-12)


# Of each head: labels, predictions, and examples that hide their labels.
NOTHING = LabelledText("a", None, None, "en")
CASES: dict[Head, tuple[Any, Any, Any]] = {
    Head.SEQUENCE: (["yes", "no"], ["no", "maybe"], [NOTHING]),
    Head.MULTILABEL: ([("no", "yes"), ()], [(), ("maybe",)], [NOTHING]),
    Head.REGRESSION: ([0.1, 4.0], [1 / 3, -2e-9], [NOTHING]),
    Head.CONTEXT_WORD: (["yes", "no"], ["no", "maybe"], [NOTHING]),
    Head.RANKING: ([("a", 1.0), ("a", 0.0)], [1 / 3, 7.0], [NOTHING]),
    Head.CHOICE: (["1", "0"], ["2", "0"], [Choices("a", ("b", "c"), None, "en")]),
    Head.SEARCH: ({"q": ["c"]}, {"q": ["c", "d"], "r": []}, PooledSet("en", ["q"], ["a"], ["c"], ["b"], [""], None)),
}


def of_head(head: Head) -> Task:
    return pooled() if head in RETRIEVAL else task_with(head)


@pytest.mark.parametrize("head", CASES)
def test_predictions_are_read_as_they_were_written(head: Head, tmp_path: Path) -> None:
    task, predicted = of_head(head), CASES[head][1]
    path = write_predictions(task, "de", predicted, tmp_path)
    assert path == tmp_path / "mine" / f"test-de{form_of(task).suffix}"
    assert read_predictions(task, "de", tmp_path) == predicted


@pytest.mark.parametrize("head", CASES)
def test_hidden_labels_are_recognised(head: Head) -> None:
    with pytest.raises(HiddenLabelsError):
        gold_of(of_head(head), CASES[head][2])


@pytest.mark.parametrize("head", CASES)
def test_label_files_are_read(head: Head, tmp_path: Path) -> None:
    task, gold = of_head(head), CASES[head][0]
    path = prediction_path(tmp_path, task, "de")
    path.parent.mkdir()
    if head is Head.RANKING:
        path.write_text("".join(f"{query}\tsome candidate\t{grade}\n" for query, grade in gold))
    else:
        form_of(task).write(path, gold)
    assert read_gold(task, "de", tmp_path) == gold


@pytest.mark.parametrize(
    ("head", "content", "message"),
    [
        (Head.MULTILABEL, "yes,no\nyes,perhaps\n", r"test-de\.tsv: line 2: unknown label 'perhaps'"),
        (Head.MULTILABEL, "yes,yes\n", r"test-de\.tsv: line 1: a label is given twice: yes, yes"),
        (Head.REGRESSION, "1.5\nnan\n", r"test-de\.tsv: line 2: expected a number, found 'nan'"),
        (Head.RANKING, "0.5\n\n", r"test-de\.tsv: line 2: expected a number, found ''"),
        (Head.CHOICE, '{"label": 0}\nb\n', r'test-de\.jsonl: line 2: expected {"label": NUMBER}, found'),
        (Head.SEARCH, "[1]", r"test-de\.json: expected one JSON object of query id: \[candidate ids\]"),
        (Head.SEARCH, '{"q": "c"}', r'test-de\.json: query q: expected a list of candidate ids, found "c"'),
        (Head.SEARCH, '{"q": ["c", "c"]}', r"test-de\.json: query q: a candidate is named twice"),
    ],
)
def test_bad_prediction_files_get_a_line(head: Head, content: str, message: str, tmp_path: Path) -> None:
    task = of_head(head)
    path = prediction_path(tmp_path, task, "de")
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_predictions(task, "de", tmp_path)


@pytest.mark.parametrize("head", [Head.MULTILABEL, Head.REGRESSION, Head.RANKING])
def test_text_without_labels_hides_them(head: Head, tmp_path: Path) -> None:
    task = task_with(head)
    path = prediction_path(tmp_path, task, "de")
    path.parent.mkdir()
    path.write_text("a sentence\tanother\nand a third\ta fourth\n")
    with pytest.raises(HiddenLabelsError):
        read_gold(task, "de", tmp_path)


def test_a_task_names_its_prediction_files(tmp_path: Path) -> None:
    task = task_with(Head.SEQUENCE, prediction_file="{task}/{language}.prediction")
    assert write_predictions(task, "de", ["yes"], tmp_path) == tmp_path / "mine" / "de.prediction"
    assert read_predictions(task, "de", tmp_path) == ["yes"]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ({"kind": "tsv", "text_a": "text", "label": "class"}, "class\ttext\nyes\tein Satz\nno\tnoch einer\n"),
        ({"kind": "tsv", "text_a": 1, "label": 0}, "yes\tein Satz\nno\tnoch einer\n"),
        ({"kind": "tsv", "text_a": 0, "label": 1}, "ein Satz\tyes\nnoch einer\tno\n"),
        ({"kind": "tsv", "text_a": 0, "label": 1}, "yes\nno\n"),  # a label file
    ],
)
def test_data_named_as_labels_are_read_as_data(form: dict[str, Any], content: str, tmp_path: Path) -> None:
    """Where the label is in the last column of plain lines, both are the same."""
    description = {"name": "mine", "head": "sequence", "languages": ["de"], "labels": list(LABELS), "format": form}
    task = task_of({**description, "files": {"test": "mine/test-{language}.tsv"}}, lambda _: "here")
    path = tmp_path / "mine" / "test-de.tsv"
    path.parent.mkdir()
    path.write_text(content)
    assert read_gold(task, "de", tmp_path) == ["yes", "no"]


def test_labels_that_are_no_class_are_ignored_in_training() -> None:
    examples = [LabelledText("a", None, label, "en") for label in ("yes", "-")]
    assert Classification(LABELS, 9).targets(examples).tolist() == [2, -100]
    assert MultiLabel(LABELS, 9).targets(examples).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_choices_are_objects_as_xtreme_r_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "test-et.jsonl"
    write_choices(path, ["0", "1"])
    assert path.read_text() == '{"label": 0}\n{"label": 1}\n'
    task = task_with(Head.CHOICE)
    assert read_choices(path, task) == ["0", "1"]
    assert prediction_path(tmp_path, task_named("xtreme-r/xcopa"), "et") == tmp_path / "xcopa/test-et.jsonl"
    for wrong in ("0", '{"label": "0"}', '{"label": -1}', "[", '{"label": true}'):
        path.write_text(f'{{"label": 0}}\n{wrong}\n')
        with pytest.raises(ValueError, match='line 2: expected {"label": NUMBER}, found'):
            read_choices(path, task)
