"""Speed and memory of the model against named peers of transformers, in one process, side by side.

    python benchmarks/model.py                       everything, at VECO-small's width (minutes to an hour)
    python benchmarks/model.py objective utilisation shapes encoder generation      or some of these parts
    python benchmarks/model.py --quick               tiny shapes, to check that it runs (seconds)

objective    forward and backward of the whole objective against a plain reference: transformers' XLM-R layers and
             nn.MultiheadAttention, one pass for each of H_x, H_y, S_x, S_y and TLM, logits of all positions. Same
             weights, and the same losses in float32 without dropout. In both precisions, and each side in the faster
             one. Peak memory is measured in a process for each (VmHWM, reset before the step): the total, and the part
             that one step adds to model and gradients.
utilisation  floating-point operations of the objective by formula over its time, against a bfloat16 matrix product of
             2048 x 1024 x 4096 in the same run; and torch's profile of the rest.
shapes       the objective in bfloat16 over batches that all have another number of tokens, at a width of 192, where
             compiling kernels counts; against products of just as many rows as there are tokens.
encoder      plugged-out forward pass against transformers' XLM-R with SDPA; full rows, and rows of different lengths
             (where ours skips the padding: `skip_padding`).
generation   beam search against transformers' Marian of equal size: beam 5, the same number of steps.

Times are medians of repeats in turn. A ratio is peer / ours: above 1, ours is faster or smaller.
Run it on an idle machine, with as many threads as there are cores.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from transformers import MarianConfig, MarianMTModel, XLMRobertaForMaskedLM

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import check_outputs
from training.cpu_timing import attention_times
from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM, VecoForPreTraining, attention, packing
from veco.attention import use_in_training
from veco.convert import to_xlm_roberta
from veco.labels import IGNORED
from veco.layer import VecoLayer

PARTS = ("objective", "utilisation", "shapes", "encoder", "generation")
MASKED_SHARE = 0.25
BEAMS = 5
PROFILE_LINES = 15
STEPS_OF_SHAPES = 20
PLAIN_PEER = "separate passes of XLM-R layers, all logits"


@dataclass(frozen=True)
class Sizes:
    """Shapes of all measurements."""

    num_hidden_layers: int = 6
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    vocab_size: int = 32_000
    pairs: int = 32
    tokens: int = 128
    generation_width: int = 512
    generation_vocab_size: int = 8_000
    sentences: int = 32
    source_tokens: int = 25
    target_tokens: int = 30

    def config(self, dropout: float, **changes: int) -> VecoConfig:
        fields = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
        shape = {name: vars(self)[name] for name in fields}
        return VecoConfig(**{**shape, **changes}, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)


QUICK = Sizes(
    num_hidden_layers=2,
    hidden_size=64,
    intermediate_size=128,
    num_attention_heads=4,
    vocab_size=500,
    pairs=3,
    tokens=16,
    generation_width=32,
    generation_vocab_size=200,
    sentences=3,
)

Measurement = dict[str, str | float]


def medians(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each function: each is called once to warm up, then all in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def compared(what: str, seconds: dict[str, float], peer: str, target: str) -> Measurement:
    ratio = round(seconds["peer"] / seconds["ours"], 2)
    print(f"{what}: {seconds['ours']:.4g}, peer {seconds['peer']:.4g}, ratio {ratio}", file=sys.stderr, flush=True)
    return {
        "what": what,
        "ours": round(seconds["ours"], 4),
        "peer": round(seconds["peer"], 4),
        "ratio": ratio,
        "target": target,
        "peer is": peer,
    }


def random_rows(lengths: Tensor, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, attention mask, labels) of rows of the given lengths, a quarter of the tokens to predict."""
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    ids = torch.randint(4, vocab_size - 1, mask.shape).masked_fill(~mask, 1)
    labels = torch.where((torch.rand(mask.shape) < MASKED_SHARE) & mask, ids, IGNORED)
    return ids, mask.long(), labels


