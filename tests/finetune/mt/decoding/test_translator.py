"""Lines to translations: order, empty and long lines, tags, tokenizers that do not match, scores of given texts."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_translation import sentences, toy_model
from transformers import AutoTokenizer

from finetune.mt.decoding.beam_search import Found, SearchOptions
from finetune.mt.decoding.generators import TorchGenerator
from finetune.mt.decoding.translator import Translator, check_model, decoder_start_id, tag_of
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM

SCORE_TOLERANCE = 1e-4


def translator(model_dir: Path, **options: float) -> Translator:
    return Translator.load(model_dir, replace(SearchOptions(), **options))


def test_scores_by_hand_from_the_probabilities(model_dir: Path) -> None:
    ours = translator(model_dir, lenpen=0.5)
    (hypothesis,) = ours.translate(["haus und hund"])[0]
    tokenizer = ours.tokenizer
    model = VecoForConditionalGeneration.from_pretrained(model_dir).eval()
    source = torch.tensor([tokenizer("haus und hund")["input_ids"]])
    decoder_input = torch.tensor([[tokenizer.convert_tokens_to_ids("__de__"), *hypothesis.ids[:-1]]])
    with torch.no_grad():
        probabilities = model(input_ids=source, decoder_input_ids=decoder_input).logits[0].double().softmax(dim=1)
    expected = [math.log2(probabilities[t, piece]) for t, piece in enumerate(hypothesis.ids)]
    assert hypothesis.positional_scores == pytest.approx(expected, abs=SCORE_TOLERANCE)
    assert hypothesis.score == pytest.approx(sum(expected) / math.sqrt(len(hypothesis.ids)), abs=SCORE_TOLERANCE)
    assert hypothesis.ids[-1] == tokenizer.eos_token_id
    assert hypothesis.pieces.split() == tokenizer.convert_ids_to_tokens(hypothesis.ids[:-1])


def test_order_is_restored_whatever_the_batches(model_dir: Path) -> None:
    lines = [*sentences(15, 4), "", "  ", "haus"]
    loaded = [
        Translator.load(model_dir, SearchOptions(max_tokens=max_tokens), torch.float64) for max_tokens in (400, 40, 1)
    ]
    results = [[hypotheses[0] for hypotheses in ours.translate(lines)] for ours in loaded]
    for one, two, three in zip(*results, strict=True):
        assert one.ids == two.ids == three.ids
        assert one.score == pytest.approx(three.score, abs=1e-9)
    assert [hypothesis.text for hypothesis in results[0][-3:-1]] == ["", ""] and results[0][-1].ids
    assert loaded[0].num_empty_lines == 2 and loaded[0].num_cut_lines == 0
    done: list[int] = []
    loaded[1].translate(lines, progress=done.append)
    assert sum(done) == 16 and len(done) > 3  # empty lines are none of the work


def test_given_translations_have_the_scores_of_found_ones(model_dir: Path) -> None:
    ours = translator(model_dir, beam=3, lenpen=0.7, max_tokens=60)
    lines = sentences(12, 8)
    found = [hypotheses[0] for hypotheses in ours.translate(lines)]
    # Pieces may be cut otherwise once they are text; those that are not must score the same.
    given = [hypotheses[0] for hypotheses in ours.score(lines, [hypothesis.text for hypothesis in found])]
    same = [(one, other) for one, other in zip(found, given, strict=True) if one.ids == other.ids]
    assert len(same) >= 3
    for one, other in same:
        assert one.positional_scores == pytest.approx(other.positional_scores, abs=SCORE_TOLERANCE)
        assert one.score == pytest.approx(other.score, abs=SCORE_TOLERANCE)
    worse = ours.score(lines[:1], ["drei drei drei drei"])[0][0]
    assert worse.score < given[0].score
    # An empty line is scored like others: as nothing but </s>.
    ((empty,), (nothing,)) = ours.score([lines[0], ""], ["", ""])
    assert len(empty.ids) == len(nothing.ids) == 1 and empty.score < 0 and nothing.score < 0


def test_long_lines_are_truncated_and_counted(model_dir: Path) -> None:
    ours = translator(model_dir, max_len_b=100)
    longest = ours.generator.max_tokens
    found = ours.translate(["haus " * 60, "baum"])
    assert ours.num_cut_lines == 1
    assert all(1 < len(hypotheses[0].ids) <= longest for hypotheses in found)
    ((scored,),) = ours.score(["baum"], ["haus " * 60])
    assert ours.num_cut_lines == 2 and len(scored.ids) == longest


def test_unknown_pieces_and_special_strings(model_dir: Path) -> None:
    ours = translator(model_dir)
    unknown = ours.tokenizer.unk_token_id
    assert "<unk>" in ours.hypothesis(Found([unknown, 2], [])).text
    (source,) = ours.source_ids(["haus </s> <pad> __en__ baum"])
    assert source[0] == 0 and source[-1] == 2
    assert not set(source[1:-1]) & (set(ours.tokenizer.all_special_ids) - {unknown})


def test_unknown_pieces_of_references_are_written_as_fairseq_does(model_dir: Path) -> None:
    """As `<<unk>>` they match no translation, in BLEU computed from T- and H-lines."""
    ours = translator(model_dir)
    unknown = ours.tokenizer.unk_token_id
    line = "haus \u4e00 hund"
    pieces = ours.reference(line, as_text=False).split()
    assert pieces.count("<<unk>>") == 1 and "<unk>" not in pieces
    assert ours.source_as_pieces(line).split() == [piece.replace("<<unk>>", "<unk>") for piece in pieces]
    assert ours.reference(line, as_text=True) == "haus <<unk>> hund"
    ids = ours.tokenizer(line, add_special_tokens=False)["input_ids"]
    assert unknown in ids and ours.hypothesis(Found([*ids, 2], [])).text == "haus <unk> hund"


def test_a_tokenizer_that_has_pieces_for_every_word(model_dir: Path) -> None:
    """Without an unknown piece none is penalised, and none is marked."""
    lines = sentences(3, 5)
    expected, ours = translator(model_dir).translate(lines), translator(model_dir, unkpen=9.0)
    assert isinstance(ours.generator, TorchGenerator)
    ours.generator.target = replace(ours.generator.target, unk=None)
    assert ours.translate(lines) == expected
    ours.tokenizer.unk_token = None
    assert ours.reference("haus hund", as_text=True) == "haus hund"


def test_a_model_with_its_own_special_tokens_around_sentences(model_dir: Path, tmp_path: Path) -> None:
    """Sources without <s>, followed by a tag; translations that end with a tag, after a </s> that is a piece."""
    shutil.copytree(model_dir, tmp_path / "model")
    frame = {"source_prefix_ids": [], "source_suffix_ids": [2, 71], "target_suffix_ids": [2, 70]}
    toy_model(model_dir, **frame).save_pretrained(tmp_path / "model")
    ours, usual = translator(tmp_path / "model", max_len_a=1, max_len_b=3), translator(model_dir)
    (source,), (expected,) = ours.source_ids(["haus hund"]), usual.source_ids(["haus hund"])
    assert source == [*expected[1:], 71] and ours.target_ids(["haus hund"]) == [[*expected[1:], 70]]
    assert ours.source_as_pieces("haus hund") == usual.source_as_pieces("haus hund") + " __en__"
    assert ours.longest(len(source)) == len(source) + 3
    ((hypothesis,),) = ours.translate(["haus hund"])
    assert hypothesis.ids[-1] == 70 and 70 not in hypothesis.ids[:-1] and "__de__" not in hypothesis.text
    found = ours.hypothesis(Found([*expected[1:], 70], []))
    assert (found.pieces, found.text) == (usual.source_as_pieces("haus hund"), "haus hund")
    assert ours.reference("haus hund", as_text=True) == "haus hund"
    long = ours.source_ids(["haus " * 60])[0]
    assert len(long) == ours.generator.max_tokens and long[-2:] == [2, 71]


def test_a_tag_that_is_unk_hides_no_unknown_piece(model_dir: Path, tmp_path: Path) -> None:
    """If the dictionary lacks the tag, `<unk>` follows a target; only that one is removed."""
    shutil.copytree(model_dir, tmp_path / "model")
    frame = {"source_prefix_ids": [], "source_suffix_ids": [2, 3], "target_suffix_ids": [2, 3]}
    toy_model(model_dir, decoder_start_token_id=3, **frame).save_pretrained(tmp_path / "model")
    ours = translator(tmp_path / "model")
    line = "haus \u4e00 hund"
    assert ours.reference(line, as_text=True) == "haus <<unk>> hund"
    assert ours.reference(line, as_text=False).split().count("<<unk>>") == 1
    ((scored,),) = ours.score(["haus"], [line])
    assert scored.text == "haus <unk> hund" and "<unk>" in scored.pieces.split()
    assert len(scored.positional_scores) == len(scored.pieces.split()) + 2
    haus = ours.tokenizer("haus", add_special_tokens=False)["input_ids"]
    for ids in ([*haus, 3], [*haus, 2, 3], [*haus, 2, 2, 3], [2, *haus, 2, 3]):
        assert ours.hypothesis(Found(ids, [])).text == "haus"
    assert ours.frame.pieces([*haus, 3, 3]) == [*haus, 3] and ours.frame.pieces([3]) == []


def test_only_target_language_of_a_converted_model(model_dir: Path, tmp_path: Path) -> None:
    """It needs no tag, accepts any code of its language, refuses others, and determines the language of scores."""
    shutil.copytree(model_dir, tmp_path / "model")
    toy_model(model_dir, decoder_start_token_id=2, target_language="zh").save_pretrained(tmp_path / "model")
    for code in ("zh", "zho_Hans", "zh_CN", None):
        assert check_model(tmp_path / "model", code)[1] == 2
    for code in ("de", "ja"):
        with pytest.raises(ValueError, match=rf"^--target-language {code}: .*model translates into zh and nothing"):
            check_model(tmp_path / "model", code)
    assert translator(tmp_path / "model").target_language == "zh"


def test_a_model_without_start_and_tags(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer = SimpleNamespace(all_special_tokens=[one for one in tokenizer.all_special_tokens if one[0] != "_"])
    for language in (None, "de"):
        with pytest.raises(ValueError, match=r"form of its sentences is not set; convert it again: .* --set task=…"):
            decoder_start_id(tokenizer, None, language, model_dir)


def test_target_language(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    assert decoder_start_id(tokenizer, 5, None, model_dir) == 5
    assert decoder_start_id(tokenizer, 5, "en", model_dir) == tokenizer.convert_tokens_to_ids("__en__")
    for code in ("EN", "eng", "eng_Latn", "en_XX", "en-US"):
        assert decoder_start_id(tokenizer, 5, code, model_dir) == tokenizer.convert_tokens_to_ids("__en__")
    assert [tag_of(tokenizer, code) for code in ("en", "eng_Latn", "en_GB", "zho_Hans")] == [
        *("__en__", "__en__", "__en_GB__", "__zho_Hans__")
    ]
    with pytest.raises(ValueError, match=r"no tag __fr__ .* it has: de, en"):
        decoder_start_id(tokenizer, 5, "fr", model_dir)
    with pytest.raises(ValueError, match="name the --target-language, one of de, en"):
        decoder_start_id(tokenizer, None, None, model_dir)
    tokenizer.add_special_tokens({"additional_special_tokens": ["__bt__"]}, replace_extra_special_tokens=False)
    with pytest.raises(ValueError, match=r"no tag __bt__ .* it has: de, en$"):
        decoder_start_id(tokenizer, 5, "bt", model_dir)
    german = Translator.load(model_dir, SearchOptions()).translate(["drei kind"])
    english = Translator.load(model_dir, SearchOptions(), target_language="en").translate(["drei kind"])
    assert german[0][0].score != english[0][0].score


def test_directories_that_are_not_translation_models(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: no config\.json"):
        check_model(tmp_path / "none", None)
    toy_model(model_dir).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="bare: no tokenizer"):
        check_model(tmp_path / "bare", None)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    config = VecoConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=72)
    VecoForMaskedLM(config).save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(tmp_path / "mlm")
    with pytest.raises(ValueError, match="holds VecoForMaskedLM, expected VecoForConditionalGeneration"):
        check_model(tmp_path / "mlm", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 71, "decoder_start_token_id": 70}, "the tokenizer has 72 pieces but the model 71"),
        ({"vocab_size": 90, "decoder_start_token_id": 80}, "decoder starts with id 80 but the tokenizer has 72 pieces"),
        ({"bos_token_id": 5}, r"special tokens of the tokenizer are \{'bos': 0.* but the model's \{'bos': 5"),
    ],
)
def test_tokenizer_of_another_model(model_dir: Path, tmp_path: Path, changes: dict[str, int], message: str) -> None:
    directory = tmp_path / "model"
    shutil.copytree(model_dir, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=rf"{message}.*: they do not belong together"):
        check_model(directory, None)


def test_weights_that_are_missing_or_damaged_are_refused(model_dir: Path, tmp_path: Path) -> None:
    """transformers would draw them at random."""
    directory = tmp_path / "model"
    shutil.copytree(model_dir, directory)
    weights = load_file(directory / "model.safetensors")
    last = max(name for name in weights if name.startswith("decoder.layers."))
    save_file({name: weight for name, weight in weights.items() if name != last}, directory / "model.safetensors")
    with pytest.raises(ValueError, match=f"lacks weights of VecoForConditionalGeneration: {last}$"):
        Translator.load(directory, SearchOptions())
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="model: weights that are not safetensors"):
        Translator.load(directory, SearchOptions())


def test_rows_without_a_piece_are_never_chosen(model_dir: Path) -> None:
    model = toy_model(model_dir, vocab_size=80)
    with torch.no_grad():
        model.lm_head.decoder.bias[72:] = 50.0  # they are likelier than all others
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    ours = Translator.of_model(model, tokenizer, SearchOptions(nbest=5), model.config.decoder_start_token_id)
    for hypotheses in ours.translate(sentences(3, 9)):
        assert all(max(hypothesis.ids) < 70 for hypothesis in hypotheses)
