"""Models converted from fairseq translate as fairseq does: as its search done slowly, and as it printed itself."""

from __future__ import annotations

import gzip
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq_checkpoints import PAD, Reference, V, save, veco_args, write_dictionary

from data_tools.import_tokenizer import main as import_tokenizer
from finetune.mt.decoding.beam_search import SearchOptions, TargetIds
from finetune.mt.decoding.ct2 import load_ct2
from finetune.mt.decoding.generators import PairBatch, SourceBatch, TorchGenerator
from finetune.mt.decoding.translator import Translator
from finetune.mt.decoding.workers import Workers
from finetune.mt.export_ct2 import export
from finetune.mt.generate import main as generate
from finetune.mt.special_tokens import Frame
from veco.convert import from_fairseq
from veco.convert.__main__ import main as convert

EOS, UNK = 2, 3
FORMS = {"plain": "translation", "tagged": "translation_from_pretrained_veco"}
# H-lines of fairseq's models, in base 2.
SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Slow:
    """fairseq's beam search, one sentence and one hypothesis at a time."""

    model: Reference
    end: int
    options: SearchOptions

    def search(self, source: list[int]) -> list[tuple[float, list[int]]]:
        """(score, ids) of each hypothesis, best first."""
        options = self.options
        source_ids = torch.tensor([source])
        states = self.model.encode(source_ids)
        limit = int(options.max_len_a * len(source) + options.max_len_b)
        going_on: list[tuple[float, list[int]]] = [(0.0, [])]
        ended: list[tuple[float, list[int]]] = []
        for step in range(limit + 1):
            candidates = []
            for total, ids in going_on:
                inputs = torch.tensor([[self.end, *ids]])
                log_probs = self.model.decode(inputs, states, source_ids, is_causal=True)[0, -1].log_softmax(0).tolist()
                log_probs[UNK] -= options.unkpen
                allowed = {self.end} if step == limit else set(range(V)) - {PAD} - ({self.end} if step == 0 else set())
                candidates += [(total + log_probs[i], [*ids, i]) for i in allowed]
            best = sorted(candidates, reverse=True)[: 2 * options.beam]
            for total, ids in best[: options.beam]:
                if ids[-1] == self.end and len(ended) < options.beam:
                    ended.append((total / len(ids) ** options.lenpen, ids))
            if len(ended) == options.beam:
                break
            going_on = [(total, ids) for total, ids in best if ids[-1] != self.end][: options.beam]
        return sorted(ended, reverse=True)


def decisive_reference(task: str) -> Reference:
    """A random model that sometimes ends its translations."""
    torch.manual_seed(11)
    model = Reference(2, scaled=True).eval().double()
    with torch.no_grad():
        if task == FORMS["tagged"]:
            model.tokens.weight[V - 1] *= -1.6  # the start token's own row: as it is, it hardly ever comes again
        else:
            model.tokens.weight[EOS] *= 2
    return model


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(beam=4, nbest=4, max_len_a=0, max_len_b=8),
        SearchOptions(beam=3, nbest=3, max_len_a=1, max_len_b=1, lenpen=0.6, unkpen=1.5),
        SearchOptions(beam=1, max_len_a=0.5, max_len_b=3, unkpen=-3),
    ],
    ids=["four", "three", "greedy"],
)
def test_hypotheses_are_those_of_fairseqs_search(tmp_path: Path, form: str, options: SearchOptions) -> None:
    """All of them, with their scores; sources have the form in the converted configuration."""
    reference = decisive_reference(FORMS[form])
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args(task=FORMS[form]))
    model = from_fairseq(path, write_dictionary(tmp_path / "dict.txt", V - 6, "[en]", "[de]")).double()
    reference = reference.float().double()  # as the conversion has it
    frame = Frame.of(model.config, SimpleNamespace(cls_token_id=0, sep_token_id=EOS, pad_token_id=PAD))
    end = V - 1 if form == "tagged" else EOS
    generator = TorchGenerator(model, TargetIds(end, frame.end, UNK, [PAD]), options, PAD)
    torch.manual_seed(12)
    pieces = [torch.randint(4, V - 2, (length,)).tolist() for length in (3, 9, 5, 7, 4, 8)]
    tail = [EOS, V - 2] if form == "tagged" else [EOS]
    sources = [frame.source(row) for row in pieces]
    assert sources == [[*row, *tail] for row in pieces] and frame.end == end
    limits = [options.max_pieces(len(source), generator.max_tokens) for source in sources]
    with torch.no_grad():
        (found,) = generator.search([SourceBatch(sources, limits)], with_scores=True)
        expected = [Slow(reference, end, options).search(source) for source in sources]
    assert [[one.ids for one in hypotheses] for hypotheses in found] == [[ids for _, ids in rows] for rows in expected]
    for hypotheses, rows in zip(found, expected, strict=True):
        scores = [one.score(options.lenpen) for one in hypotheses]
        assert scores == pytest.approx([score for score, _ in rows], abs=1e-9)
    if not options.unkpen:
        best = [hypotheses[0] for hypotheses in found]
        (scored,) = generator.score([PairBatch(sources, [one.ids for one in best])])
        for one, log_probs in zip(best, scored, strict=True):
            assert one.log_probs == pytest.approx(log_probs, abs=1e-9)
    assert len({len(one.ids) for hypotheses in found for one in hypotheses}) > (2 if options.beam > 1 else 1)


