"""The command on files: gold gives 100, all nine give an overall score, and what is missing is named."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launching import run_module

from finetune.understanding.comparison.report import markdown
from finetune.understanding.evaluate import evaluate, main, write_zip
from finetune.understanding.metrics.gold import read_gold
from finetune.understanding.metrics.prediction_files import prediction_path, write_predictions
from finetune.understanding.metrics.scoring import FORMS
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named, task_named
from finetune.understanding.tasks.task import Head, Task

CATALOGUE = catalogue_named(XTREME)
TASKS = CATALOGUE.tasks

CORRUPTED: dict[Head, Callable[[Any, Task, random.Random], Any]] = {
    Head.SEQUENCE: lambda gold, task, draw: [draw.choice(task.labels) for _ in gold],
    Head.TOKEN: lambda gold, task, draw: [[draw.choice(task.labels) for _ in tags] for tags in gold],
    Head.SPAN: lambda gold, task, draw: {id: draw.choice([answers[0], "x"]) for id, answers in gold.items()},
    Head.MINING: lambda gold, task, draw: {pair for pair in gold if draw.random() < 0.5} | {("de-0", "en-0")},
    Head.SEARCH: lambda gold, task, draw: [str(draw.randrange(len(gold))) for _ in gold],
}


def gold_of_random(task: Task, draw: random.Random) -> Any:
    """Labels of six examples."""
    if task.head is Head.SEQUENCE:
        return draw.choices(task.labels, k=6)
    if task.head is Head.TOKEN:
        return [draw.choices(task.labels, k=4) for _ in range(6)]
    if task.head is Head.SPAN:
        return {f"q{i}": [draw.choice(["ja", "nein", "vielleicht so"])] for i in range(6)}
    if task.head is Head.MINING:
        return {(f"de-{i}", f"en-{i}") for i in range(1, 7)}
    return [str(row) for row in draw.sample(range(6), 6)]


def write_squad(path: Path, gold: dict[str, list[str]]) -> None:
    qas = [{"id": id, "question": "?", "answers": [{"text": text} for text in texts]} for id, texts in gold.items()]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": qas}]}]}), encoding="utf-8")


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels/ and gold/ and random/ predictions of all nine tasks in all their languages."""
    root, draw = tmp_path_factory.mktemp("nine"), random.Random(0)
    for task in TASKS.values():
        for language in task.languages:
            gold = gold_of_random(task, draw)
            best = {id: texts[0] for id, texts in gold.items()} if task.head is Head.SPAN else gold
            written = {"gold": best, "random": CORRUPTED[task.head](gold, task, draw), "labels": gold}
            for part, content in written.items():
                path = prediction_path(root / part, task, language)
                path.parent.mkdir(parents=True, exist_ok=True)
                if part == "labels" and task.head is Head.SPAN:
                    write_squad(path, content)
                else:
                    FORMS[task.head].write(path, content)
    return root


def test_gold_scored_as_prediction_gives_100(nine: Path) -> None:
    evaluation = evaluate(nine / "gold", nine / "labels", CATALOGUE)
    assert evaluation.overall == 100
    for by_language in evaluation.as_json().values():
        if isinstance(by_language, dict):
            assert {value for metrics in by_language.values() for value in metrics.values()} == {100}


