"""YAML as users write it: what is refused, and what its words become."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.files.yaml_files import all_expanded, expanded, is_null, read_mapping, read_marked_mapping


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: {c: 1, c: 2}\n", "x.yaml: line 2: key 'c' is given twice"),
        (b"a: &a {c: 1}\nb: {<<: *a, d: 1, d: 2}\n", "x.yaml: line 2: key 'd' is given twice"),
        (b"a: &a {c: 1}\nb: {<<: *a, <<: *a}\n", "x.yaml: line 2: key '<<' is given twice"),
        (b"a: {<<: 1}\n", "x.yaml: line 1 not valid YAML: expected a mapping"),
        (b"a: 1\na: 1\n", "x.yaml: line 2: key 'a' is given twice"),
        ("a: Stra\xdfe\n".encode("latin-1"), "x.yaml: not UTF-8 at byte 7 .*; convert the file"),
        (b"a: [\n", "x.yaml: line 2 not valid YAML: "),
        (b"- a\n", "x.yaml: expected fields, found a list"),
        (b"a: \x00\n", "x.yaml: not valid YAML: "),
    ],
)
def test_invalid_files_are_reported_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_mapping(path, "fields")
    assert "\n" not in str(error.value)


def test_mappings_and_empty_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# nothing\n")
    assert read_mapping(path, "fields") == {}
    path.write_text("a: {b: [1, ~]}\n")
    assert read_mapping(path, "fields") == {"a": {"b": [1, None]}}
    with pytest.raises(ValueError, match="none.yaml: no such file; expected fields"):
        read_mapping(tmp_path / "none.yaml", "fields")


def test_mappings_are_merged_into_others(tmp_path: Path) -> None:
    """Whose own keys replace theirs; also one that others were merged into, and that is read after them."""
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb:\n  c: &c\n    <<: *a\n    y: 3\nd:\n  <<: [*c, {z: 4, x: 5}]\n  w: 6\n")
    read = read_marked_mapping(path, "fields")
    assert read.content == {
        "a": {"x": 1, "y": 2},
        "b": {"c": {"x": 1, "y": 3}},
        "d": {"x": 1, "y": 3, "z": 4, "w": 6},
    }
    assert [read.place(("d", key)) for key in "xyzw"] == [f"{path}:{where}" for where in ("1:11", "5:8", "7:16", "8:6")]


def test_variables_and_the_home_directory_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.delenv("NONE", raising=False)
    assert expanded("${DATA}/a,~/b, ~/c,d~e,$DATA") == "/data/a,/home/x/b, /home/x/c,d~e,/data"
    with pytest.raises(ValueError, match="^the environment variable NONE is not set$"):
        expanded("${DATA}/${NONE}/${NONE}")
    told: list[str] = []
    assert all_expanded({"a": ["~", 1, "${NONE}"]}, told.append) == {"a": ["/home/x", 1, ""]}
    assert told == ["the environment variable NONE is not set"]


def test_all_spellings_of_null() -> None:
    assert all(map(is_null, (None, "", "~", "null", "Null", "NULL", "None", "none")))
    assert not any(map(is_null, ("nothing", 0, False, "no")))
