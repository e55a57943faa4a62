"""Reduced and extended vocabularies, compared with the original model and tokenizer."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_biases import randomised
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import AutoTokenizer, PreTrainedModel, XLMRobertaTokenizer

from data_tools.cli import run_main
from data_tools.tokenizers.sentence_piece import PieceEncoder
from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForPreTraining,
    VecoForSequenceClassification,
    VecoModel,
)
from veco.sentence_transformers_files import recorded_settings, write_sentence_files
from veco.tokenizer import MODEL_FILE
from veco.vocabulary import cut_vocabulary, extend_vocabulary
from veco.vocabulary.__main__ import main
from veco.vocabulary.agreement import States
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.text import count_ids
from veco.vocabulary.xlm_r_layout import XlmRVocabulary
from veco.vocabulary_loss import NEVER

TAGS = ["__de__", "__el__"]


def words(syllables: str, seed: int) -> list[str]:
    random = Random(seed)
    return ["".join(random.choices(syllables.split(), k=random.randint(1, 4))) for _ in range(300)]


GERMAN = words("ba be bu da den der fla ge ger ha ing kei lich mo nen schu ung ver zau ö", seed=1)
GREEK = words("α βε γα δι ης κα λο μα νε ος πο ρι στα τη υπ φω", seed=2)


def sentences(vocabulary: list[str], num_lines: int, seed: int) -> list[str]:
    random = Random(seed)
    return [" ".join(random.choices(vocabulary, k=random.randint(2, 9))) for _ in range(num_lines)]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unigram tokenizer of 400 pieces over two scripts, with two language tags behind <mask>."""
    directory = tmp_path_factory.mktemp("tokenizer")
    lines = sentences(GERMAN, 1500, seed=3) + sentences(GREEK, 1500, seed=4)
    with open(directory / MODEL_FILE, "wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=400,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc",
            num_threads=1,
            minloglevel=2,
        )
    tokenizer = XLMRobertaTokenizer.from_pretrained(directory)
    tokenizer.add_special_tokens({"additional_special_tokens": TAGS}, replace_extra_special_tokens=False)
    tokenizer.save_pretrained(directory)
    return directory


def shape(tokenizer_dir: Path, **fields: Any) -> VecoConfig:
    return VecoConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(tokenizer_dir)),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=130,
        initializer_range=0.3,
        **fields,
    )


@pytest.fixture
def masked_lm(tokenizer_dir) -> PreTrainedModel:
    torch.manual_seed(0)
    return randomised(VecoForMaskedLM(shape(tokenizer_dir)))


def encode(directory: Path, lines: list[str]) -> list[list[int]]:
    """Ids of each line, on which SentencePiece and transformers agree."""
    ours = [ids.tolist() for ids in PieceEncoder(directory).encode_lines(lines)]
    theirs = AutoTokenizer.from_pretrained(directory)(lines, add_special_tokens=False)["input_ids"]
    assert ours == theirs
    return ours


def as_pieces(directory: Path, lines: list[str]) -> list[list[str]]:
    processor = SentencePieceProcessor(model_file=str(directory / MODEL_FILE))
    return [processor.encode(line, out_type=str) for line in lines]


def batch(ids: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, ids))
    return torch.tensor([[0, *line, 2, *[1] * (longest - len(line))] for line in ids])


def test_cut_keeps_states_logits_and_segmentation(tokenizer_dir, masked_lm, tmp_path: Path) -> None:
    corpus = sentences(GERMAN, 50, seed=5)
    before = encode(tokenizer_dir, corpus)
    used = {i for line in before for i in line}
    old_size = masked_lm.config.vocab_size
    with torch.no_grad():
        expected = masked_lm(batch(before), output_hidden_states=True)
        cut = cut_vocabulary(masked_lm, tokenizer_dir, used, tmp_path / "cut")
        assert cut.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "cut")) < old_size
        assert as_pieces(tmp_path / "cut", corpus) == as_pieces(tokenizer_dir, corpus)
        after = encode(tmp_path / "cut", corpus)
        found = cut(batch(after), output_hidden_states=True)

    for our_states, expected_states in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(our_states, expected_states)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "cut").convert_ids_to_tokens(range(cut.config.vocab_size))
    kept = AutoTokenizer.from_pretrained(tokenizer_dir).convert_tokens_to_ids(tokens)
    assert kept == sorted(kept), "the order of ids stays"
    assert used < set(kept)
    torch.testing.assert_close(found.logits, expected.logits[..., kept], rtol=0, atol=1e-5)
    assert cut.lm_head.decoder.weight is cut.veco.embeddings.word_embeddings.weight