def random_batch(sizes: Sizes, shortest: int, seed: int = 1) -> dict[str, Tensor]:
    """A bilingual batch; x and y are `shortest` to `sizes.tokens` long, TLM is both together."""
    torch.manual_seed(seed)
    x, y = torch.randint(shortest, sizes.tokens + 1, (2, sizes.pairs))
    batch: dict[str, Tensor] = {}
    for prefix, lengths in (("", x), ("pair_", y), ("tlm_", x + y)):
        names = (f"{prefix}input_ids", f"{prefix}attention_mask", f"{prefix}labels")
        batch |= dict(zip(names, random_rows(lengths, sizes.vocab_size), strict=True))
    return batch


class PlainReference(nn.Module):
    """The objective written naively: XLM-R's layers, a pass for each term, logits of all positions."""

    def __init__(self, xlm_roberta: XLMRobertaForMaskedLM, model: VecoForPreTraining) -> None:
        super().__init__()
        self.xlm_roberta = xlm_roberta
        config = model.config
        self.cross_attentions, self.cross_norms = nn.ModuleList(), nn.ModuleList()
        for layer in model.veco.layers:
            assert isinstance(layer, VecoLayer)
            ours = layer.cross_attention
            theirs = nn.MultiheadAttention(
                config.hidden_size,
                config.num_attention_heads,
                dropout=config.attention_probs_dropout_prob,
                batch_first=True,
            )
            inputs = (ours.q_proj, ours.k_proj, ours.v_proj)
            theirs.load_state_dict(
                {
                    "in_proj_weight": torch.cat([projection.weight for projection in inputs]),
                    "in_proj_bias": torch.cat([projection.bias for projection in inputs]),
                    "out_proj.weight": ours.out_proj.weight,
                    "out_proj.bias": ours.out_proj.bias,
                }
            )
            self.cross_attentions.append(theirs)
            norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            norm.load_state_dict(layer.cross_attention_norm.state_dict())
            self.cross_norms.append(norm)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """The losses of a bilingual batch."""
        x, y, tlm = ([batch[f"{p}{name}"] for name in ("input_ids", "attention_mask")] for p in ("", "pair_", "tlm_"))
        h_x, h_y, h_tlm = self.h(x), self.h(y), self.h(tlm)
        s_x, s_y = self.s(x, h_y.detach(), y[1]), self.s(y, h_x.detach(), x[1])
        labels_x, labels_y = batch["labels"], batch["pair_labels"]
        return {
            "mlm": self.loss(h_x, labels_x) + self.loss(h_y, labels_y),
            "ca_mlm": self.loss(s_x, labels_x) + self.loss(s_y, labels_y),
            "tlm": self.loss(h_tlm, batch["tlm_labels"]),
        }

    def h(self, sentence: Sequence[Tensor]) -> Tensor:
        ids, mask = sentence
        return self.xlm_roberta.roberta(ids, attention_mask=mask).last_hidden_state

    def s(self, sentence: Sequence[Tensor], pair: Tensor, pair_mask: Tensor) -> Tensor:
        ids, mask = sentence
        states = self.xlm_roberta.roberta.embeddings(input_ids=ids)
        visible = mask.bool()[:, None, None]
        layers = zip(self.xlm_roberta.roberta.encoder.layer, self.cross_attentions, self.cross_norms, strict=True)
        for layer, cross_attention, norm in layers:
            states = layer.attention(states, attention_mask=visible)[0]
            context, _ = cross_attention(states, pair, pair, key_padding_mask=~pair_mask.bool(), need_weights=False)
            states = norm(states + self.dropout(context))
            states = layer.output(layer.intermediate(states), states)
        return states

    def loss(self, states: Tensor, labels: Tensor) -> Tensor:
        logits = self.xlm_roberta.lm_head(states)
        return cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def objective_models(sizes: Sizes, dropout: float, dtype: torch.dtype) -> tuple[VecoForPreTraining, PlainReference]:
    """(Ours, the reference) with the same weights."""
    torch.manual_seed(0)
    masked_lm = VecoForMaskedLM(sizes.config(dropout))
    ours = VecoForPreTraining(masked_lm.config)
    ours.load_state_dict(masked_lm.state_dict())
    xlm_roberta = to_xlm_roberta(masked_lm)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(xlm_roberta.config, name, dropout)
    return ours.to(dtype).train(), PlainReference(xlm_roberta, ours).to(dtype).train()