def test_languages_whose_labels_are_hidden_are_skipped_and_reported(nine: Path, tmp_path: Path) -> None:
    """XTREME's own tests: sentences alone, words alone, questions with empty answers."""
    labels = tmp_path / "labels"
    shutil.copytree(nine / "labels", labels)
    hidden = {"xnli": "a\tb\n", "pawsx": 'a\t"b"\n', "udpos": "Das\nHaus\n\nX\n", "panx": "Das\nHaus\n\n"}
    answers = [{"answer_start": 0, "text": ""}]
    paragraph = {"context": "c", "qas": [{"id": "1", "question": "?", "answers": answers}]}
    hidden |= dict.fromkeys(("xquad", "mlqa"), json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    for task, text in hidden.items():
        prediction_path(labels, TASKS[task], "de").write_text(text)
    evaluation = evaluate(nine / "gold", labels, CATALOGUE)
    assert evaluation.overall is None
    for task in hidden:
        assert evaluation.unlabelled[task] == ["de"] and "de" not in evaluation.scores[task]
        assert any(note.startswith(f"{task} in de: this copy hides the labels") for note in evaluation.notes)
    bad = (("fr", "yes\n", "line 1: unknown label 'yes'"), ("sw", "1\tneutral\n2\tyes\n", "line 2: unknown label"))
    for language, text, place in bad:
        path = prediction_path(labels, TASKS["xnli"], language)
        before = path.read_text()
        path.write_text(text)
        with pytest.raises(ValueError, match=f"test-{language}.tsv: {place}"):
            evaluate(nine / "gold", labels, CATALOGUE)
        path.write_text(before)
    prediction_path(labels, TASKS["xnli"], "sw").write_text("1\tneutral\n2\tentailment\n")
    assert read_gold(TASKS["xnli"], "sw", labels) == ["neutral", "entailment"]


def test_hidden_labels_of_sentence_pairs_are_reported(xtreme_data: Path, tmp_path: Path) -> None:
    """XTREME's script sorts the English side of Tatoeba, and leaves the gold pairs of BUCC's test away."""
    data, predictions = tmp_path / "data", tmp_path / "predictions"
    shutil.copytree(xtreme_data, data)
    tatoeba = data / "tatoeba"
    for side, finnish in (("de", "fi"), ("en", "en")):
        shutil.copyfile(tatoeba / f"tatoeba.de-en.{side}", tatoeba / f"tatoeba.fi-en.{finnish}")
        (tatoeba / f"tatoeba.de-en.{side}").rename(tatoeba / f"de-en.{side}")
    write_predictions(TASKS["tatoeba"], "fi", read_gold(TASKS["tatoeba"], "fi", data), predictions)
    evaluation = evaluate(predictions, data, CATALOGUE)
    assert set(evaluation.scores["tatoeba"]) == {"fi", "avg"} and "de" in evaluation.unlabelled["tatoeba"]
    (note,) = evaluation.notes
    assert note.startswith("tatoeba in de: this copy hides the labels (") and "sorts the English side" in note
    (data / "bucc2018" / "de-en.test.gold").unlink()
    write_predictions(TASKS["bucc2018"], "de", {("de-1", "en-1")}, predictions)
    with pytest.raises(
        ValueError, match="no test labels of bucc2018, whose .*; they are hidden: the gold pairs in 'de'"
    ):
        evaluate(predictions, data, CATALOGUE)


def test_the_json_has_the_promised_form_and_arithmetic(nine: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("scores.json", "table.md", "map.png", "submission.zip")]
    flags = zip(("--json", "--markdown", "--plot", "--zip"), files, strict=True)
    arguments = [str(item) for pair in flags for item in pair]
    result = run_module(
        "finetune.understanding.evaluate",
        "--predictions",
        str(nine / "random"),
        "--labels",
        str(nine / "labels"),
        *arguments,
    )
    assert result.returncode == 0, result.stderr
    scores = json.loads(files[0].read_text(encoding="utf-8"))
    assert list(scores) == [*TASKS, "overall"]
    task_scores = []
    for name, task in TASKS.items():
        assert set(scores[name]) == {*task.languages, "avg"}
        for metric in task.metrics:
            mean = sum(scores[name][language][metric] for language in task.languages) / len(task.languages)
            assert scores[name]["avg"][metric] == pytest.approx(mean, rel=1e-12)
        averages = scores[name]["avg"]
        if name in ("xquad", "mlqa", "tydiqa"):
            task_scores.append((averages["exact_match"] + averages["f1"]) / 2)
        else:
            task_scores.append(averages["accuracy" if name in ("xnli", "pawsx", "tatoeba") else "f1"])
    assert scores["overall"] == pytest.approx(sum(task_scores) / 9, rel=1e-12)
    assert f"{scores['overall']:.2f}" in result.stdout
    table = files[1].read_text(encoding="utf-8")
    assert (
        "| translate-train-all: VECO, plug-in, published | 84.3 | 92.8 | 79.8 | 71.0 | 83.9/70.9 | 77.5/59.3 |" in table
    )
    assert f"| {scores['overall']:.1f} |" in table
    assert files[2].read_bytes().startswith(b"\x89PNG")
    with zipfile.ZipFile(files[3]) as archive:
        names = {
            f"{task.name}/test-{language}{'.json' if task.name in ('xquad', 'mlqa', 'tydiqa') else '.tsv'}"
            for task in TASKS.values()
            for language in task.languages
        }
        assert set(archive.namelist()) == names
        assert archive.read("xnli/test-sw.tsv") == (nine / "random" / "xnli" / "test-sw.tsv").read_bytes()


def test_questions_with_one_metric_are_shown_by_it() -> None:
    task = replace(TASKS["xquad"], metrics=("f1",), main_metrics=("f1",))
    catalogue = replace(CATALOGUE, name="mine", tasks={"xquad": task})
    table = markdown({"xquad": {"de": {"f1": 51.26}, "avg": {"f1": 51.26}}}, None, catalogue)
    assert table.endswith("| XQuAD | de | avg |\n| --- | --- | --- |\n| f1 | 51.3 | 51.3 |\n")


def test_fewer_tasks_or_languages_have_no_overall_score(nine: Path, tmp_path: Path) -> None:
    for part in ("gold", "labels"):
        (tmp_path / part).mkdir()
        for name in TASKS:
            (tmp_path / part / name).symlink_to(nine / part / name)
    (tmp_path / "gold" / "panx").unlink()
    evaluation = evaluate(tmp_path / "gold", tmp_path / "labels", CATALOGUE)
    assert evaluation.overall is None
    assert "| – |" in markdown(evaluation.scores, evaluation.overall, CATALOGUE)
    # A language without labels is left out, and told.
    labels = tmp_path / "few" / "tydiqa"
    labels.mkdir(parents=True)
    for language in ("fi", "en"):
        (labels / f"test-{language}.json").symlink_to(nine / "labels" / "tydiqa" / f"test-{language}.json")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "tydiqa").symlink_to(nine / "gold" / "tydiqa")
    few = evaluate(tmp_path / "one", tmp_path / "few", CATALOGUE)
    assert set(few.scores["tydiqa"]) == {"en", "fi", "avg"}
    assert few.unlabelled["tydiqa"] == ["ar", "bn", "id", "ko", "ru", "sw", "te"]