def test_layout_of_a_cut_tokenizer(tokenizer_dir, masked_lm, tmp_path: Path) -> None:
    cut_vocabulary(masked_lm, tokenizer_dir, [10, 11], tmp_path, tokens=["__el__"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    size = len(tokenizer)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "__el__", "__de__"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, size - 2, size - 1, 3]
    assert PieceEncoder(tmp_path).vocab_size == size - 1, "data_tools counts no tags"
    assert "__el__" in tokenizer.all_special_tokens and "__de__" not in tokenizer.all_special_tokens
    assert tokenizer("ba")["input_ids"][0] == 0 and tokenizer("ba")["input_ids"][-1] == 2
    assert tokenizer("__el__", add_special_tokens=False)["input_ids"] == [size - 1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), keep_characters=st.booleans())
def test_any_corpus_is_segmented_as_before(tokenizer_dir, tmp_path_factory, seed: int, keep_characters: bool) -> None:
    """Also with characters that the tokenizer does not know, and if single characters are dropped."""
    random = Random(seed)
    corpus = sentences(GERMAN + GREEK + ["ж", "bжa", "x", "字"], 8, seed)
    used = {i for line in encode(tokenizer_dir, corpus) for i in line}
    keep = random.sample(XlmRVocabulary(tokenizer_dir).pieces, 5)
    directory = tmp_path_factory.mktemp("cut")
    model = VecoModel(shape(tokenizer_dir))
    cut_vocabulary(model, tokenizer_dir, used, directory, keep=keep, keep_characters=keep_characters)
    assert as_pieces(directory, corpus) == as_pieces(tokenizer_dir, corpus)
    encode(directory, corpus)
    assert set(keep) <= set(XlmRVocabulary(directory).pieces)


def test_cut_does_not_make_unknown_pieces_more_probable(tmp_path: Path) -> None:
    """<unk> is 10 less probable than the rarest piece, here "zz": without it "abcж" would become "abc" and <unk>."""
    piece = ModelProto.SentencePiece
    kinds = {"<unk>": piece.UNKNOWN, "<s>": piece.CONTROL, "</s>": piece.CONTROL}
    scores = {"▁": -1.0, "a": -9.0, "b": -9.0, "c": -9.0, "abc": -1.0, "cж": -10.0, "zz": -20.0}
    proto = ModelProto(pieces=[piece(piece=name, type=kind) for name, kind in kinds.items()])
    proto.pieces.extend(piece(piece=name, score=score) for name, score in scores.items())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / MODEL_FILE).write_bytes(proto.SerializeToString())
    XLMRobertaTokenizer.from_pretrained(tmp_path / "old").save_pretrained(tmp_path / "old")
    corpus = ["abc", "abcж"]
    used = {i for line in encode(tmp_path / "old", corpus) for i in line}
    assert as_pieces(tmp_path / "old", corpus)[1] == ["▁", "a", "b", "cж"]
    cut_vocabulary(VecoModel(shape(tmp_path / "old")), tmp_path / "old", used, tmp_path / "new")
    assert as_pieces(tmp_path / "new", corpus) == as_pieces(tmp_path / "old", corpus)
    encode(tmp_path / "new", corpus)


def test_kept_characters_express_words_outside_the_corpus(tokenizer_dir, tmp_path: Path) -> None:
    used = {i for line in encode(tokenizer_dir, GERMAN[:3]) for i in line}
    unseen = [GREEK[0] + GREEK[1]]
    for keep_characters in (True, False):
        directory = tmp_path / str(keep_characters)
        model = VecoModel(shape(tokenizer_dir))
        cut_vocabulary(model, tokenizer_dir, used, directory, keep_characters=keep_characters)
        assert (3 not in encode(directory, unseen)[0]) == keep_characters
        if keep_characters:
            assert PieceEncoder(directory).decode(encode(directory, unseen)[0]) == unseen[0]


