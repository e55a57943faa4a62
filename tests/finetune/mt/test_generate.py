"""Beam search of a tiny random model: scores, batches, limits, and the command with the lines it prints."""

import gzip
import io
import itertools
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from data_tools.cli import run_main
from finetune.mt.generate import (
    SearchOptions,
    Translator,
    decoder_start_id,
    fairseq_lines,
    main,
    normalized_score,
    parse_arguments,
    read_input,
)
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM

ROOT = Path(__file__).parents[3]
SYLLABLES = ["ha", "us", "bau", "kin", "hun", "son", "was", "ser", "geh", "sie", "rot", "alt", "und", "nich", "drei"]
TAGS = ["__de__", "__en__"]
# Beam search with a cache and one forward pass add the same float32 numbers in another order.
SCORE_TOLERANCE = 1e-4


def sentences(number: int, seed: int) -> list[str]:
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 3)))

    return [" ".join(word() for _ in range(rng.randint(1, 12))) for _ in range(number)]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A random model of two directions with its tokenizer, as training would save it."""
    directory = tmp_path_factory.mktemp("model")
    text = directory / "text"
    text.write_text("".join(line + "\n" for line in sentences(300, 1)), encoding="utf-8")
    command = [sys.executable, "-m", "data_tools.train_tokenizer", "--input", str(text), "--vocab-size", "70"]
    subprocess.run([*command, "--output", str(directory / "tokenizer")], check=True, capture_output=True, cwd=ROOT)
    tokenizer = AutoTokenizer.from_pretrained(directory / "tokenizer")
    tokenizer.add_special_tokens({"additional_special_tokens": TAGS})
    tokenizer.save_pretrained(directory / "model")
    torch.manual_seed(1)
    config = VecoConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        decoder_layers=2,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("__de__"),
        initializer_range=0.7,  # far from uniform, so that beams differ and none are tied
    )
    VecoForConditionalGeneration(config).save_pretrained(directory / "model")
    yield directory / "model"


def translator(model_dir: Path, **options: float) -> Translator:
    return Translator.load(model_dir, replace(SearchOptions(), **options))


def encoded(translator: Translator, lines: list[str]) -> list[list[int]]:
    return [translator.tokenizer(line)["input_ids"] for line in lines]


@pytest.mark.parametrize(("beam", "lenpen"), [(2, 1.0), (5, 0.6), (5, 1.5)])
def test_beam_score_is_the_rescored_one(model_dir: Path, beam: int, lenpen: float) -> None:
    ours = translator(model_dir, beam=beam, lenpen=lenpen, nbest=2)
    sources = encoded(ours, sentences(6, 2))
    found = ours.search(sources)
    ours.model.generation_config.output_scores = True  # makes transformers return its scores of the beams, in nats
    ours.model.generation_config.return_dict_in_generate = True
    beam_scores = iter((ours._run_search(sources).sequences_scores / math.log(2)).tolist())
    for source, hypotheses in zip(sources, found, strict=True):
        for positional in ours.score([source] * 2, hypotheses):
            assert normalized_score(positional, lenpen) == pytest.approx(next(beam_scores), abs=SCORE_TOLERANCE)


def test_scores_by_hand_from_the_probabilities(model_dir: Path) -> None:
    ours = translator(model_dir, lenpen=0.5)
    (hypothesis,) = ours.translate(["haus und hund"])[0]
    tokenizer, model = ours.tokenizer, ours.model
    source = torch.tensor([tokenizer("haus und hund")["input_ids"]])
    decoder_input = torch.tensor([[tokenizer.convert_tokens_to_ids("__de__"), *hypothesis.ids[:-1]]])
    with torch.no_grad():
        probabilities = model(input_ids=source, decoder_input_ids=decoder_input).logits[0].double().softmax(dim=1)
    expected = [math.log2(probabilities[t, piece]) for t, piece in enumerate(hypothesis.ids)]
    assert hypothesis.positional_scores == pytest.approx(expected, abs=SCORE_TOLERANCE)
    assert hypothesis.score == pytest.approx(sum(expected) / math.sqrt(len(hypothesis.ids)), abs=SCORE_TOLERANCE)
    assert hypothesis.ids[-1] == tokenizer.eos_token_id
    assert hypothesis.pieces.split() == tokenizer.convert_ids_to_tokens(hypothesis.ids[:-1])


def test_lenpen_is_the_exponent_of_the_length() -> None:
    assert normalized_score([-1.0, -2.0, -3.0, -2.0], 1.0) == -2.0
    assert normalized_score([-1.0, -2.0, -3.0, -2.0], 0.5) == -4.0
    assert normalized_score([-1.0, -2.0, -3.0, -2.0], 0.0) == -8.0
    assert normalized_score([], 1.0) == 0.0


def test_larger_lenpen_gives_longer_translations(model_dir: Path) -> None:
    lines = sentences(20, 3)
    lengths = [
        sum(len(hypotheses[0].ids) for hypotheses in translator(model_dir, lenpen=lenpen).translate(lines, False))
        for lenpen in (0.0, 1.0, 3.0)
    ]
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]


@pytest.mark.parametrize("beam", [1, 4])
def test_batch_is_single_and_order_is_restored(model_dir: Path, beam: int) -> None:
    lines = [*sentences(15, 4), "", "  ", "haus"]
    # float64: a random model has beams that differ by 1e-6 only, which the noise of float32 between shapes would swap.
    translators = [
        Translator.load(model_dir, SearchOptions(beam=beam, max_tokens=max_tokens), torch.float64)
        for max_tokens in (400, 40)
    ]
    together, small = [ours.translate(lines) for ours in translators]
    alone = [translators[0].translate([line])[0] for line in lines]
    for one, two, three in zip(together, small, alone, strict=True):
        assert one[0].ids == two[0].ids == three[0].ids
        assert one[0].score == pytest.approx(three[0].score, abs=SCORE_TOLERANCE)
    assert [hypotheses[0].text for hypotheses in together[-3:-1]] == ["", ""]
    assert together[-3][0].ids == [] and together[-1][0].ids
    assert len({hypotheses[0].text for hypotheses in together}) > 5  # the model does tell sentences apart


def test_beam_one_is_greedy(model_dir: Path) -> None:
    ours = translator(model_dir, beam=1)
    forbidden = ours._forbidden_V
    for line in sentences(5, 5):
        (hypothesis,) = ours.translate([line])[0]
        (source,) = encoded(ours, [line])
        ids = [ours.decoder_start_token_id]
        while ids[-1] != 2:
            with torch.no_grad():
                logits = ours.model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids])).logits[
                    0, -1
                ]
            logits[forbidden] = -math.inf
            if len(ids) == 1:
                logits[2] = -math.inf
            ids.append(2 if len(ids) - 1 == ours._max_pieces(len(source) - 2) else int(logits.argmax()))
        assert hypothesis.ids == ids[1:]


def test_limits(model_dir: Path) -> None:
    lines = sentences(10, 6)
    options = {"max_len_a": 0.5, "max_len_b": 2, "nbest": 3, "lenpen": 3.0, "no_repeat_ngram": 2}
    ours = translator(model_dir, **options)
    special = set(ours.tokenizer.all_special_ids) - {2, 3}
    at_limit = 0
    for source, hypotheses in zip(encoded(ours, lines), ours.translate(lines), strict=True):
        assert len({tuple(hypothesis.ids) for hypothesis in hypotheses}) == 3
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for hypothesis in hypotheses:
            pieces = hypothesis.ids[:-1]
            limit = int(0.5 * (len(source) - 2) + 2)
            at_limit += len(pieces) == limit
            assert 1 <= len(pieces) <= limit
            assert not special & set(pieces) and hypothesis.ids[-1] == 2
            bigrams = list(itertools.pairwise(pieces))
            assert len(bigrams) == len(set(bigrams))
    assert at_limit  # the limit was put to the test


def test_long_lines_are_cut_and_counted(model_dir: Path) -> None:
    ours = translator(model_dir, max_len_b=100)
    longest = ours.model.config.max_tokens
    found = ours.translate(["haus " * 60, "baum"])
    assert ours.num_cut_lines == 1
    assert all(1 < len(hypotheses[0].ids) <= longest for hypotheses in found)


def test_unknown_pieces_and_special_strings(model_dir: Path) -> None:
    ours = translator(model_dir)
    unknown = ours.tokenizer.unk_token_id
    assert "<unk>" in ours._hypothesis([unknown, 2], []).text
    (source,) = ours._source_ids(["haus </s> <pad> __en__ baum"])
    assert source[0] == 0 and source[-1] == 2
    assert not set(source[1:-1]) & (set(ours.tokenizer.all_special_ids) - {unknown})


def test_target_language(model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    assert decoder_start_id(tokenizer, 5, None, model_dir) == 5
    assert decoder_start_id(tokenizer, 5, "en", model_dir) == tokenizer.convert_tokens_to_ids("__en__")
    with pytest.raises(ValueError, match=r"no tag __fr__ .* it has: de, en"):
        decoder_start_id(tokenizer, 5, "fr", model_dir)
    with pytest.raises(ValueError, match="name the --target-language"):
        decoder_start_id(tokenizer, None, None, model_dir)
    options = SearchOptions()
    german = Translator.load(model_dir, options).translate(["drei kind"])
    english = Translator.load(model_dir, options, target_language="en").translate(["drei kind"])
    assert german[0][0].score != english[0][0].score


def test_command_prints_fairseq_lines_and_writes_plain_text(model_dir: Path, tmp_path: Path) -> None:
    lines = [*sentences(5, 7), ""]
    with gzip.open(tmp_path / "source.gz", "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    (tmp_path / "reference").write_text("".join(f"{line} .\n" for line in lines), encoding="utf-8")
    flags = ["--input", tmp_path / "source.gz", "--reference", tmp_path / "reference", "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "finetune.mt.generate", model_dir, *flags, "--beam", 3, "--lenpen", 0.7]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    expected = translator(model_dir, beam=3, lenpen=0.7).translate(lines)
    printed = result.stdout.split("\n")[:-1]
    assert [line.partition("\t")[0] for line in printed] == [f"{kind}-{i}" for i in range(6) for kind in "STHDP"]
    for i, (line, (hypothesis,)) in enumerate(zip(lines, expected, strict=True)):
        source, reference, pieces, text, positions = [row.split("\t") for row in printed[5 * i : 5 * i + 5]]
        assert source[1] == line and reference[1] == f"{line} ."
        assert float(pieces[1]) == float(text[1]) == pytest.approx(hypothesis.score, abs=SCORE_TOLERANCE)
        assert pieces[2] == hypothesis.pieces and text[2] == hypothesis.text
        scores = [float(score) for score in positions[1].split()]
        assert len(scores) == len(hypothesis.ids)
        if scores:  # four digits are printed of each
            assert normalized_score(scores, 0.7) == pytest.approx(float(pieces[1]), abs=2e-4 * len(scores) ** 0.3)
    plain = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
    assert plain == [*(hypotheses[0].text for hypotheses in expected), ""]
    assert plain[5] == "" and len(plain) == 7  # the empty line keeps its place
    assert "words/s" in result.stderr and "sacreBLEU" in result.stderr and "tok:13a" in result.stderr
    assert not list(tmp_path.glob(".out*"))


def test_command_reads_standard_input_quietly(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"haus\n\nrot und alt\r\n")))
    monkeypatch.setattr(
        sys, "argv", ["generate", str(model_dir), *["--input", "-", "--quiet", "--beam", "2", "--dtype", "bfloat16"]]
    )
    main()
    printed = capsys.readouterr().out.split("\n")
    assert len(printed) == 4 and printed[1] == ""  # a line for each of three, and nothing but translations


def test_fairseq_lines_to_the_character(model_dir: Path) -> None:
    (hypothesis,) = translator(model_dir).translate([""])[0]
    assert list(fairseq_lines(7, "", None, [hypothesis])) == ["S-7\t", "H-7\t0.0\t", "D-7\t0.0\t", "P-7\t"]
    scored = replace(hypothesis, ids=[9, 2], pieces="▁a", text="a", positional_scores=[-1.0, -0.00004], score=-0.50002)
    assert list(fairseq_lines(0, "b", "c", [scored])) == [
        "S-0\tb",
        "T-0\tc",
        "H-0\t-0.50002\t▁a",
        "D-0\t-0.50002\ta",
        "P-0\t-1.0000 -0.0000",
    ]


def test_bad_input(model_dir: Path, tmp_path: Path) -> None:
    options = SearchOptions()
    with pytest.raises(ValueError, match=r"none: no config\.json"):
        Translator.load(tmp_path / "none", options)
    bare = tmp_path / "bare"
    VecoForConditionalGeneration.from_pretrained(model_dir).save_pretrained(bare)
    with pytest.raises(ValueError, match="bare: no tokenizer"):
        Translator.load(bare, options)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    config = VecoConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=72)
    VecoForMaskedLM(config).save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(tmp_path / "mlm")
    with pytest.raises(ValueError, match="holds VecoForMaskedLM, expected VecoForConditionalGeneration"):
        Translator.load(tmp_path / "mlm", options)
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(bare)
    with pytest.raises(ValueError, match=r"tokenizer has 73 pieces but the model 72"):
        Translator.load(bare, options)
    with pytest.raises(ValueError, match=r"beam must be at least 1, found 0; nbest must be .* max_len_b must be"):
        SearchOptions(beam=0, max_len_b=0)
    (tmp_path / "empty").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="empty has no line"):
        read_input(str(tmp_path / "empty"))
    assert parse_arguments(["M", "--input", "F"]).beam == 5


def test_bad_command_is_one_line(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").write_text("haus\n", encoding="utf-8")
    (tmp_path / "two").write_text("haus\nbaum\n", encoding="utf-8")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    for flags, message in [
        (["--input", str(tmp_path / "none")], "none: No such file"),
        (["--input", one, "--output", str(tmp_path / "no" / "out")], "the directory to write to does not exist"),
        (["--input", one, "--reference", two], "one has 1 lines but"),
        (["--input", one, "--beam", "0"], "beam must be at least 1"),
        (["--input", one, "--target-language", "xx"], "no tag __xx__"),
    ]:
        monkeypatch.setattr(sys, "argv", ["generate", str(model_dir), *flags])
        with pytest.raises(SystemExit) as stopped:
            run_main(main)
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and message in printed.err and printed.out == ""
        assert printed.err.count("\n") == 1 and printed.err.startswith("error: "), printed.err
