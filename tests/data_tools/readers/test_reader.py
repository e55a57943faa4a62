from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.corpus.inputs import Input
from data_tools.readers import InputReader, identity_of, parts_of, size_of


@pytest.fixture
def pair(tmp_path: Path) -> Input:
    for name, text in [("p.de", "eins\n"), ("p.en", "one\n" * 10)]:
        (tmp_path / name).write_text(text)
    return Input(("de", "en"), "moses", (str(tmp_path / "p.de"), str(tmp_path / "p.en")))


def test_a_pair_of_files_is_read(pair: Input) -> None:
    assert size_of(pair) == 45
    assert parts_of(pair, 1) == [None]
    identity = identity_of(pair)
    assert [identity[0], identity[3]] == ["p.de", "p.en"]
    Path(pair.paths[1]).write_text("two\n" * 10)
    assert identity_of(pair)[:3] == identity[:3]
    assert identity_of(pair) != identity


def test_codes_of_languages_are_part_of_the_identity(tmp_path: Path) -> None:
    (tmp_path / "a.tmx").write_text("<tmx/>")
    item = Input(("zh_Hant", "en"), "tmx", (str(tmp_path / "a.tmx"),))
    assert identity_of(replace(item, codes=("zh-TW", "en"))) != identity_of(replace(item, codes=("zh-HK", "en")))
    assert identity_of(replace(item, codes=("zh-TW", "en"))) != identity_of(item)


@pytest.mark.parametrize("format", ["tmx", "opus"])
def test_some_formats_are_never_cut(tmp_path: Path, format: str) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000))
    assert parts_of(Input(("de", "en"), format, (str(tmp_path / "a"),)), 10) == [None]


def test_wrong_use_of_a_reader_is_an_assertion(pair: Input) -> None:
    with pytest.raises(AssertionError, match="with InputReader"):
        InputReader(pair, None).pairs()
    with InputReader(pair, None) as reader, pytest.raises(AssertionError, match="moses holds pairs"):
        reader.documents()


def test_a_file_that_does_not_open_leaves_nothing_open(pair: Input, recwarn: pytest.WarningsRecorder) -> None:
    Path(pair.paths[1]).unlink()
    with pytest.raises(FileNotFoundError), InputReader(pair, None):
        pass
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]
