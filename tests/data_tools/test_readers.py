from pathlib import Path

import pytest

from data_tools.files import open_text
from data_tools.readers import read_pairs, read_sentences


def _file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_text(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.txt", "one\n two \n \t\n\nthree")
    assert list(read_sentences("text", open_text(path))) == ["one", " two ", "", "", "three"]


def test_jsonl(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"text": "one\\ntwo\\n\\n", "id": 3}\n\n{"text": "dr\\u00e9i"}\n{"text": ""}\n')
    assert list(read_sentences("jsonl", open_text(path))) == ["one", "two", "", "dréi", "", ""]


@pytest.mark.parametrize("line", ['{"text": "cut', '{"txt": "a"}', '["text"]', '{"text": 3}', '{"text": "\\ud83d"}'])
def test_broken_jsonl_names_the_line(tmp_path: Path, line: str) -> None:
    path = _file(tmp_path, "a.jsonl", f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl: line 2: .*text"):
        list(read_sentences("jsonl", open_text(path)))


def test_text_pairs(tmp_path: Path) -> None:
    source, target = _file(tmp_path, "p.de", "eins\n\ndrei\n"), _file(tmp_path, "p.en", "one\ntwo\nthree")
    pairs = list(read_pairs("text", [open_text(source), open_text(target)]))
    assert pairs == [("eins", "one"), ("", "two"), ("drei", "three")]


@pytest.mark.parametrize(("num_source", "num_target"), [(5, 3), (3, 5), (0, 1), (1, 0)])
def test_unequal_files_name_both_counts(tmp_path: Path, num_source: int, num_target: int) -> None:
    source, target = _file(tmp_path, "p.de", "a\n" * num_source), _file(tmp_path, "p.en", "b\n" * num_target)
    with pytest.raises(ValueError, match=rf"p\.de has {num_source} lines, .*p\.en has {num_target}: "):
        list(read_pairs("text", [open_text(source), open_text(target)]))


def test_tsv(tmp_path: Path) -> None:
    path = _file(tmp_path, "p.tsv", 'eins\tone\n"zwei\ttwo"\t0.7\tmore\n')
    assert list(read_pairs("tsv", [open_text(path)])) == [("eins", "one"), ('"zwei', 'two"')]
    broken = _file(tmp_path, "q.tsv", "eins\tone\nzwei two\n")
    with pytest.raises(ValueError, match=r"q\.tsv: line 2: expected two columns"):
        list(read_pairs("tsv", [open_text(broken)]))
