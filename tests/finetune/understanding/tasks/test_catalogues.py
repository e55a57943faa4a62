"""The catalogues against what their sources say, their published files, and the real files where there are some."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from published_files import PUBLISHED, Published

from finetune.understanding.readers.examples_of_task import read
from finetune.understanding.readers.pooled import read_pooled
from finetune.understanding.tasks.catalogues import (
    CATALOGUE_FILE,
    CATALOGUES,
    XTREME,
    catalogue_named,
    catalogue_names,
    task_named,
    task_names,
)
from finetune.understanding.tasks.examples import LabelledText
from finetune.understanding.tasks.task import Split

ACCURACY, F1 = ("accuracy",), ("f1",)
# Of each task, the number of languages, of classes, and what its score is the mean of. Sources: XTREME-R's and XGLUE's
# evaluation scripts, Gogoulou et al. (2021) for GLUE, the sets' own papers for the others.
FACTS: Mapping[str, tuple[int, int, tuple[str, ...]]] = {
    "xtreme-r/xnli": (15, 3, ACCURACY),
    "xtreme-r/xcopa": (11, 0, ACCURACY),
    "xtreme-r/udpos": (38, 17, F1),
    "xtreme-r/panx": (48, 7, F1),
    "xtreme-r/xquad": (12, 0, ("exact_match", "f1")),
    "xtreme-r/mlqa": (7, 0, ("exact_match", "f1")),
    "xtreme-r/tydiqa": (9, 0, ("exact_match", "f1")),
    "xtreme-r/tatoeba": (41, 0, ACCURACY),
    "xtreme-r/mewslix": (11, 0, ("mrr_at_20",)),
    "xtreme-r/lareqa": (11, 0, ("map_at_20",)),
    "xglue/ner": (4, 9, F1),
    "xglue/pos": (18, 17, ("precision",)),
    "xglue/nc": (5, 10, ACCURACY),
    "xglue/mlqa": (7, 0, F1),
    "xglue/xnli": (15, 3, ACCURACY),
    "xglue/pawsx": (4, 2, ACCURACY),
    "xglue/qadsm": (3, 2, ACCURACY),
    "xglue/wpr": (7, 0, ("ndcg",)),
    "xglue/qam": (3, 2, ACCURACY),
    "glue/cola": (1, 2, ("matthews",)),
    "glue/mnli": (1, 3, ACCURACY),
    "glue/mnli_mm": (1, 3, ACCURACY),
    "glue/mrpc": (1, 2, F1),
    "glue/qnli": (1, 2, ACCURACY),
    "glue/qqp": (1, 2, F1),
    "glue/rte": (1, 2, ACCURACY),
    "glue/sst2": (1, 2, ACCURACY),
    "glue/stsb": (1, 0, ("spearman",)),
    "qa/squad": (1, 0, F1),
    "qa/germanquad": (1, 0, F1),
    "qa/faquad": (1, 0, F1),
    "qa/viquad": (1, 0, F1),
    "qa/piaf": (1, 0, F1),
    "nli/assin": (2, 3, ACCURACY),
    "nli/assin2": (1, 2, ACCURACY),
    "nli/indonli": (1, 3, ACCURACY),
    "nli/indonli_expert": (1, 3, ACCURACY),
    "nli/farstail": (1, 3, ACCURACY),
    "nli/kornli": (1, 3, ACCURACY),
    "nli/sick": (1, 3, ACCURACY),
    "nli/rte": (1, 2, ACCURACY),
    "sts/stsb": (1, 0, ("pearson",)),
    "sts/stsb_sv": (1, 0, ("pearson",)),
    "sts/korsts": (1, 0, ("spearman",)),
    "sts/sick_r": (1, 0, ("pearson",)),
    "sts/assin_similarity": (2, 0, ("pearson",)),
    "sts/assin2_similarity": (1, 0, ("pearson",)),
    "wic/wic": (1, 2, ACCURACY),
    "wic/mcl_wic": (9, 2, ACCURACY),
    "topics/sib200": (205, 7, ACCURACY),
    "sentiment/sentence_polarity": (1, 2, ACCURACY),
    "sentiment/movie_reviews": (1, 2, ACCURACY),
    "sentiment/sst2": (1, 2, ACCURACY),
    "sentiment/xed": (40, 8, ("macro_f1",)),
    "sentiment/scandisent": (5, 2, ACCURACY),
    "intents/intents": (15, 16, ACCURACY),
    "intents/slots": (15, 71, F1),
    "intents/intents_from_valid": (15, 16, ACCURACY),
    "intents/slots_from_valid": (15, 71, F1),
}
OTHER_NAMES = [name for name in task_names() if not name.startswith(f"{XTREME}/")]
OWN_NAMES = [f"{file.parent.name}/{file.stem}" for file in CATALOGUES.glob("*/*.yaml") if file.name != CATALOGUE_FILE]


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_tasks_are_as_their_sources_say(name: str) -> None:
    task = task_named(name)
    assert (len(task.languages), len(task.labels), task.main_metrics) == FACTS[name]


def test_every_task_of_the_catalogues_has_facts_and_every_file_a_catalogue() -> None:
    assert set(FACTS) == set(OTHER_NAMES)
    listed = {id(task) for name in catalogue_names() for task in catalogue_named(name).tasks.values()}
    assert [name for name in OWN_NAMES if id(task_named(name)) not in listed] == []


@pytest.mark.parametrize("name", OWN_NAMES)
def test_every_task_has_its_source_and_its_name(name: str) -> None:
    task = task_named(name)
    assert task.source
    assert task.name == name.rpartition("/")[2]
    assert catalogue_named(name.partition("/")[0]).source


@pytest.mark.parametrize("name", catalogue_names())
def test_titles_within_a_catalogue_differ(name: str) -> None:
    titles = [task.title for task in catalogue_named(name).tasks.values()]
    assert len(set(titles)) == len(titles)


def test_a_shared_task_is_the_same_task() -> None:
    assert task_named("xtreme-r/xnli") is task_named("xtreme/xnli")
    assert task_named("nli/rte") is task_named("glue/rte")


def test_xtreme_r_adds_languages_to_those_of_xtreme() -> None:
    """Ruder et al. (2021), table 1: 50 languages in all."""
    added = {
        "udpos": "lt,pl,uk,wo,ro", "panx": "qu,pl,uk,az,lt,pa,gu,ro", "xquad": "ro", "tatoeba": "az,lt,pl,uk,ro",
    }  # fmt: skip
    for name, languages in added.items():
        both = (*task_named(f"xtreme/{name}").languages, *languages.split(","))
        assert sorted(task_named(f"xtreme-r/{name}").languages) == sorted(both)


def test_only_glue_is_scored_on_what_it_is_validated_on() -> None:
    """Its test labels are hidden. No other task reads a test file before the test, but for files without a split."""
    for name in OTHER_NAMES:
        files = {split: {place.path for place in places} for split, places in task_named(name).files.items()}
        test, train = files[Split.TEST], files.get(Split.TRAIN, set())
        if name != "sentiment/xed":  # whose languages have a file each, of which English is train
            assert not train & test, name
        has_same_dev = bool(files.get(Split.DEV, set()) & test)
        assert has_same_dev == (name.startswith("glue/") or name in ("nli/rte", "sentiment/xed")) or name.endswith(
            "/sst2"
        )


def test_xglue_predictions_are_named_as_its_script_reads_them() -> None:
    names = [task.prediction_file for task in catalogue_named("xglue").tasks.values()]
    assert names == [
        f"{task}/{{language}}.prediction"
        for task in ("NER", "POS", "NC", "MLQA", "XNLI", "PAWSX", "QADSM", "WPR", "QAM")
    ]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_form_is_read(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]
    write(published, tmp_path)
    task = replace(task_named(name.partition(" ")[0]), dev_from_train=False)  # all that is in the files
    for split, language in published.files:
        first = next(iter(read(task, Split(split), language, tmp_path)))
        assert first == replace(published.first, language=language), (split, language)


def test_every_task_with_examples_has_its_published_form() -> None:
    with_form = {name.partition(" ")[0] for name in PUBLISHED}
    retrieval = {name for name in OWN_NAMES if task_named(name).is_retrieval}
    assert {name for name in OWN_NAMES if not name.startswith(f"{XTREME}/")} - retrieval == with_form


def write(published: Published, root: Path) -> None:
    """Write the files below a root, and those of their labels."""
    part, other_part = published.label_names
    for name in published.files.values():
        contents = {name: published.content}
        if part:
            contents[name.replace(part, other_part)] = published.label_content
        for path, content in contents.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content, encoding="utf-8")


# Rows of the real files, as the description beside them counts them: task, root, language, train, dev, test.
REAL: Sequence[tuple[str, str, str, int, int, int]] = (
    ("glue/cola", "xlt", "en", 7_250, 1_301, 1_043),
    ("glue/rte", "xlt", "en", 2_127, 363, 277),
    ("glue/sst2", "xlt", "en", 25_000, 6_735, 872),
    ("glue/mrpc", "tasks", "en", 4_076, 1_725, 1_725),
    ("glue/stsb", "tasks", "en", 5_749, 1_500, 1_500),
    ("sts/stsb", "tasks", "en", 5_749, 1_500, 1_379),
    ("sts/stsb_sv", "tasks", "sv", 5_749, 1_500, 1_379),
    ("sts/korsts", "xlt", "ko", 5_749, 1_500, 1_379),
    ("sts/sick_r", "xlt", "en", 4_500, 500, 4_927),
    ("sts/assin_similarity", "xlt", "pt_BR", 2_500, 500, 2_000),
    ("sts/assin2_similarity", "xlt", "pt", 6_500, 500, 2_448),
    ("nli/assin", "xlt", "pt_PT", 2_500, 500, 2_000),
    ("nli/assin2", "xlt", "pt", 6_500, 500, 2_448),
    ("nli/indonli", "xlt", "id", 10_330, 2_197, 2_201),
    ("nli/indonli_expert", "xlt", "id", 0, 0, 2_984),
    ("nli/farstail", "xlt", "fa", 7_266, 1_537, 1_564),
    ("nli/kornli", "xlt", "ko", 0, 2_490, 0),
    ("nli/sick", "xlt", "en", 4_500, 500, 4_927),
    ("qa/faquad", "xlt", "pt", 837, 0, 63),
    ("qa/piaf", "xlt", "fr", 3_086, 0, 749),
    ("wic/mcl_wic", "tasks", "en", 8_000, 1_000, 1_000),
    ("wic/mcl_wic", "tasks", "zh", 0, 1_000, 1_000),
    ("wic/mcl_wic", "tasks", "en-ru", 0, 0, 1_000),
    ("topics/sib200", "tasks", "en", 701, 99, 204),
    ("topics/sib200", "tasks/sib200", "my", 701, 99, 204),
    ("sentiment/sentence_polarity", "tasks/sentiment", "en", 8_440, 1_150, 1_072),
    ("sentiment/movie_reviews", "tasks/sentiment", "en", 1_600, 200, 200),
    ("sentiment/xed", "tasks/sentiment", "en", 17_528, 0, 17_528),
    ("sentiment/xed", "tasks/sentiment", "ar", 0, 0, 3_591),
    ("intents/intents", "intent", "de-st", 0, 300, 500),
    ("intents/intents_from_valid", "intent/xsid", "en", 300, 0, 500),
    ("intents/slots", "intent", "ja", 0, 150, 250),
    ("intents/slots_from_valid", "intent", "en", 300, 0, 500),
    ("xtreme-r/xcopa", "tasks", "ht", 0, 100, 500),
)


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="needs the corpora")
def test_the_pool_of_lareqa_is_read_whole() -> None:
    task = task_named("xtreme-r/lareqa")
    read_sets = read_pooled(task, Split.TEST, task.languages, Path(os.environ["VECO_CORPORA"]) / "tasks")
    sentences = 1_222 + 1_276 + 1_234 + 1_180 + 1_215 + 1_244 + 1_219 + 852 + 1_167 + 1_209 + 1_196
    assert {(len(one.queries), len(one.candidates)) for one in read_sets.values()} == {(1_190, sentences)}


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="needs the corpora")
@pytest.mark.parametrize(("name", "root", "language", "train", "dev", "test"), REAL)
def test_real_files_are_read_whole(name: str, root: str, language: str, train: int, dev: int, test: int) -> None:
    task = replace(task_named(name), dev_from_train=False)
    expected = {Split.TRAIN: train, Split.DEV: dev, Split.TEST: test}
    data = Path(os.environ["VECO_CORPORA"]) / root
    found = {split: sum(1 for _ in read(task, split, language, data)) for split, rows in expected.items() if rows}
    assert found == {split: rows for split, rows in expected.items() if rows}


HUB_LABELS = {
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qnli": ["entailment", "not_entailment"],
    "qqp": ["not_duplicate", "duplicate"],
    "rte": ["entailment", "not_entailment"],
    "sst2": ["negative", "positive"],
}
HUB_TEXTS = {
    "cola": ("sentence",), "mnli": ("premise", "hypothesis"), "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"), "qqp": ("question1", "question2"), "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",), "stsb": ("sentence1", "sentence2"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config", "split", "label"),
    [
        ("cola", "cola", "train", "1"),
        ("mnli", "mnli", "validation_matched", "neutral"),
        ("mnli_mm", "mnli", "validation_mismatched", "neutral"),
        ("mrpc", "mrpc", "validation", "1"),
        ("qnli", "qnli", "train", "not_entailment"),
        ("qqp", "qqp", "train", "1"),
        ("rte", "rte", "validation", "not_entailment"),
        ("sst2", "sst2", "validation", "1"),
        ("stsb", "stsb", "validation", 1.0),
    ],
)
def test_glue_is_read_in_the_form_of_the_hub(
    name: str, config: str, split: str, label: str | float, tmp_path: Path
) -> None:
    """Columns and names of classes as `nyu-mll/glue` has them, whose rows have the number of a class."""
    label_feature = ClassLabel(names=HUB_LABELS[config]) if config in HUB_LABELS else Value("float32")
    features = Features({**{text: Value("string") for text in HUB_TEXTS[config]}, "label": label_feature})
    row = {**{text: text for text in HUB_TEXTS[config]}, "label": 1}
    (tmp_path / config).mkdir()
    Dataset.from_list([row], features=features).to_parquet(str(tmp_path / config / f"{split}-00000-of-00001.parquet"))
    (example,) = read(task_named(f"glue/{name}"), Split.TRAIN if split == "train" else Split.TEST, "en", tmp_path)
    assert isinstance(example, LabelledText)
    assert (example.texts, example.label) == (HUB_TEXTS[config], label)