@pytest.mark.parametrize("separate", [False, True])
def test_translation_model_is_cut_with_its_start_token(tokenizer_dir, tmp_path: Path, separate: bool) -> None:
    torch.manual_seed(1)
    tag = AutoTokenizer.from_pretrained(tokenizer_dir).convert_tokens_to_ids("__el__")
    frame = {"source_prefix_ids": [], "source_suffix_ids": [2, tag - 1], "target_suffix_ids": [2, tag]}
    fields = {"decoder_layers": 1, "separate_decoder_embeddings": separate, **frame}
    config = shape(tokenizer_dir, decoder_start_token_id=tag, **fields)
    model = randomised(VecoForConditionalGeneration(config))
    corpus = sentences(GERMAN, 10, seed=6)
    ids = encode(tokenizer_dir, corpus)
    used = {i for line in ids for i in line}
    with torch.no_grad():
        expected = model(batch(ids), decoder_input_ids=torch.full((10, 1), tag)).logits
        with pytest.raises(ValueError, match="sentences start or end with __el__, which is not among"):
            cut_vocabulary(model, tokenizer_dir, used, tmp_path / "never", tokens=["__de__"])
        assert not (tmp_path / "never").exists()
        cut = cut_vocabulary(model, tokenizer_dir, used, tmp_path / "cut", tokens=["__de__", "__el__"])
        cut.save_pretrained(tmp_path / "cut")
        again = VecoForConditionalGeneration.from_pretrained(tmp_path / "cut").eval()
        start = AutoTokenizer.from_pretrained(tmp_path / "cut").convert_tokens_to_ids("__el__")
        assert start == again.config.decoder_start_token_id == again.generation_config.decoder_start_token_id != tag
        assert (again.config.source_prefix_ids, again.config.source_suffix_ids) == ([], [2, start - 1])
        assert again.config.target_suffix_ids == [2, start] and again.generation_config.eos_token_id == start
        found = again(batch(encode(tmp_path / "cut", corpus)), decoder_input_ids=torch.full((10, 1), start)).logits
    tokens = AutoTokenizer.from_pretrained(tmp_path / "cut").convert_ids_to_tokens(range(found.shape[-1]))
    kept = AutoTokenizer.from_pretrained(tokenizer_dir).convert_tokens_to_ids(tokens)
    torch.testing.assert_close(found, expected[..., kept], rtol=0, atol=1e-5)
    if separate:
        assert cut.decoder.embeddings.word_embeddings.weight is cut.veco.embeddings.word_embeddings.weight


@pytest.mark.parametrize("model_class", [VecoModel, VecoForPreTraining, VecoForSequenceClassification])
def test_every_model_is_cut(tokenizer_dir, tmp_path: Path, model_class: type[PreTrainedModel]) -> None:
    model = model_class(shape(tokenizer_dir))
    num_before = sum(parameter.numel() for parameter in model.parameters())
    size = model.config.vocab_size
    cut = cut_vocabulary(model, tokenizer_dir, range(4, 30), tmp_path, keep_characters=False)
    num_gone = size - cut.config.vocab_size
    has_head = model_class is VecoForPreTraining
    num_after = sum(parameter.numel() for parameter in cut.parameters())
    assert num_before - num_after == num_gone * (16 + has_head)
    cut.save_pretrained(tmp_path)
    assert model_class.from_pretrained(tmp_path).get_input_embeddings().num_embeddings == cut.config.vocab_size