CORPORA = os.environ.get("VECO_CORPORA")
ORACLES = {"transformer": "transformer-0.12.2.pt", "veco": "veco-0.9.pt"}


def lines_by_name(text: str) -> dict[str, list[str]]:
    """The other columns of fairseq's lines by the first, such as `H-7`."""
    rows = (line.split("\t") for line in text.splitlines())
    return {name: columns for name, *columns in rows}


@pytest.mark.skipif(not CORPORA, reason="VECO_CORPORA is not set")
@pytest.mark.parametrize("name", ORACLES)
def test_fairseqs_own_output(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 400 sentences all sources, references and hypotheses, and the scores; CTranslate2 finds the same."""
    oracle = Path(str(CORPORA)) / "oracle" / "fairseq"
    dictionary = ["--dictionary", oracle / "dict.txt"]
    tokenizer, model, exported = tmp_path / "tokenizer", tmp_path / "model", tmp_path / "ct2"
    files = ["--input", oracle / "source.en.gz", "--reference", oracle / "reference.de.gz"]
    commands = [
        (import_tokenizer, [oracle / "sentencepiece.bpe.model", *dictionary, "--output", tokenizer]),
        (convert, ["fairseq", oracle / ORACLES[name], model, *dictionary, "--tokenizer", tokenizer]),
        (generate, [model, *files, "--max-len-a", 0, "--max-len-b", 200]),  # of fairseq
    ]
    for main, arguments in commands:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        main()
    printed = capsys.readouterr()
    assert "sacreBLEU 40." in printed.err
    with gzip.open(oracle / f"{name}.generate.gz", "rt", encoding="utf-8") as file:
        expected = lines_by_name(file.read())
    ours = lines_by_name(printed.out)
    for kind in "STH":
        theirs = {line: columns[-1] for line, columns in expected.items() if line.startswith(kind)}
        assert len(theirs) == 400 and theirs == {line: ours[line][-1] for line in theirs}
    for line in (line for line in expected if line.startswith("H")):
        assert float(ours[line][0]) == pytest.approx(float(expected[line][0]), abs=SCORE_TOLERANCE)
        positions, wanted = (lines[line.replace("H", "P")][0].split() for lines in (ours, expected))
        assert [*map(float, positions)] == pytest.approx([*map(float, wanted)], abs=SCORE_TOLERANCE + 5e-5)  # rounded

    export(model, exported, "float32")
    options = SearchOptions()
    with gzip.open(oracle / "source.en.gz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    found = load_ct2(exported, options, None, Workers()).translate(lines)
    assert {f"H-{i}": one[0].pieces for i, one in enumerate(found)} == {
        line: columns[-1] for line, columns in expected.items() if line.startswith("H")
    }
    again = Translator.load(model, options).translate(lines)
    for (one, *_), (two, *_) in zip(found, again, strict=True):
        assert one.ids == two.ids and math.isclose(one.score, two.score, abs_tol=SCORE_TOLERANCE)
