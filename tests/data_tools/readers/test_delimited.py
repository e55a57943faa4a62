from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.corpus.inputs import Input
from data_tools.readers import parts_of
from data_tools.readers.source import MAX_DOCUMENT_CHARACTERS

Read = Callable[..., Any]
PAIR = (1, 2)


def _file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_tsv_has_pairs_in_its_first_columns(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, "p.tsv", '\ufeffeins\tone\r\n"zwei\ttwo"\t0.7\tmore\n\tthree\n')
    assert read_pairs("tsv", path, columns=PAIR) == ([("eins", "one"), ('"zwei', 'two"'), ("", "three")], {})


def test_columns_may_be_given_by_number(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, "p.tsv", "1.17\teins\tone\n1.08\tzwei\ttwo\tmore\n")
    assert read_pairs("tsv", path, columns=(2, 3)) == ([("eins", "one"), ("zwei", "two")], {})
    assert read_pairs("tsv", path, columns=(3, 2)) == ([("one", "eins"), ("two", "zwei")], {})


def test_columns_may_be_named_in_the_first_row(tmp_path: Path, read_pairs: Read, read_documents: Read) -> None:
    tsv = _file(tmp_path, "p.tsv", "\ufeffscore\ten\tde\n1.17\tone\teins\n1.08\ttwo\tzwei\n")
    assert read_pairs("tsv", tsv, columns=("de", "en"))[0] == [("eins", "one"), ("zwei", "two")]
    assert read_documents("tsv", tsv, columns=("de",))[0] == [["eins"], ["zwei"]]
    csv = _file(tmp_path, "p.csv", 'de,en\r\n"Das Haus","The house"\r\n')
    assert read_pairs("csv", csv, columns=("de", "en")) == ([("Das Haus", "The house")], {})
    assert read_pairs("csv", csv, columns=PAIR)[0] == [("de", "en"), ("Das Haus", "The house")]


def test_quoted_cells_of_csv_may_hold_line_breaks(tmp_path: Path, read_documents: Read) -> None:
    text = 'id,text\r\n1,"a, ""b"""\r\n2,"one\r\n\r\n two "\r\n3,"plain"\r\n4," "\r\n\r\n'
    path = _file(tmp_path, "a.csv", text)
    assert read_documents("csv", path, columns=("text",)) == (
        [['a, "b"'], ["one", " two "], ["plain"]],
        {"empty": 2},
    )


def test_a_cell_of_csv_may_be_long(tmp_path: Path, read_documents: Read) -> None:
    line = "x" * (MAX_DOCUMENT_CHARACTERS // 2)  # longer than the library's limit of a cell
    path = _file(tmp_path, "a.csv", f'"{line}\n{line}\n{line}"\n')
    assert read_documents("csv", path, columns=(1,)) == ([[line, line], [line]], {})


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_rows_are_counted(tmp_path: Path, read_pairs: Read, blank: str) -> None:
    path = _file(tmp_path, "p.tsv", f"eins\tone\t1\n{blank}\nzwei\ttwo\t2\n\n")
    assert read_pairs("tsv", path, columns=(1, 3)) == ([("eins", "1"), ("zwei", "2")], {"empty": 2})


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("q.tsv", "eins\tone\nzwei two\n", PAIR, "line 2: expected 2 columns separated by a tab, found 1"),
        ("q.tsv", "1\teins\tone\n2\tzwei\n", (2, 3), "line 2: expected 3 columns separated by a tab, found 2"),
        ("q.csv", 'de,en\n"a\nb",c\nd\n', PAIR, "line 4: expected 2 columns separated by a comma, found 1"),
        ("q.csv", 'de,en\neins,"one\n', PAIR, "line 2: broken CSV"),
        ("q.csv", 'de,en\neins,"one"x\n', PAIR, "line 2: broken CSV"),
        ("q.csv", "de;en\neins;one\n", ("de", "en"), "line 1: expected one column 'de', found none; .* are de;en"),
        ("q.tsv", "de\tde\n", ("de", "en"), "line 1: expected one column 'de', found more than one"),
        ("q.csv", "de;en\n", ("de", "en"), ".*; it seems to be separated by ;: save it with a comma instead$"),
        ("q.csv", "eins;one\n", PAIR, "line 1: expected 2 columns .*, found 1; it seems to be separated by ;:"),
        ("q.csv", "eins\tone\n", PAIR, "line 1: .*; it seems to be separated by tabs:"),
        ("q.csv", "de\n", ("de", "en"), "line 1: expected one column 'en', found none; the names there are de$"),
    ],
)
def test_tables_without_the_columns_are_refused(
    tmp_path: Path, read_pairs: Read, name: str, text: str, columns: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        read_pairs(name[-3:], _file(tmp_path, name, text), columns=columns)


@pytest.mark.parametrize("name", ["q.tsv", "q.csv"])
def test_a_table_of_no_bytes_is_counted(tmp_path: Path, read_pairs: Read, read_documents: Read, name: str) -> None:
    path = _file(tmp_path, name, "")
    for columns in (("de", "en"), PAIR):
        assert read_pairs(name[-3:], path, columns=columns) == ([], {"empty_file": 1})
    assert read_documents(name[-3:], path, columns=("de",)) == ([], {"empty_file": 1})


def test_all_parts_together_are_the_file(tmp_path: Path, read_pairs: Read) -> None:
    rows = [(f"s{i}", f"t{i}" * (i % 7)) for i in range(300)]
    path = _file(tmp_path, "p.tsv", "s\tt\n" + "".join(f"{source}\t{target}\n" for source, target in rows))
    item = Input(("de", "en"), "tsv", (str(path),), ("s", "t"))
    parts = parts_of(item, 500)
    assert len(parts) > 4
    found = [read_pairs("tsv", path, part=part, columns=("s", "t"))[0] for part in parts]
    assert [pair for part in found for pair in part] == rows
    # A line break in quotes does not end a row.
    assert parts_of(Input(("de", "en"), "csv", (str(path),), ("s", "t")), 500) == [None]


def test_a_part_of_tsv_names_the_line_of_the_file(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, "p.tsv", "eins\tone\nzwei\ttwo\ndrei three\n")
    with pytest.raises(ValueError, match=r"p\.tsv: line 3: expected 2 columns"):
        read_pairs("tsv", path, part=(9, 29), columns=PAIR)