def test_extension_keeps_old_ids_states_and_logits(tokenizer_dir, masked_lm, tmp_path: Path) -> None:
    corpus = sentences(GREEK, 20, seed=7)
    before = encode(tokenizer_dir, corpus)
    size = masked_lm.config.vocab_size
    mask = size - 3
    old_weight = masked_lm.veco.embeddings.word_embeddings.weight.detach().clone()
    processor = SentencePieceProcessor(model_file=str(tokenizer_dir / MODEL_FILE))
    with torch.no_grad():
        expected = masked_lm(batch(before), output_hidden_states=True)
        new = extend_vocabulary(
            masked_lm, tokenizer_dir, tmp_path, {"▁bagerung": None, "ungschulich": -3.0}, ["__fr__", "__en__"]
        )
        assert encode(tmp_path, corpus) == before, "no new piece in them: all old pieces keep their ids"
        found = new(batch(before), output_hidden_states=True)
    for our_states, expected_states in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(our_states, expected_states)

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    order = ["▁bagerung", "ungschulich", "<mask>", "__de__", "__el__", "__fr__", "__en__"]
    assert tokenizer.convert_tokens_to_ids(order) == list(range(mask, mask + 7))
    assert len(tokenizer) == new.config.vocab_size == size + 4
    assert set(tokenizer.all_special_tokens) >= {"__fr__", "__en__", *TAGS}
    columns = [*range(mask), mask + 2, mask + 3, mask + 4]
    torch.testing.assert_close(found.logits[..., columns], expected.logits, rtol=0, atol=1e-5)

    assert tokenizer.tokenize("bagerung") == ["▁bagerung"]
    assert as_pieces(tmp_path, ["baungschulich"])[0][-1] == "ungschulich"
    encode(tmp_path, ["bagerung bagerungen baungschulich"])
    parts = [i + 1 for i in processor.encode("bagerung")]
    weight = new.veco.embeddings.word_embeddings.weight
    assert len(parts) > 1
    torch.testing.assert_close(weight[mask], old_weight[parts].mean(0), rtol=0, atol=1e-6)
    assert not torch.equal(weight[mask + 5], weight[mask + 6]), "tags are drawn"
    scores = {piece.piece: piece.score for piece in XlmRVocabulary(tmp_path).proto.pieces}
    expected_score = np.mean([processor.get_score(i - 1) for i in parts])
    assert scores["▁bagerung"] == pytest.approx(expected_score) and scores["ungschulich"] == -3.0


def test_new_tokens_alone_change_no_id(tokenizer_dir, masked_lm, tmp_path: Path) -> None:
    extend_vocabulary(masked_lm, tokenizer_dir, tmp_path, tokens=["__fr__"])
    assert (tmp_path / MODEL_FILE).read_bytes() == (tokenizer_dir / MODEL_FILE).read_bytes()
    old, new = (AutoTokenizer.from_pretrained(directory).get_vocab() for directory in (tokenizer_dir, tmp_path))
    assert new == {**old, "__fr__": len(old)}


