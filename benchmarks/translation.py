"""Speed of decoding: our beam search against transformers', and CTranslate2 against our beam search.

    python benchmarks/translation.py search                  random weights, beam 5, the same number of steps (minutes)
    python benchmarks/translation.py engines                 random weights, beam 5: torch, CTranslate2 float32 and int8
    python benchmarks/translation.py text --model MODEL --input FILE --reference FILE     a trained model, with BLEU
    python benchmarks/translation.py --quick                 the first two in tiny shapes, as a check (seconds)

search   finetune.mt's search on a VECO against transformers' generate() on a Marian of the same size. Both make the
         same number of steps.
engines  finetune.mt's engines on the same VECO and the same sentences, exported to a temporary directory.
text     the same engines on real sentences from text to text, with sacreBLEU of each; with --shortlist also int8 with
         a shortlist. The first row is the baseline.

Speeds are sentences per second, medians of repeats in turn. A ratio above 1 is that much faster than the baseline.
Run it on an idle machine, with as many threads as there are cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from model import (
    BEAMS,
    QUICK,
    Measurement,
    Sizes,
    generation_models,
    generation_options,
    generation_sources,
    medians,
    show,
)
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import check_outputs
from data_tools.text.lines import open_text
from finetune.mt.decoding.beam_search import SearchOptions
from finetune.mt.decoding.ct2 import load_ct2
from finetune.mt.decoding.generators import SequenceGenerator, SourceBatch
from finetune.mt.decoding.translator import Translator
from finetune.mt.decoding.workers import Workers
from finetune.mt.export_ct2 import export
from finetune.mt.score import sacrebleu_score
from training.launch import quiet_libraries
from veco import VecoForConditionalGeneration

PARTS = ("search", "engines", "text")
DTYPES = {"torch float32": torch.float32, "torch bfloat16": torch.bfloat16}
QUANTIZATIONS = {"ct2 float32": "float32", "ct2 int8": "int8"}
BASELINE = "torch float32"
SHORTLISTED = "ct2 int8, shortlist"
TARGETS = {"ct2 int8": ">= 4", SHORTLISTED: ">= 4"}


def compared_speeds(what: str, seconds: dict[str, float], num_sentences: int, peer: str, target: str) -> Measurement:
    """A row with sentences per second."""
    ours, theirs = num_sentences / seconds["ours"], num_sentences / seconds["peer"]
    print(f"{what}: {ours:.4g} sentences/s, peer {theirs:.4g}, ratio {ours / theirs:.2f}", file=sys.stderr, flush=True)
    return {
        "what": f"{what}, sentences/s",
        "ours": round(ours, 2),
        "peer": round(theirs, 2),
        "ratio": round(ours / theirs, 2),
        "target": target,
        "peer is": peer,
    }


def fixed_options(sizes: Sizes) -> SearchOptions:
    """Beam search of exactly `target_tokens` steps, of which the last chooses `</s>`."""
    steps, one_batch = sizes.target_tokens - 1, sizes.sentences * (sizes.source_tokens + 2)  # <s> and </s>
    return SearchOptions(beam=BEAMS, min_len=steps, max_len_a=0, max_len_b=steps, max_tokens=one_batch)


def made_up_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with that many pieces, never used on text; id 4 is the language tag."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "__xx__", *(f"p{i}" for i in range(5, vocab_size))]
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names, additional_special_tokens=["__xx__"])


def batch_of(sizes: Sizes) -> SourceBatch:
    """The sentences of `generation_sources` in the engines' form."""
    ids, mask = generation_sources(sizes)
    sources = [[0, *row[is_token].tolist(), 2] for row, is_token in zip(ids, mask.bool(), strict=True)]
    return SourceBatch(sources, [sizes.target_tokens - 1] * len(sources))


def run_engine(engine: SequenceGenerator, batch: SourceBatch, cuts: list[np.ndarray]) -> list[list[int]]:
    """The best hypothesis of each sentence."""
    batches = [SourceBatch([batch.sources[i] for i in cut], [batch.limits[i] for i in cut]) for cut in cuts]
    return [found[0].ids for part in engine.search(batches, with_scores=False) for found in part]


def cut(engine: SequenceGenerator, batch: SourceBatch) -> list[np.ndarray]:
    return engine.cut(np.asarray([len(source) for source in batch.sources]), np.asarray(batch.limits))


def search(sizes: Sizes, repeats: int) -> list[Measurement]:
    rows = []
    pair = generation_models(sizes)
    ours, marian = pair["ours"], pair["peer"]
    assert isinstance(ours, VecoForConditionalGeneration)
    batch, options = batch_of(sizes), fixed_options(sizes)
    ids, mask = padded(batch.sources)
    peer = f"MarianMTModel, {sizes.num_hidden_layers} + {sizes.num_hidden_layers} x {sizes.generation_width}"
    for name, dtype in DTYPES.items():
        engine = Translator.of_model(ours.to(dtype), made_up_tokenizer(ours.config.vocab_size), options, 4).generator
        theirs = partial(marian.to(dtype).generate, ids, attention_mask=mask, **generation_options(sizes))
        assert theirs().shape[1] == sizes.target_tokens + 1
        assert {len(found) for found in run_engine(engine, batch, cut(engine, batch))} == {sizes.target_tokens}
        seconds = medians({"ours": partial(run_engine, engine, batch, cut(engine, batch)), "peer": theirs}, repeats)
        rows.append(compared_speeds(f"search, {name}", seconds, len(ids), peer, ">= 1"))
    return rows


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """(ids, mask) of rows of ids."""
    tensors = [torch.tensor(row) for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=1)
    return ids, ids.ne(1).long()


