import io
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from data_tools.tokenizers.sentence_piece import MODEL_FILE, UNK_ID, PieceEncoder
from data_tools.tokenizers.unknown_pieces import (
    NO_RECORDS,
    RecordWriter,
    Unknown,
    load_records,
    records_of,
    records_path,
)

ALPHABET = "der Hund письмо 漢字🙂€ﬁ½\u3000\u200b\0"


def test_records_hold_a_hash_of_the_text() -> None:
    records = records_of(["漢字", "漢", "漢字", "🙂"])
    assert records["characters"].tolist() == [0] * 4
    assert records["text"][0] == records["text"][2] and len(set(records["text"].tolist())) == 3
    # The first eight bytes of BLAKE2b with a digest of eight bytes: b2sum -l 64.
    assert records_of(["abc"])["text"].astype(">u8").tobytes()[::-1].hex() == "d8bb14d833d59559"


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = records_of(list("漢字や仮名"))
    with RecordWriter(tmp_path / "00000.zh") as writer:
        writer.add(records[:2])
        writer.add(records[2:2])
        writer.add(records[2:])
    assert (load_records(tmp_path / "00000.zh") == records).all()
    assert [path.name for path in tmp_path.iterdir()] == ["00000.zh.unknown"]


def test_without_unknown_pieces_or_after_an_error_there_is_no_file(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "00000") as writer:
        writer.add(NO_RECORDS)
    with pytest.raises(KeyboardInterrupt), RecordWriter(tmp_path / "00001") as writer:
        writer.add(records_of(["漢"]))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    assert len(load_records(tmp_path / "00000")) == 0
    assert records_path(tmp_path / "a.b").name == "a.b.unknown"


def test_unknown_characters_of_sentences_are_counted(tmp_path: Path, tokenizer_dir: Path) -> None:
    encoder = PieceEncoder(tokenizer_dir)
    lines = ["der Hund", "漢字", "", "mein 漢 Bruder 漢字や", "письмо", "🙂"]
    ids, lengths = encoder.encode_flat(lines)
    found = encoder.unknown_records(lines, ids, lengths)
    texts = ["▁漢字", "▁mein▁漢▁Bruder▁漢字や", "▁mein▁漢▁Bruder▁漢字や", "▁🙂"]
    assert found["text"].tolist() == records_of(texts)["text"].tolist()
    assert found["characters"].tolist() == [2, 4, 0, 1]
    ids, lengths = encoder.encode_flat(lines[:1])
    assert len(encoder.unknown_records(lines[:1], ids, lengths)) == 0


@given(lines=st.lists(st.text(st.sampled_from(ALPHABET), max_size=12), max_size=6))
def test_counts_are_those_of_the_normalised_text(tokenizer_dir: Path, lines: list[str]) -> None:
    encoder = PieceEncoder(tokenizer_dir)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_dir / MODEL_FILE))
    ids, lengths = encoder.encode_flat(lines)
    found = encoder.table.unknown(ids, encoder.unknown_records(lines, ids, lengths))
    normalised = [processor.normalize(line).replace("▁", "") for line in lines]
    known = {piece for i in range(len(processor)) for piece in processor.id_to_piece(i)}
    assert found.pieces == np.count_nonzero(ids == UNK_ID) and found.of_pieces == len(ids)
    assert found.of_characters == sum(map(len, normalised))
    assert found.characters == sum(character not in known for line in normalised for character in line)


def test_characters_that_are_spelt_in_bytes_are_not_lost(tmp_path: Path, sentences: dict[str, list[str]]) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences["en"]),
        model_writer=model,
        vocab_size=400,
        byte_fallback=True,
        minloglevel=2,
    )
    (tmp_path / MODEL_FILE).write_bytes(model.getvalue())
    encoder = PieceEncoder(tmp_path)
    lines = ["the 漢字 🙂 é"]
    ids, lengths = encoder.encode_flat(lines)
    assert encoder.table.unknown(ids, encoder.unknown_records(lines, ids, lengths)) == Unknown(0, len(ids), 0, 7)


def test_shares_of_unknown_pieces_and_characters() -> None:
    total = Unknown(1, 10, 3, 30) + Unknown(4, 10, 9, 30)
    assert total == Unknown(5, 20, 12, 60)
    assert (total.piece_share, total.character_share) == (0.25, 0.2)
    assert (Unknown().piece_share, Unknown().character_share) == (0, 0)
