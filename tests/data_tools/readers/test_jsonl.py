from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.readers.source import MAX_DOCUMENT_CHARACTERS

Read = Callable[..., Any]
TEXT = ("text",)


def _file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_texts_are_documents(tmp_path: Path, read_documents: Read) -> None:
    path = _file(
        tmp_path,
        '\ufeff{"text": "one\\r\\n\\n two \\n\\t\\n", "id": 3}',
        "",
        '{"text": "dr\\u00e9i \\ud83d\\ude00"}',
        '{"text": ""}',
        '{"text": " \\n"}',
        '{"id": 5, "text": null}',
    )
    assert read_documents("jsonl", path, columns=TEXT) == ([["one", " two "], ["dréi 😀"]], {"empty": 3})


def test_long_texts_are_cut_between_lines(tmp_path: Path, read_documents: Read) -> None:
    line = "x" * (MAX_DOCUMENT_CHARACTERS // 2)
    path = _file(tmp_path, '{"text": "' + "\\n".join([line] * 3) + '"}')
    assert read_documents("jsonl", path, columns=TEXT) == ([[line, line], [line]], {})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', "expected a JSON object .*Unterminated string"),
        ('["text"]', "expected a JSON object, found a list"),
        ("null", "expected an object with 'text', found null"),
        ('{"txt": "a", "id": 1}', "no 'text' in the object; it has txt, id"),
        ('{"text": 3}', "'text' is int, expected a string"),
        ('{"text": "\\ud83d"}', "'text' holds half of a surrogate pair"),
        ('{"text": ' + "1" * 5_000 + "}", "expected a JSON object .*digits"),
        ("[" * 100_000, "expected a JSON object .*recursion"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, read_documents: Read, line: str, message: str) -> None:
    path = _file(tmp_path, '{"text": "fine"}', line)
    with pytest.raises(ValueError, match=rf"a\.jsonl: line 2: {message}"):
        read_documents("jsonl", path, columns=TEXT)


def test_pairs_in_two_columns_are_read(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, '{"s": "eins", "t": "one"}', '{"s": "", "t": "two"}', '{"t": null, "s": "drei"}')
    assert read_pairs("jsonl", path, columns=("s", "t")) == ([("eins", "one"), ("", "two")], {"missing_side": 1})


def test_pairs_in_one_column_are_read(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(
        tmp_path,
        '{"translation": {"en": "one", "de": "eins", "fr": "un"}}',
        '{"translation": {"en": "two", "de": null}}',
    )
    assert read_pairs("jsonl", path, columns=("translation",)) == ([("eins", "one")], {"missing_side": 1})


def test_a_null_side_counts_as_missing(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, '{"translation": null}', '{"translation": {"en": "one", "de": "eins"}}')
    assert read_pairs("jsonl", path, columns=("translation",)) == ([("eins", "one")], {"missing_side": 1})


def test_languages_may_have_other_codes_in_the_file(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, '{"translation": {"eng_Latn": "one", "deu_Latn": "eins"}}')
    found = read_pairs("jsonl", path, columns=("translation",), codes=("deu_Latn", "eng_Latn"))
    assert found == ([("eins", "one")], {})


def test_a_repeated_key_is_refused(tmp_path: Path, read_pairs: Read, read_documents: Read) -> None:
    fine = '{"type": "text", "id": 1, "id": 2, "text": "\\"text\\": \\"text\\""}'
    assert read_documents("jsonl", _file(tmp_path, fine), columns=TEXT)[0] == [['"text": "text"']]
    with pytest.raises(ValueError, match=r"a\.jsonl: line 2: expected a JSON object \(with one 'text', found 2\)"):
        read_documents("jsonl", _file(tmp_path, fine, '{"text": "a", "text": "b"}'), columns=TEXT)
    with pytest.raises(ValueError, match=r"line 1: expected a JSON object \(with one 'de', found 2\)"):
        read_pairs("jsonl", _file(tmp_path, '{"t": {"de": "a", "en": "c", "de": "b"}}'), columns=("t",))


@pytest.mark.parametrize("text", ['[{"text": "a"}, {"text": "b"}]', '[\n{"text": "a"}\n]', '{\n "text": "a"\n}'])
def test_one_json_text_of_many_lines_is_explained(tmp_path: Path, read_documents: Read, text: str) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl: line 1: expected a JSON object.*to one object per line: jq"):
        read_documents("jsonl", _file(tmp_path, text), columns=TEXT)


@pytest.mark.parametrize(
    ("columns", "line", "message"),
    [
        (("s", "t"), '{"s": "eins"}', "no 't' in the object; it has s"),
        (("t",), '{"t": "eins"}', "expected an object with 'de', found str"),
        (("t",), "null", "expected an object with 't', found null"),
        (("t",), '{"t": {"de": "eins"}}', "no 'en' in the object; it has de"),
        (("t",), '{"t": {"de": "eins", "en": ["one"]}}', "'en' is list, expected a string"),
        (("s", "t"), '{"s": "eins", "t": "\\uDC00"}', "'t' holds half"),
    ],
)
def test_broken_pairs_are_named(
    tmp_path: Path, read_pairs: Read, columns: tuple[str, ...], line: str, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.jsonl: line 1: {message}"):
        read_pairs("jsonl", _file(tmp_path, line), columns=columns)