def test_the_data_directory_serves_as_labels(xtreme_data: Path, tmp_path: Path) -> None:
    """Of XTREME's layout: labels in the last column, questions under their own names, gold pairs, rows of Tatoeba."""
    for task in TASKS.values():
        language = "fi" if task.name == "tydiqa" else "de"
        languages = [language] if task.is_retrieval else ["en", language]
        for language in languages:
            gold = read_gold(task, language, xtreme_data)
            best = {id: texts[0] for id, texts in gold.items()} if task.head is Head.SPAN else gold
            write_predictions(task, language, best, tmp_path)
    evaluation = evaluate(tmp_path, str(xtreme_data), CATALOGUE)
    assert {scores["avg"][metric] for name, scores in evaluation.scores.items() for metric in TASKS[name].metrics} == {
        100
    }
    assert set(evaluation.scores) == set(TASKS)
    assert evaluation.overall is None


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("{kind: tsv, text_a: 0, text_b: 1, label: 2, more_columns: true}", "text\thypothesis\tyes\t3.8\n"),
        ("{kind: tsv, text_a: 1, label: 2}", "id\ttext\tyes\t3.8\n"),  # what is not named may be there
        ("{kind: tsv, text_a: 0, label: 1}", "text\tyes\n"),
    ],
)
def test_labels_of_data_are_in_the_column_that_the_form_names(form: str, row: str, tmp_path: Path) -> None:
    """Also if the data has the path of label files, whose labels are in the last column."""
    (tmp_path / "mine.yaml").write_text(
        f"head: sequence\nlanguages: [pt]\nfiles: {{test: 'mine/test-{{language}}.tsv'}}\nformat: {form}\n"
        "labels: ['no', 'yes']\nmetrics: [accuracy]\n"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/test-pt.tsv").write_text(row)
    assert read_gold(task_named(str(tmp_path / "mine.yaml")), "pt", tmp_path) == ["yes"]


@pytest.mark.parametrize(
    ("head", "form", "more", "content", "expected"),
    [
        ("sequence", "kind: tsv, text_a: 0, label: 1", "", "some text\tsport\nother\tmusic\n", ["sport", "music"]),
        (
            "multilabel",
            "kind: tsv, text_a: 0, label: 1, separator: ';'",
            "labels: [a, b]",
            "x\ta;b\ny\tb\nz\t\n",
            [("a", "b"), ("b",), ()],
        ),
        ("token", "kind: conll, word: 0, tag: 1", "", "a N\nb V\n\nc N\n", [("N", "V"), ("N",)]),
        ("token", "kind: conll, word: 0, tag: 1", "", "-DOCSTART-\tO\n\na\tN\n", [("N",)]),
        (
            "ranking",
            "kind: tsv, text_b: 0, text_a: 1, label: 2",
            "",
            "page\tquery\t1\nother\tquery\t0\n",
            [("query", 1.0), ("query", 0.0)],
        ),
    ],
)
def test_data_in_a_directory_of_the_tasks_name_are_read_as_data(
    head: str, form: str, more: str, content: str, expected: list[Any], tmp_path: Path
) -> None:
    """Though label files have that name, too."""
    (tmp_path / "mine.yaml").write_text(
        f"head: {head}\nlanguages: [pt]\nfiles: {{test: 'mine/test-{{language}}.tsv'}}\nformat: {{{form}}}\n{more}\n"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/test-pt.tsv").write_text(content)
    assert list(read_gold(task_named(str(tmp_path / "mine.yaml")), "pt", tmp_path)) == expected


def change(directory: Path, name: str, content: str | None) -> None:
    """A file of other content, or none, in a copy of predictions that links to them."""
    path = directory / name
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")


BAD: list[tuple[str, str | None, str]] = [
    ("xnli/test-sw.tsv", None, r"xnli has no predictions for sw; expected .*xnli/test-sw.tsv"),
    ("xnli/test-sw.tsv", "", r"xnli/test-sw.tsv: empty"),
    ("xnli/test-sw.tsv", "neutral\n", r"xnli/test-sw.tsv: 1 predicted rows but 6 labels"),
    ("xnli/test-sw.tsv", "neutral\n\n", r"xnli/test-sw.tsv: line 2: unknown label ''; xnli has contradiction"),
    ("pawsx/test-de.tsv", "2\n", r"pawsx/test-de.tsv: line 1: unknown label '2'; pawsx has 0, 1"),
    ("panx/test-yo.tsv", "O\nO\nO\nO\n\n", r"panx/test-yo.tsv: 1 predicted sentences but 6"),
    ("panx/test-yo.tsv", "\n", r"panx/test-yo.tsv: empty"),
    ("xquad/test-th.json", "[]", r"xquad/test-th.json: expected one JSON object"),
    ("xquad/test-th.json", '{"q1": 3}', r"xquad/test-th.json: expected one JSON object"),
    ("xquad/test-th.json", "", r"xquad/test-th.json: empty"),
    ("xquad/test-th.json", "{}", r"xquad/test-th.json: empty"),
    ("bucc2018/test-zh.tsv", "zh-1 en-1\n", r"bucc2018/test-zh.tsv: line 1: expected `source id TAB target id`"),
    ("tatoeba/test-af.tsv", "-1\n", r"tatoeba/test-af.tsv: line 1: expected the number of a row from 0"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_predictions_are_reported_in_one_line(
    nine: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    task = name.partition("/")[0]
    (tmp_path / task).mkdir()
    for file in (nine / "gold" / task).iterdir():
        (tmp_path / task / file.name).symlink_to(file)
    change(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(tmp_path, nine / "labels", CATALOGUE)
    assert "\n" not in str(caught.value)


def test_nothing_to_score(nine: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such directory"):
        evaluate(tmp_path / "x", nine / "labels", CATALOGUE)
    with pytest.raises(ValueError, match="has no directory of a task; expected xnli, pawsx"):
        evaluate(tmp_path, nine / "labels", CATALOGUE)
    with pytest.raises(ValueError, match="has no test labels of xnli"):
        evaluate(nine / "gold", tmp_path, CATALOGUE)


def test_an_incomplete_submission_is_refused(nine: Path, tmp_path: Path) -> None:
    (tmp_path / "xnli").symlink_to(nine / "gold" / "xnli")
    with pytest.raises(ValueError, match=r"147 files are missing: pawsx/test-de.tsv, .*, …"):
        write_zip(tmp_path, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_packing_needs_no_labels(nine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the leaderboard are hidden. The same predictions make the same bytes."""
    packed = []
    for name in ("a.zip", "b.zip"):
        command = ["evaluate", "--predictions", str(nine / "gold"), "--zip", str(tmp_path / name)]
        monkeypatch.setattr("sys.argv", command)
        main()
        packed.append((tmp_path / name).read_bytes())
    assert packed[0] == packed[1]
    monkeypatch.setattr("sys.argv", ["evaluate", "--predictions", str(nine / "gold")])
    with pytest.raises(ValueError, match="--labels is missing"):
        main()


def test_no_input_is_replaced_by_scores(nine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(nine, tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command = ["evaluate", "--predictions", str(tmp_path / "gold"), "--labels", str(tmp_path / "labels")]
    outputs = dict.fromkeys(("--json", "--markdown", "--plot", "--zip"), "gold/xquad/test-de.json")
    for flag, name in [*outputs.items(), ("--json", "labels/xnli/test-de.tsv"), ("--json", "no/scores.json")]:
        monkeypatch.setattr("sys.argv", [*command, flag, str(tmp_path / name)])
        with pytest.raises(ValueError, match=r"is the input|there is no directory"):
            main()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_task_file_is_never_written_to(nine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.yaml").write_text(
            "name: xnli\nhead: sequence\nlanguages: [de]\nfiles: {test: x}\nformat: {kind: tsv, text_a: 0}\n"
        )
    files = [str(tmp_path / name / "task.yaml") for name in ("a", "b")]
    shared = ["evaluate", "--predictions", str(nine / "gold"), "--labels", str(nine / "labels"), "--task"]
    monkeypatch.setattr("sys.argv", [*shared, files[0], "--markdown", files[0]])
    with pytest.raises(ValueError, match="--markdown .*task.yaml"):
        main()
    monkeypatch.setattr("sys.argv", [*shared, *files])
    with pytest.raises(ValueError, match="two tasks have the name xnli"):
        main()


def test_what_counts_nothing_is_reported(nine: Path, tmp_path: Path) -> None:
    (tmp_path / "tydiqa").mkdir()
    (tmp_path / "tydiqaa").mkdir()
    for file in (nine / "gold" / "tydiqa").iterdir():
        (tmp_path / "tydiqa" / file.name).symlink_to(file)
    change(tmp_path, "tydiqa/test-te.json", json.dumps({"q0": "x", "other": "y"}))
    (tmp_path / "tydiqa" / "test-de.json").write_text("{}")
    unknown, of_german, unanswered, to_none = evaluate(tmp_path, nine / "labels", CATALOGUE).notes
    assert unknown.endswith("tydiqaa: not the name of a task")
    assert of_german.endswith("test-de.json: not of a language of tydiqa; not scored")
    assert unanswered.endswith("test-te.json: 5 of 6 questions have no prediction and count 0")
    assert to_none.endswith("test-te.json: 1 answers are to unknown questions, such as other, and count nothing")


def test_languages_that_are_not_asked_for_need_no_predictions(nine: Path, tmp_path: Path) -> None:
    (tmp_path / "xnli").mkdir()
    for language in ("de", "sw"):
        (tmp_path / "xnli" / f"test-{language}.tsv").symlink_to(nine / "random" / "xnli" / f"test-{language}.tsv")
    found = evaluate(tmp_path, nine / "labels", CATALOGUE, ["de", "sw"])
    every = evaluate(nine / "random", nine / "labels", CATALOGUE).scores["xnli"]
    accuracies = [every[language]["accuracy"] for language in ("de", "sw")]
    assert found.scores["xnli"]["avg"]["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert found.overall is None and len(found.unlabelled["xnli"]) == 13
    with pytest.raises(ValueError, match="none of the tasks found has a test set in ja"):
        evaluate(tmp_path, nine / "labels", CATALOGUE, ["ja"])
    # Of a whole directory, tasks without these languages are told and left out.
    found = evaluate(nine / "random", nine / "labels", CATALOGUE, ["de", "fr"])
    assert set(found.scores) == set(TASKS) - {"tydiqa"}
    assert found.notes == ["tydiqa: has none of de, fr; not scored"]


@pytest.mark.parametrize("name", ["xquad/xquad.de.json", "xquad/test-de.json"])
def test_questions_without_answers_are_named_with_their_file(name: str, xtreme_data: Path, tmp_path: Path) -> None:
    """In the data and among labels, where a file of SQuAD 2 may come to lie."""
    content = json.loads((xtreme_data / "xquad/xquad.de.json").read_text(encoding="utf-8"))
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = []
    (tmp_path / "labels/xquad").mkdir(parents=True)
    (tmp_path / "labels" / name).write_text(json.dumps(content))
    (tmp_path / "predictions/xquad").mkdir(parents=True)
    (tmp_path / "predictions/xquad/test-de.json").write_text('{"q-0": "x"}')
    with pytest.raises(
        ValueError, match=r"labels.*de.*: 1 of 12 questions have no accepted answer, such as q-0; expected"
    ):
        evaluate(tmp_path / "predictions", tmp_path / "labels", CATALOGUE)


def test_a_language_that_no_task_has_is_refused(nine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["evaluate", "--predictions", str(nine / "gold"), "--labels", str(nine / "labels")]
    monkeypatch.setattr("sys.argv", [*command, "--languages", "de, xx"])
    with pytest.raises(ValueError, match="--languages xx: no task of XTREME has a test in it"):
        main()
