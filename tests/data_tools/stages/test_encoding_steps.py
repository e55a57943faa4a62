"""The steps between text and shards, driven without an executor; whole runs are in test_prepare.py."""

import gzip
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.corpus.configuration import Corpus
from data_tools.prepare import prepare
from data_tools.shards.format import Shard
from data_tools.shards.manifest import Manifest
from data_tools.stages.encoding_steps import HoldOut, batched, text_hash
from data_tools.stages.executors import Stage
from data_tools.stages.plan import Plan
from data_tools.stages.text_batches import TextBatch, TokenBatch, TokenSide
from data_tools.tokenizers.sentence_piece import UNK_ID, PieceEncoder
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import Unknown, records_of

NO_PLAN = Plan(Path("none"), (), {})


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_batches_are_the_items_in_order(sizes: list[int], limit: int) -> None:
    batches = list(batched(sizes, lambda size: size, limit))
    assert [size for batch in batches for size in batch] == sizes
    assert all(sum(batch) + len(batch) >= limit for batch in batches[:-1])
    assert all(sum(batch[:-1]) + len(batch[:-1]) < limit for batch in batches)


@given(st.lists(st.lists(st.text("ab ", max_size=3), min_size=1, max_size=3), max_size=12), st.floats(0, 1))
def test_each_document_is_in_the_split_of_its_hash(documents: list[list[str]], share: float) -> None:
    lines = [line for document in documents for line in document]
    ends = np.cumsum([len(document) for document in documents], dtype=np.int64)
    pieces = list(HoldOut(NO_PLAN, share).run([TextBatch((lines,), ends, Counter(seen=2))]))
    found = [(list(document[0]), piece.split) for piece in pieces for document in piece.documents()]
    assert [document for document, _ in found] == documents
    for document, split in found:
        assert (split == "valid") == (text_hash((document,)) < int(share * 2**64))
    assert sum((piece.dropped for piece in pieces), Counter()) == Counter(seen=2)


def test_a_share_of_the_documents_is_held_out() -> None:
    lines = [f"line {i}" for i in range(20_000)]
    batch = TextBatch((lines,), np.arange(1, len(lines) + 1))
    held_out = sum(len(piece) for piece in HoldOut(NO_PLAN, 0.1).run([batch]) if piece.split == "valid")
    assert abs(held_out / len(lines) - 0.1) < 4 * (0.1 * 0.9 / len(lines)) ** 0.5


def test_passages_of_text_without_documents_keep_their_split() -> None:
    """Whatever text is added in front, and wherever it is cut."""

    def held_out(lines: list[str]) -> set[str]:
        batch = TextBatch((lines,), np.array([len(lines)]))
        return {
            line for piece in HoldOut(NO_PLAN, 0.1).run([batch]) if piece.split == "valid" for line in piece.sides[0]
        }

    lines = [f"line {i} of a text without an end" for i in range(20_000)]
    before = held_out(lines)
    assert 0.05 < len(before) / len(lines) < 0.15
    after = held_out([f"something new {i}" for i in range(777)] + lines)
    # Only the passage at the seam may change, since the new text has become a part of it.
    assert len(before - after) + len({line for line in after - before if line.startswith("line")}) < 200
    pieces = HoldOut(NO_PLAN, 0.1).run([TextBatch((lines,), np.array([len(lines)]))])
    assert [line for piece in pieces for line in piece.sides[0]] == lines


def test_the_split_does_not_depend_on_unicode_form_or_white_space() -> None:
    assert text_hash((["é  à", " b"],)) == text_hash((["e\u0301 a\u0300", "b "],))
    assert text_hash((["é"],)) != text_hash((["e"],))
    assert text_hash((["a", "b"],)) == text_hash((["a b"],)), "where sentences end is no matter"
    assert text_hash((["a"], ["b"])) != text_hash((["b"], ["a"])) != text_hash((["a b"],))


