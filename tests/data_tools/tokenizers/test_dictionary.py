import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.tokenizers.dictionary import read_dictionary


def fairseq_index(text: str) -> tuple[dict[str, int], int]:
    """The ids and the size of a dictionary by the code of fairseq 0.12.2 (fairseq/data/dictionary.py, MIT licence).

    That is `Dictionary.__init__`, `add_from_file` and `add_symbol` without the counts.
    """
    indices = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    size = len(indices)
    for line in text.splitlines(keepends=True):
        word, field = line.rstrip().rsplit(" ", 1)
        overwrite = field == "#fairseq:overwrite"
        if overwrite:
            word, field = word.rsplit(" ", 1)
        int(field)
        if word in indices and not overwrite:
            raise RuntimeError(f"Duplicate word found when loading Dictionary: '{word}'.")
        indices[word] = size
        size += 1
    return indices, size


@given(st.lists(st.tuples(st.sampled_from(["▁a", "▁b", "c", "#", "[de_DE]", "7"]), st.booleans()), max_size=8))
def test_ids_are_those_of_fairseq(tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, bool]]) -> None:
    text = "".join(f"{piece} {n}{' #fairseq:overwrite' * flag}\n" for n, (piece, flag) in enumerate(lines))
    path = tmp_path_factory.mktemp("dictionary") / "dict.txt"
    path.write_text(text, encoding="utf-8")
    try:
        indices, size = fairseq_index(text)
    except RuntimeError:
        with pytest.raises(ValueError, match="comes a second time, without #fairseq:overwrite"):
            read_dictionary(path)
        return
    pieces = read_dictionary(path)
    assert len(set(pieces)) == len(pieces) == size - 4
    assert {piece: i for i, piece in enumerate(pieces, start=4) if not piece.startswith("overwritten")} == {
        piece: i for piece, i in indices.items() if i >= 4
    }


def test_an_overwritten_piece_leaves_a_made_up_name_and_mask_stays_last(tmp_path: Path) -> None:
    path = tmp_path / "dict.txt"
    path.write_text("▁a 9\n▁b 8\n# 7\n▁a 6 #fairseq:overwrite\n▁c 0\n<mask> 5\n", encoding="utf-8")
    assert read_dictionary(path) == ["overwritten0004", "▁b", "#", "▁a", "▁c", "<mask>"]


def test_a_compressed_dictionary_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dict.txt.gz"
    path.write_bytes(gzip.compress("▁a 9\n".encode()))
    assert read_dictionary(path) == ["▁a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("▁a 9\n▁b\n", "line 2: expected `piece count`, found '▁b'"),
        ("▁a 9\n\n▁b 8\n", "line 2: expected `piece count`, found ''"),
        ("▁a 9\n▁b x\n", "line 2: expected `piece count`, found '▁b x'"),
        ("▁a 9\n▁a 8\n", "line 2: '▁a' comes a second time, without #fairseq:overwrite"),
        ("<unk> 999 #fairseq:overwrite\n", "line 1: expected no special token, found <unk>, which is id 3"),
        ("<pad> 9\n", "line 1: expected no special token, found <pad>, which is id 1"),
        ("▁a 9\n<mask> 8\n▁b 7\n", "line 2: expected <mask> in the last line or nowhere"),
    ],
)
def test_a_line_that_fairseq_refuses_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "dict.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"dict\.txt: {message}"):
        read_dictionary(path)