def step_of(model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], None]:
    """A forward and backward pass of the objective."""

    def step() -> None:
        model.zero_grad()
        output = model(**batch)
        losses = output if isinstance(model, PlainReference) else output.losses
        torch.stack(list(losses.values())).sum().backward()

    return step


def objective(sizes: Sizes, repeats: int, arguments: list[str]) -> list[Measurement]:
    rows = []
    # First, while this process is small: the reference needs most of a small machine's memory.
    peaks = {name: measured_memory(name, arguments) for name in ("ours", "peer")}
    for number, what in enumerate(("all of the process", "added by a step")):
        megabytes = {name: peak[number] for name, peak in peaks.items()}
        rows.append(compared(f"peak memory, {what}, MB", megabytes, "separate passes of XLM-R layers", ">= 2"))
    ours, reference = objective_models(sizes, dropout=0.0, dtype=torch.float32)
    batch = random_batch(sizes, shortest=sizes.tokens // 2)
    few = {name: tensor[:2] for name, tensor in batch.items()}
    with torch.no_grad():
        losses = ours(**few).losses, reference(**few)
    difference = max(float((losses[0][name] - losses[1][name]).abs() / losses[1][name]) for name in losses[0])
    rows.append({"what": "losses in float32, relative difference", "ratio": difference, "target": "<= 1e-5"})
    del ours, reference
    for what, shortest in (("full rows", sizes.tokens), ("lengths 1/4 to 1", sizes.tokens // 4)):
        batch = random_batch(sizes, shortest)
        found = {dtype: objective_seconds(sizes, batch, dtype, repeats) for dtype in (torch.float32, torch.bfloat16)}
        for dtype, seconds in found.items():
            rows.append(compared(f"objective, {what}, {name_of(dtype)}, s", seconds, PLAIN_PEER, ""))
        best = {name: min(seconds[name] for seconds in found.values()) for name in ("ours", "peer")}
        rows.append(compared(f"objective, {what}, each at its better precision, s", best, PLAIN_PEER, ">= 2.5"))
    return rows


def objective_seconds(sizes: Sizes, batch: dict[str, Tensor], dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Seconds per step of ours, with the attention that a run would choose, and of the reference."""
    ours, reference = objective_models(sizes, dropout=0.1, dtype=dtype)
    times = attention_times(dtype, ours.config.attention_probs_dropout_prob)
    use_in_training(ours, min(times, key=times.__getitem__))
    seconds = medians({"ours": step_of(ours, batch), "peer": step_of(reference, batch)}, repeats)
    del ours, reference
    gc.collect()
    return seconds


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measured_memory(name: str, arguments: list[str]) -> list[float]:
    """Peak megabytes (of the whole process, of one step) of "ours" or "peer", in a new process."""
    command = [sys.executable, __file__, "--memory-of", name, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(name: str, sizes: Sizes) -> list[float]:
    """Peak megabytes of this process, and those that its second step adds; the first allocates the gradients."""
    ours, reference = objective_models(sizes, dropout=0.1, dtype=torch.bfloat16)
    model: nn.Module = ours if name == "ours" else reference
    del ours, reference
    gc.collect()
    batch = random_batch(sizes, sizes.tokens)
    step = step_of(model, batch)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    resting = memory_now("VmRSS")
    step()
    return [memory_now("VmHWM"), memory_now("VmHWM") - resting]


def memory_now(field: str) -> float:
    """Megabytes of this process, as Linux reports them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def objective_operations(sizes: Sizes) -> float:
    """Floating-point operations of a forward and backward pass of the objective over full rows.

    A layer takes 8 D^2 + 4 D F per token plugged out (self-attention's four projections, feed-forward) and 16 D^2 +
    4 D F plugged in, attention 4 D S per token over S keys, the head 2 (V D + D^2) per predicted position. The backward
    pass takes twice the forward pass. Recomputation is not counted.
    """
    width, length = sizes.hidden_size, sizes.tokens
    num_tokens = 2 * sizes.pairs * length  # of x and y; TLM has as many
    feed_forward = 4 * width * sizes.intermediate_size
    h = 2 * num_tokens * (8 * width**2 + feed_forward) + 4 * width * num_tokens * (length + 2 * length)
    s = num_tokens * (16 * width**2 + feed_forward) + 4 * width * num_tokens * 2 * length
    head = 2 * (sizes.vocab_size * width + width**2) * MASKED_SHARE * 3 * num_tokens
    return 3 * (sizes.num_hidden_layers * (h + s) + head)


def utilisation(sizes: Sizes, repeats: int) -> list[Measurement]:
    ours, _ = objective_models(sizes, dropout=0.1, dtype=torch.bfloat16)
    step = step_of(ours, random_batch(sizes, sizes.tokens))
    left, right = torch.randn(2048, 1024).bfloat16(), torch.randn(1024, 4096).bfloat16()
    seconds = medians({"step": step, "matmul": lambda: [left @ right for _ in range(20)]}, repeats)
    rate = objective_operations(sizes) / seconds["step"]
    matmul_rate = 20 * 2 * 2048 * 1024 * 4096 / seconds["matmul"]
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    table = profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=PROFILE_LINES)
    print("\n".join(line[:110] for line in table.splitlines()), file=sys.stderr)
    return [
        {
            "what": "objective, GFLOP/s; peer: matrix product; ratio: ours / peer",
            "ours": round(rate / 1e9, 1),
            "peer": round(matmul_rate / 1e9, 1),
            "ratio": round(rate / matmul_rate, 3),
            "target": ">= 0.5",
            "peer is": "bfloat16 2048 x 1024 x 4096",
        }
    ]


def shapes(sizes: Sizes, repeats: int) -> list[Measurement]:
    narrow = replace(sizes, num_hidden_layers=3, hidden_size=192, intermediate_size=768, num_attention_heads=4)
    narrow = replace(narrow, vocab_size=min(sizes.vocab_size, 6_000), tokens=min(sizes.tokens, 48))
    ours, _ = objective_models(narrow, dropout=0.1, dtype=torch.bfloat16)
    own, of_peer = itertools.count(), itertools.count()  # the same batches for both, and others in each turn

    def steps(seeds: Iterator[int]) -> None:
        for seed in itertools.islice(seeds, STEPS_OF_SHAPES):
            step_of(ours, random_batch(narrow, narrow.tokens // 4, seed))()

    def steps_of_tokens() -> None:
        as_they_are = partial(patch.object, attribute="compiles_each_shape", new=lambda _: False)
        with as_they_are(packing), as_they_are(attention):
            steps(of_peer)

    seconds = medians({"ours": partial(steps, own), "peer": steps_of_tokens}, repeats)
    return [compared(f"{STEPS_OF_SHAPES} batches of lengths 1/4 to 1, s", seconds, "as many rows as tokens", ">= 1.3")]


def encoder(sizes: Sizes, repeats: int) -> list[Measurement]:
    rows = []
    torch.manual_seed(0)
    masked_lm = VecoForMaskedLM(sizes.config(0.0))
    peer = to_xlm_roberta(masked_lm).roberta
    masked_lm.veco.skip_padding = True
    for dtype in (torch.float32, torch.bfloat16):
        models = {"ours": masked_lm.veco.to(dtype).eval(), "peer": peer.to(dtype).eval()}
        for what, shortest in (("full rows", sizes.tokens), ("lengths 1/4 to 1", sizes.tokens // 4)):
            ids, mask, _ = random_rows(torch.randint(shortest, sizes.tokens + 1, (sizes.pairs,)), sizes.vocab_size)
            passes = {name: partial(model, ids, attention_mask=mask) for name, model in models.items()}
            with torch.no_grad():
                seconds = medians(passes, repeats)
                ours, theirs = (run()[0][mask.bool()] for run in passes.values())
            if dtype == torch.float32:
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
            name = f"encoder forward, {what}, {name_of(dtype)}, s"
            rows.append(compared(name, seconds, "XLMRobertaModel, SDPA", ">= 1"))
    return rows


def generation_models(sizes: Sizes) -> dict[str, VecoForConditionalGeneration | MarianMTModel]:
    """Our translation model and transformers' Marian of the same size, with random weights."""
    width, vocab_size = sizes.generation_width, sizes.generation_vocab_size
    heads, layers = max(1, width // 64), sizes.num_hidden_layers
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
    config = sizes.config(0.0, **shape, vocab_size=vocab_size)
    config.decoder_start_token_id = 4
    marian = MarianConfig(
        vocab_size=vocab_size,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        activation_function="gelu",
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=4,
        forced_eos_token_id=None,
        max_position_embeddings=512,
        scale_embedding=True,
    )
    torch.manual_seed(0)
    return {"ours": VecoForConditionalGeneration(config).eval(), "peer": MarianMTModel(marian).eval()}


def generation_sources(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """(ids, mask) of sentences to translate, up to `source_tokens` long."""
    torch.manual_seed(0)
    lengths = torch.randint(sizes.source_tokens // 2, sizes.source_tokens + 1, (sizes.sentences,))
    ids, mask, _ = random_rows(lengths, sizes.generation_vocab_size)
    return ids, mask


def generation_options(sizes: Sizes) -> dict[str, int | bool | None]:
    """Options of transformers' generate(): beam search of `target_tokens` steps."""
    steps = {"max_length": None, "min_new_tokens": sizes.target_tokens, "max_new_tokens": sizes.target_tokens}
    return {"num_beams": BEAMS, "do_sample": False, **steps}


def generation(sizes: Sizes, repeats: int) -> list[Measurement]:
    rows = []
    models = generation_models(sizes)
    ids, mask = generation_sources(sizes)
    peer = f"MarianMTModel, {sizes.num_hidden_layers} + {sizes.num_hidden_layers} x {sizes.generation_width}"
    for dtype in (torch.float32, torch.bfloat16):
        searches = {
            name: partial(model.to(dtype).generate, ids, attention_mask=mask, **generation_options(sizes))
            for name, model in models.items()
        }
        assert {found.shape[1] for found in (search() for search in searches.values())} == {sizes.target_tokens + 1}
        name = f"generation, beam {BEAMS}, {name_of(dtype)}, s"
        rows.append(compared(name, medians(searches, repeats), peer, ">= 1"))
    return rows


def show(rows: list[Measurement]) -> None:
    columns = ("what", "ours", "peer", "ratio", "target", "peer is")
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts to measure (all)")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="torch's threads (as many as cores)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="repeats whose median is taken (3)")
    parser.add_argument("--pairs", type=int, default=Sizes.pairs, help="pairs per batch of the objective (32)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to check that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--memory-of", choices=["ours", "peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = QUICK if arguments.quick else Sizes(pairs=arguments.pairs)
    if arguments.memory_of is not None:
        print(json.dumps(memory_of(arguments.memory_of, sizes)))
        return
    check_outputs({"--json": arguments.json}, [])
    same = [f"--threads={arguments.threads}", f"--pairs={arguments.pairs}", *(["--quick"] if arguments.quick else [])]
    measures: dict[str, Callable[[], list[Measurement]]] = {
        "objective": lambda: objective(sizes, arguments.repeats, same),
        "utilisation": lambda: utilisation(sizes, arguments.repeats),
        "shapes": lambda: shapes(sizes, arguments.repeats),
        "encoder": lambda: encoder(sizes, arguments.repeats),
        "generation": lambda: generation(sizes, arguments.repeats),
    }
    rows = []
    for name in arguments.parts or PARTS:
        rows += measures[name]()
    show(rows)
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