def test_dropping_units_drops_the_records_of_their_unknown_pieces() -> None:
    ids = np.array([UNK_ID, 7, UNK_ID, UNK_ID, 8, UNK_ID])
    side = TokenSide(ids, np.array([2, 2, 1, 1]), SpecialIds.xlm_r(99), records_of(list("abcd")))
    kept = side.keep(np.array([True, False, True, True]))
    assert kept.ids.tolist() == [UNK_ID, 7, 8, UNK_ID]
    assert kept.unknown.tolist() == records_of(["a", "d"]).tolist()


def test_dropping_units_moves_the_ends_of_documents() -> None:
    batch = TokenBatch((TokenSide(np.arange(6), np.array([1, 2, 3]), SpecialIds.xlm_r(99)),), np.array([1, 2, 3]))
    kept = batch.keep(np.array([True, False, True]), "length")
    assert kept.sides[0].ids.tolist() == [0, 3, 4, 5] and kept.sides[0].lengths.tolist() == [1, 3]
    assert kept.document_ends.tolist() == [1, 2]
    assert kept.dropped == Counter(length=1)


def _run_here(stages: Sequence[Stage], logs: Path) -> None:
    for stage in stages:
        for rank in range(stage.num_tasks):
            data = None
            for step in stage.steps:
                data = step.run(data, rank, stage.num_tasks)


def _texts(data: Path, infos: list) -> list[str]:
    encoder = PieceEncoder(data / "tokenizer")
    return [encoder.decode(ids) for info in infos for ids in Shard(data / info.prefix)]


def _documents(data: Path, infos: list) -> list[tuple[str, ...]]:
    encoder = PieceEncoder(data / "tokenizer")
    documents = []
    for info in infos:
        shard = Shard(data / info.prefix)
        bounds = shard.documents.tolist()
        for start, end in pairwise(bounds):
            documents.append(tuple(encoder.decode(shard[i]) for i in range(start, end)))
    return documents


def test_nothing_held_out_is_trained_on_and_it_stays_when_the_corpus_grows(
    tmp_path: Path, corpus_file: Path, sentences: dict[str, list[str]]
) -> None:
    corpus_file.write_text(corpus_file.read_text() + "\n        valid: 0.2\n")
    prepare(Corpus.load(corpus_file), tmp_path / "small", 1500, _run_here)
    more = [sentences["de"][i : i + 5] for i in range(300, 700, 5)]
    random.Random(1).shuffle(more)
    copies = [sentences["de"][i : i + 5] for i in range(0, 100, 5)]  # all of mono0.de once more
    text = "\n\n".join("\n".join(document) for document in [*more, *copies])
    (tmp_path / "text" / "mono00.de.gz").write_bytes(gzip.compress(text.encode()))
    prepare(Corpus.load(corpus_file), tmp_path / "large", 1500, _run_here)

    small, large = Manifest.load(tmp_path / "small"), Manifest.load(tmp_path / "large")
    held_out = set(_documents(tmp_path / "small", small.valid["mono"]["de"]))
    held_out_later = set(_documents(tmp_path / "large", large.valid["mono"]["de"]))
    trained_on = set(_documents(tmp_path / "large", large.mono["de"]))
    assert 3 <= len(held_out) <= 24 and held_out < held_out_later
    assert not trained_on & held_out_later
    assert len(trained_on | held_out_later) == 60 + len(more)

    codes = ("de", "ru")
    pairs = [
        set(
            zip(*(_texts(tmp_path / "small", [sides[code] for sides in split["de-ru"]]) for code in codes), strict=True)
        )
        for split in (small.parallel, small.valid["parallel"])
    ]
    assert len(pairs[0] | pairs[1]) == 300 and not pairs[0] & pairs[1] and 30 < len(pairs[1]) < 90
    assert small.valid["mono"]["de"][0].prefix == "valid/mono/de/00000"