def translators(model: Path, options: SearchOptions, directory: Path) -> dict[str, Translator]:
    """A model in every engine; exports go to `directory`."""
    found = {name: Translator.load(model, options, dtype) for name, dtype in DTYPES.items()}
    for name, quantization in QUANTIZATIONS.items():
        export(model, directory / quantization, quantization)
        found[name] = load_ct2(directory / quantization, options, None, Workers())
    return found


def against_baseline(
    runs: Mapping[str, Callable[[], object]], num_sentences: int, repeats: int, what: str, details: dict[str, str]
) -> list[Measurement]:
    """A row for each run except the baseline, with `details` in its last column."""
    seconds = medians(runs, repeats)
    pairs = {name: {"ours": seconds[name], "peer": seconds[BASELINE]} for name in runs if name != BASELINE}
    return [
        compared_speeds(
            f"{what}, {name}", pair, num_sentences, f"{BASELINE}{details.get(name, '')}", TARGETS.get(name, "")
        )
        for name, pair in pairs.items()
    ]


def engines(sizes: Sizes, repeats: int) -> list[Measurement]:
    model = generation_models(sizes)["ours"]
    batch, options = batch_of(sizes), fixed_options(sizes)
    copies = 2 * torch.get_num_threads()  # in CTranslate2 every thread has its own batch
    batch = SourceBatch(batch.sources * copies, batch.limits * copies)
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(Path(directory) / "model")
        made_up_tokenizer(model.config.vocab_size).save_pretrained(Path(directory) / "model")
        loaded = translators(Path(directory) / "model", options, Path(directory))
        runs = {
            name: partial(run_engine, translator.generator, batch, cut(translator.generator, batch))
            for name, translator in loaded.items()
        }
        return against_baseline(runs, len(batch.sources), repeats, "engines", {})


def text(arguments: argparse.Namespace, repeats: int) -> list[Measurement]:
    with open_text(arguments.input) as lines, open_text(arguments.reference) as reference_lines:
        sources, references = list(lines)[: arguments.lines], list(reference_lines)[: arguments.lines]
    with tempfile.TemporaryDirectory() as directory:
        options = SearchOptions(beam=arguments.beam)
        loaded = translators(arguments.model, options, Path(directory))
        if arguments.shortlist:
            export(arguments.model, Path(directory) / "short", "int8", shortlist_text=tuple(arguments.shortlist))
            loaded[SHORTLISTED] = load_ct2(Path(directory) / "short", options, None, Workers())
        runs = {name: partial(translator.translate, sources, False) for name, translator in loaded.items()}
        bleu = {}
        for name, run in runs.items():
            system = [hypotheses[0].text for hypotheses in run()]
            bleu[name] = sacrebleu_score(system, references, lowercase=False, tokenize="13a").value
        details = {name: f"; BLEU {value:.2f} against {bleu[BASELINE]:.2f}" for name, value in bleu.items()}
        return against_baseline(runs, len(sources), repeats, "text", details)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("parts", nargs="*", choices=[*PARTS, []], help="parts to measure (search and engines)")
    add("--model", type=Path, metavar="MODEL", help="for text: a model directory of finetune.mt")
    add("--input", metavar="FILE", help="for text: file to translate")
    add("--reference", metavar="FILE", help="for text: its reference translation")
    add("--shortlist", type=Path, nargs=2, metavar="FILE", help="for text: training text and its translation")
    add("--lines", type=int, help="for text: number of lines to translate, from the first (all)")
    add("--beam", type=int, default=SearchOptions.beam, help="for text (%(default)s)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each engine (as many as cores)")
    add("--repeats", type=int, default=3, help="repeats whose median is taken (3)")
    add("--quick", action="store_true", help="tiny shapes, to check that it runs")
    add("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    arguments = parser.parse_args()
    if "text" in arguments.parts and None in (arguments.model, arguments.input, arguments.reference):
        raise ValueError("the part text needs --model, --input and --reference")
    check_outputs({"--json": arguments.json}, [arguments.input, arguments.reference, *(arguments.shortlist or [])])
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    sizes = QUICK if arguments.quick else Sizes()
    measures: dict[str, Callable[[], list[Measurement]]] = {
        "search": partial(search, sizes, arguments.repeats),
        "engines": partial(engines, sizes, arguments.repeats),
        "text": partial(text, arguments, arguments.repeats),
    }
    rows = [row for name in arguments.parts or PARTS[:2] for row in measures[name]()]
    show(rows)
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