def test_drawn_rows_follow_the_seed_and_the_old_rows(tokenizer_dir, tmp_path: Path) -> None:
    drawn = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(0)
        model = VecoForMaskedLM(shape(tokenizer_dir))
        old = model.veco.embeddings.word_embeddings.weight.detach().clone()
        with torch.no_grad():
            model.lm_head.decoder.bias.normal_()
            model.lm_head.decoder.bias[7] = NEVER  # not used for drawing the biases of new rows
        tags = [f"__{i}__" for i in range(200)]
        extend_vocabulary(model, tokenizer_dir, tmp_path / str(number), tokens=tags, seed=seed)
        drawn.append(model.veco.embeddings.word_embeddings.weight.detach()[len(old) :])
        assert model.lm_head.decoder.bias[len(old) :].abs().max() < 10 and model.lm_head.decoder.bias[7] == NEVER
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(drawn[0].mean(0), old.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn[0].std(0), old.std(0), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("pieces", "tokens", "message"),
    [
        ({"▁": None}, [], "▁: exists already, or is given twice"),
        ({}, ["__de__"], "__de__: exists already, or is given twice"),
        ({}, ["__x__", "__x__"], "__x__: exists already, or is given twice"),
        ({"a b": None}, [], "'a b' is not a piece: expected letters, after ▁ if"),
        ({"a▁b": None}, [], "'a▁b' is not a piece"),
        ({"ｆｕｌｌ": None}, [], "'ｆｕｌｌ' never occurs in text: normalised it is 'full'"),
        ({"nana": 1.0}, [], "the score of nana is not between .* and 0"),
        ({"nana": float("nan")}, [], "the score of nana is not between"),
        ({"nana": -1000.0}, [], "the score of nana is not between"),
        ({}, [" "], "a new token is empty"),
    ],
)
def test_bad_extensions_are_refused(tokenizer_dir, masked_lm, tmp_path: Path, pieces, tokens, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extend_vocabulary(masked_lm, tokenizer_dir, tmp_path / "new", pieces, tokens)
    assert not (tmp_path / "new").exists()


def test_ids_and_models_that_do_not_fit_are_refused(tokenizer_dir, masked_lm, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="used ids contain 5000, expected 0 to"):
        cut_vocabulary(masked_lm, tokenizer_dir, [5000], tmp_path / "cut")
    with pytest.raises(ValueError, match="has no pieces nothing to keep"):
        cut_vocabulary(masked_lm, tokenizer_dir, [5], tmp_path / "cut", keep=["nothing"])
    with pytest.raises(ValueError, match="has no added tokens __xx__ to keep"):
        cut_vocabulary(masked_lm, tokenizer_dir, [5], tmp_path / "cut", tokens=["__xx__"])
    other = VecoForMaskedLM(VecoConfig(**{**masked_lm.config.to_dict(), "vocab_size": 50}))
    with pytest.raises(ValueError, match="pieces, but the model has 50 rows: it is another model's tokenizer"):
        cut_vocabulary(other, tokenizer_dir, [5], tmp_path / "cut")
    with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model: no such file"):
        XlmRVocabulary(tmp_path)
    shutil.copytree(tokenizer_dir, tmp_path / "mixed")
    vocabulary = XlmRVocabulary(tokenizer_dir)
    del vocabulary.proto.pieces[10]
    (tmp_path / "mixed" / MODEL_FILE).write_bytes(vocabulary.proto.SerializeToString())
    with pytest.raises(ValueError, match="mixed: expected XLM-R's layout .* found another"):
        XlmRVocabulary(tmp_path / "mixed")
    (tmp_path / "mixed" / MODEL_FILE).write_bytes(b"junk")
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        XlmRVocabulary(tmp_path / "mixed")


def test_ids_are_counted_over_files(tokenizer_dir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veco.vocabulary.text.LINES_PER_CALL", 7)
    lines = [*sentences(GERMAN, 20, seed=8), "", "ж"]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    (tmp_path / "empty.txt").touch()
    pieces = Pieces.open(tokenizer_dir)
    counts = count_ids(pieces, [tmp_path / name for name in ("a.txt", "b.txt.gz", "empty.txt")])
    ids = [i for line in encode(tokenizer_dir, lines) for i in line]
    assert counts.of_ids.tolist() == (2 * np.bincount(ids, minlength=len(pieces))).tolist()
    assert counts.of_ids[3] == 2 and counts.share([3]) == 1 / len(ids)
    assert counts.num_words == 2 * sum(len(line.split()) for line in lines)
    assert counts.fertility == 2 * len(ids) / counts.num_words

    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt: line 1 is not UTF-8"):
        count_ids(pieces, [tmp_path / "latin.txt"])
    (tmp_path / "short.gz").write_bytes(gzip.compress(b"a b c" * 100)[:-9])
    with pytest.raises(ValueError, match=r"short\.gz: damaged or cut short"):
        count_ids(pieces, [tmp_path / "short.gz"])


@pytest.fixture
def model_dir(tokenizer_dir, masked_lm, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(tokenizer_dir, tmp_path / "model")
    masked_lm.save_pretrained(tmp_path / "model")
    yield tmp_path / "model"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["veco.vocabulary", *map(str, arguments)])
    run_main(main)


def test_cutting_reports_memory_and_what_agrees(model_dir, masked_lm, monkeypatch, capsys, tmp_path: Path) -> None:
    corpus = sentences(GERMAN, 40, seed=9)
    (tmp_path / "corpus.txt").write_text("\n".join(corpus) + "\n", encoding="utf-8")
    text = ("--text", tmp_path / "corpus.txt")
    run(monkeypatch, "cut", model_dir, tmp_path / "cut", *text, "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    cut = VecoForMaskedLM.from_pretrained(tmp_path / "cut")
    for side, model in (("before", masked_lm), ("after", cut)):
        assert report[side]["pieces"] == model.config.vocab_size
        assert report[side]["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert report[side]["bytes"] == 4 * report[side]["parameters"]
    assert report["after"]["bytes"] < report["before"]["bytes"]
    assert report["before"]["pieces_per_word"] == report["after"]["pieces_per_word"]
    assert report["agreement"] == {"lines": 32, "other_pieces": 0, "largest_difference": 0.0}
    out = capsys.readouterr().out
    assert "memory, MB" in out and "of 32 lines differ by at most 0; 0 lines are cut into other pieces" in out

    run(monkeypatch, "cut", model_dir, tmp_path / "rare", *text, "--min-count", "5", "--json", tmp_path / "r.json")
    rare = json.loads((tmp_path / "r.json").read_text())
    assert rare["agreement"]["largest_difference"] == 0 and rare["agreement"]["other_pieces"] > 0
    assert rare["after"]["pieces_per_word"] > rare["before"]["pieces_per_word"]


def test_states_that_differ_are_reported(model_dir, masked_lm) -> None:
    pieces, lines = Pieces.open(model_dir), sentences(GERMAN, 3, seed=9)
    before = States.of(masked_lm, pieces, lines)
    other = copy.deepcopy(masked_lm)
    with torch.no_grad():
        other.veco.layers[-1].feed_forward_norm.bias[0] += 0.5
    agreement = before.agreement(States.of(other, pieces, lines))
    assert agreement.lines == 3 and agreement.largest_difference == pytest.approx(0.5, abs=1e-5)


def test_commands_cut_and_extend_a_model_directory(model_dir, masked_lm, monkeypatch, capsys, tmp_path: Path) -> None:
    corpus = sentences(GERMAN, 30, seed=9)
    (tmp_path / "corpus.txt").write_text("\n".join(corpus) + "\n", encoding="utf-8")
    (tmp_path / "pieces.txt").write_bytes("▁zauzauzau\r\nmomomo\t-4.5\r\n".encode())  # as Windows writes it
    size = masked_lm.config.vocab_size
    write_sentence_files(model_dir, masked_lm.config, 2, "cls", normalise=True)
    run(monkeypatch, "cut", model_dir, tmp_path / "cut", "--text", tmp_path / "corpus.txt", "--tokens", "__de__")
    cut = VecoForMaskedLM.from_pretrained(tmp_path / "cut").eval()
    assert f"{size} ids -> {cut.config.vocab_size}, " in capsys.readouterr().out
    assert as_pieces(tmp_path / "cut", corpus) == as_pieces(model_dir, corpus)
    run(monkeypatch, "cut", model_dir, tmp_path / "rare", "--text", tmp_path / "corpus.txt", "--min-count", "5")
    assert VecoForMaskedLM.from_pretrained(tmp_path / "rare").config.vocab_size < cut.config.vocab_size
    run(
        monkeypatch,
        "extend",
        tmp_path / "cut",
        tmp_path / "new",
        "--pieces",
        tmp_path / "pieces.txt",
        "--tokens",
        "<2>",
    )
    new = VecoForMaskedLM.from_pretrained(tmp_path / "new").eval()
    assert new.config.vocab_size == cut.config.vocab_size + 3 == len(AutoTokenizer.from_pretrained(tmp_path / "new"))
    for name in ("cut", "new"):
        assert AutoTokenizer.from_pretrained(tmp_path / name).model_max_length == 128 == new.config.max_tokens
        assert recorded_settings(tmp_path / name) == (2, "cls", 128, True)
    assert recorded_settings(tmp_path) is None
    with torch.no_grad():
        ids, new_ids = (batch(encode(directory, corpus)) for directory in (model_dir, tmp_path / "new"))
        assert torch.equal(new.veco(new_ids)[0], masked_lm.veco(ids)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cut", "nowhere", "new", "--text", "a.txt"), "nowhere: expected a model directory with a config.json"),
        (("cut", "model", "new", "--text", "none.txt"), "none.txt"),
        (("cut", "model", "model", "--text", "a.txt"), "model: exists already"),
        (("extend", "model", "new", "--pieces", "a.txt"), "a.txt: line 2: expected one more new piece, found ''"),
        (("extend", "model", "new", "--pieces", "b.txt"), "b.txt: line 1: the score 'x' is not a number"),
        (
            ("extend", "model", "new", "--pieces", "c.txt"),
            "c.txt: expected new pieces, one a line, found an empty file",
        ),
    ],
)
def test_bad_input_is_one_line(model_dir, monkeypatch, capsys, tmp_path: Path, arguments, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("momomo\n\n")
    (tmp_path / "b.txt").write_text("momomo\tx\n")
    (tmp_path / "c.txt").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert sorted(tmp_path.iterdir()) == before