@pytest.mark.parametrize("settings", ["exact: true", "minhash: true", "exact: true, minhash: {num_buckets: 10}"])
def test_duplicates_are_dropped_and_counted(
    tmp_path: Path, corpus_file: Path, settings: str, sentences: dict[str, list[str]]
) -> None:
    shard_tokens = 1500
    prepare(Corpus.load(corpus_file), tmp_path / "plain", shard_tokens, _run_here)
    text = tmp_path / "text"
    for code in ("de", "ru"):
        (text / f"mono3.{code}.gz").write_bytes((text / f"mono1.{code}.gz").read_bytes())
        (text / f"pair3.{code}").write_bytes((text / f"pair1.{code}").read_bytes())
    corpus_file.write_text(corpus_file.read_text() + f"\n        deduplicate: {{{settings}}}\n")
    prepare(Corpus.load(corpus_file), tmp_path / "data", shard_tokens, _run_here)
    plain, manifest = Manifest.load(tmp_path / "plain"), Manifest.load(tmp_path / "data")
    reason = "duplicate" if "exact" in settings and "minhash" not in settings else "near_duplicate"
    for code in ("de", "ru"):
        kept, expected = (_texts(tmp_path / name, m.mono[code]) for name, m in (("data", manifest), ("plain", plain)))
        assert kept == expected
        assert sum(manifest.dropped[f"mono/{code}"].values()) == 100
        assert manifest.words[f"mono/{code}"] == plain.words[f"mono/{code}"]
    assert manifest.dropped["mono/de"][reason] > 0
    num_pairs = sum(sides["de"].num_sequences for sides in manifest.parallel["de-ru"])
    assert num_pairs == (300 if "exact" in settings else 400)


def test_words_are_counted(tmp_path: Path, corpus_file: Path, sentences: dict[str, list[str]]) -> None:
    prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, _run_here)
    for code in ("de", "ru"):
        expected = sum(len(sentence.split()) for sentence in sentences[code][:300])
        assert Manifest.load(tmp_path / "data").words[f"mono/{code}"] == {code: expected}
        assert Manifest.load(tmp_path / "data").words["parallel/de-ru"][code] == expected


HANZI = [chr(0x4E00 + i) for i in range(500)]  # of which the tokenizer knows none


def _chinese_corpus(tmp_path: Path, tokenizer_dir: Path, documents: list[list[str]], options: str) -> Path:
    (tmp_path / "zh.txt").write_text("\n\n".join("\n".join(lines) for lines in documents) + "\n", encoding="utf-8")
    path = tmp_path / "zh.yaml"
    path.write_text(f"tokenizer: {tokenizer_dir}\nmono: {{zh: zh.txt}}\n{options}\n")
    return path


def _unknown_ids(data: Path, infos: list) -> int:
    return sum(int(np.count_nonzero(Shard(data / info.prefix).tokens == UNK_ID)) for info in infos)


@pytest.mark.parametrize("valid", [0, 0.4])
def test_different_unknown_text_is_not_a_duplicate(tmp_path: Path, tokenizer_dir: Path, valid: float) -> None:
    """All lines become `▁ <unk>`; one of them is repeated in another Unicode form."""
    lines = ["".join(HANZI[i : i + 3]) for i in range(40)]
    lines += ["ＡＢ漢", "AB漢", "漢 der Hund", "字 der Hund"]
    options = f"valid: {valid}\ndeduplicate: {{exact: true}}"
    corpus = _chinese_corpus(tmp_path, tokenizer_dir, [[line] for line in lines], options)
    prepare(Corpus.load(corpus), tmp_path / "data", 1500, _run_here)
    manifest = Manifest.load(tmp_path / "data")
    infos = [*manifest.mono["zh"], *manifest.valid["mono"].get("zh", [])]
    assert (len(infos) > 1) == (valid > 0)
    assert sum(info.num_sequences for info in infos) == 43
    assert manifest.dropped == {"mono/zh": {"duplicate": 1}}
    unknown = manifest.unknown["mono/zh"]["zh"]
    assert unknown.pieces == _unknown_ids(tmp_path / "data", infos)
    assert unknown.of_pieces == sum(info.num_tokens for info in infos)
    kept = [line for line in lines if line != "ＡＢ漢"]
    characters = [character for line in kept for character in line if character != " "]
    assert unknown.of_characters == len(characters)
    # A and B may be pieces of the tokenizer or not.
    letters = sum(PieceEncoder(tokenizer_dir).encode_lines([letter])[0].tolist()[-1] == UNK_ID for letter in "AB")
    assert unknown.characters == 3 * 40 + 1 + letters + 2
    assert not list((tmp_path / "data").rglob("*.unknown"))


def test_different_pairs_of_unknown_text_are_not_duplicates(tmp_path: Path, tokenizer_dir: Path) -> None:
    (tmp_path / "a.tsv").write_text("漢\tder Hund\n字\tder Hund\n漢\tder Hund\n漢\tniemand\n", encoding="utf-8")
    corpus = tmp_path / "corpus.yaml"
    text = "parallel: {zh-de: [{tsv: a.tsv}]}\ndeduplicate: {exact: true}\n"
    corpus.write_text(f"tokenizer: {tokenizer_dir}\n{text}")
    prepare(Corpus.load(corpus), tmp_path / "data", 1500, _run_here)
    manifest = Manifest.load(tmp_path / "data")
    assert manifest.parallel["zh-de"][0]["zh"].num_sequences == 3
    assert manifest.dropped == {"parallel/zh-de": {"duplicate": 1}}
    assert manifest.unknown["parallel/zh-de"]["zh"] == Unknown(3, 6, 3, 3)
    assert manifest.unknown["parallel/zh-de"]["de"].pieces == 0


def test_different_documents_of_unknown_text_are_not_near_duplicates(tmp_path: Path, tokenizer_dir: Path) -> None:
    """Their ids are all the same; one document is repeated except for one sentence."""
    draw = random.Random(7)
    documents = [["".join(draw.choices(HANZI, k=8)) for _ in range(40)] for _ in range(6)]
    documents.append([*documents[0][:-1], "".join(HANZI[:8])])
    corpus = _chinese_corpus(tmp_path, tokenizer_dir, documents, "deduplicate: {minhash: true}")
    prepare(Corpus.load(corpus), tmp_path / "data", 10**6, _run_here)
    manifest = Manifest.load(tmp_path / "data")
    assert manifest.dropped == {"mono/zh": {"near_duplicate": 40}}
    assert manifest.mono["zh"][0].num_documents == 6
    assert manifest.unknown["mono/zh"]["zh"] == Unknown(240, 480, 240 * 8, 240 * 8)


def test_the_bytes_do_not_depend_on_how_text_is_cut(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "text").glob("mono*.gz"):  # only uncompressed files are cut
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    corpus_file.write_text(corpus_file.read_text().replace(".gz", ""))
    texts = {}
    for part_bytes in (1 << 10, 3_000, 1 << 30):
        monkeypatch.setattr("data_tools.stages.plan.MIN_PART_BYTES", part_bytes)
        data = tmp_path / str(part_bytes)
        prepare(Corpus.load(corpus_file), data, 10**9, _run_here)
        manifest = Manifest.load(data)
        texts[part_bytes] = {code: _documents(data, infos) for code, infos in manifest.mono.items()}
        assert (len(manifest.mono["de"]) > 3) == (part_bytes < 1 << 30)
        assert part_bytes < 1 << 30 or len(manifest.mono["de"]) == 1, "small files share a shard"
    assert texts[1 << 10] == texts[3_000] == texts[1 << 30]


def test_a_plan_that_changed_under_a_task_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    stages_of: list[Sequence[Stage]] = []

    def remember(stages: Sequence[Stage], logs: Path) -> None:
        stages_of.append(stages)

    prepare(Corpus.load(corpus_file), tmp_path / "data", 1500, remember)
    prepare(Corpus.load(corpus_file), tmp_path / "data", 2000, remember)
    with pytest.raises(ValueError, match="started again"):
        _run_here(stages_of[0], tmp_path)
