"""Measure memory and time of the ZeRO stages on this machine, and train VECO-large on two processes.

    python benchmarks/zero.py table [--configs zero1_bf16.json …] [--ranks 1 2 4]     memory and time of each rank
    python benchmarks/zero.py collectives [--configs …] [--micro_steps 4]               what two ranks exchange
    python benchmarks/zero.py large [--updates 2] [--max_gib 22]                        24 layers, 250,002 pieces

`table` trains a VECO of --layers and --width on random ids. State is the memory that a rank keeps between updates: the
model's weights, float32 weights and Adam's moments. Peak is the largest memory of a rank in an update (forward,
backward, gathered weights), minus that of a process which has only imported everything. `collectives` counts the
operations between two ranks (gloo) in one update of several micro-steps, by kind, as torch's profiler sees them.
`large` runs pretrain/train.py
itself, from random weights, with one pair of the paper's length on each rank, saves a checkpoint, and monitors the
memory of all its processes together; it kills them if they need more than --max_gib.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_tools.cli import FlagParser
from data_tools.files.directories import claim
from data_tools.shards.format import ShardWriter
from data_tools.shards.manifest import MANIFEST_VERSION, Manifest
from pretrain.recipe import PretrainRecipe
from training.checkpoints.finding import checkpoints_of
from training.engine.build import build_engine
from training.engine.deepspeed_engine import start_deepspeed
from training.engine.processes import shut_down
from training.launch import launched_rank, launcher_command, run_on_ranks
from training.meters import read_metrics
from training.run_directory.kinds import MODEL_DIR
from veco import VecoConfig, VecoForPreTraining

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("cpu.json", "zero3_fp32.json", "zero1_bf16.json", "zero2_bf16.json", "zero3_bf16.json")
LARGE_VOCABULARY = 250_002
MASK_RATE = 0.15
SHAPE = ("layers", "width", "vocabulary", "length", "updates", "micro_steps")
IGNORED = -100


def synthetic_batch(config: VecoConfig, pairs: int, length: int, device: torch.device) -> dict[str, Tensor]:
    """Pairs of random ids, both sides `length` long, with every 1 / MASK_RATE-th token to predict."""
    generator = torch.Generator().manual_seed(launched_rank())
    batch: dict[str, Tensor] = {}
    for prefix in ("", "pair_"):
        ids = torch.randint(4, config.vocab_size - 1, (pairs, length), generator=generator)
        predicted = torch.rand(pairs, length, generator=generator) < MASK_RATE
        predicted[:, 0] = True  # at least one
        batch[f"{prefix}labels"] = ids.masked_fill(~predicted, IGNORED)
        batch[f"{prefix}input_ids"] = ids.masked_fill(predicted, config.vocab_size - 1)
        batch[f"{prefix}attention_mask"] = torch.ones_like(ids)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def state_bytes(engine: Any) -> int:
    """Bytes of weights and optimizer on this rank of a DeepSpeed engine, each storage counted once."""
    zero = engine.optimizer
    inner = getattr(zero, "optimizer", zero)  # stage 0 uses torch's AdamW itself
    tensors = [parameter.data for parameter in engine.module.parameters()]
    tensors += [parameter.ds_tensor for parameter in engine.module.parameters() if hasattr(parameter, "ds_tensor")]
    tensors += [parameter.data for group in inner.param_groups for parameter in group["params"]]
    tensors += [value for state in inner.state.values() for value in state.values() if isinstance(value, Tensor)]
    tensors += getattr(zero, "fp32_partitioned_groups_flat", [])
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    storages.pop(0, None)
    return sum(storages.values())


def memory_kib(field: str, process: int | str = "self") -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def worker(arguments: argparse.Namespace) -> None:
    """Train as one rank, then print time and memory as a line of JSON."""
    logs = Path(tempfile.gettempdir()) / "veco-benchmark-logs"
    recipe = PretrainRecipe(
        output=str(logs),
        ds_config=arguments.configs[0],
        dropout=0.0,
        attention_dropout=0.0,
        accumulation_steps=arguments.micro_steps or 1,
    )
    start_deepspeed(logs)
    baseline = memory_kib("VmRSS")
    config = VecoConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.width // 64,
        intermediate_size=4 * arguments.width,
    )
    model = VecoForPreTraining(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    engine = build_engine(model, recipe, lambda step: 1.0, logs)
    batch = synthetic_batch(config, arguments.pairs, arguments.length, engine.device)

    def micro_step() -> None:
        engine.backward(torch.stack(list(engine.model(**batch).losses.values())).sum())
        engine.step()

    if arguments.micro_steps:
        print(json.dumps(collectives_of(micro_step, arguments.micro_steps)), flush=True)
        shut_down()
        return
    seconds = []
    for update in range(arguments.updates + 1):
        if update == 1:  # update 0 allocates Adam's moments
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # reset the peak
        engine.barrier()
        start = time.perf_counter()
        micro_step()
        seconds.append(time.perf_counter() - start)
    peak = memory_kib("VmHWM") - baseline
    told = {
        "parameters": parameters,
        "state": state_bytes(engine.model),
        "peak": peak * 1024,
        "seconds": statistics.median(seconds[1:]),
    }
    print(json.dumps(told), flush=True)
    shut_down()


def collectives_of(micro_step: Callable[[], None], micro_steps: int) -> dict[str, int]:
    """The number of collective operations in an update, by kind; the first update, which sets things up, is not it."""
    for _ in range(micro_steps):
        micro_step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(micro_steps):
            micro_step()
    return dict(Counter(event.name for event in profile.events() if event.name.startswith("c10d::")))


def run_ranks(config: str, ranks: int, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Results of all ranks. Raises ValueError with the last line of the first rank that failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    shared = {
        "WORLD_SIZE": ranks,
        "LOCAL_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": threads,
        "PYTHONPATH": ROOT,
    }
    shape = [f"--{name}={vars(arguments)[name]}" for name in SHAPE]
    shape.append(f"--pairs={max(1, arguments.pairs // ranks)}")
    command = [sys.executable, __file__, "table", "--worker", "--configs", config, *shape]
    processes = []
    for rank in range(ranks):
        variables = {**shared, "RANK": rank, "LOCAL_RANK": rank}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    told = []
    for process in processes:
        output, errors = process.communicate()
        if process.returncode:
            raise ValueError(errors.strip().splitlines()[-1])
        told.append(json.loads(output.strip().splitlines()[-1]))
    return told


def table(arguments: argparse.Namespace) -> None:
    if arguments.worker:
        worker(arguments)
        return
    print(f"{'ds_config':<30} ranks  state MB  of 1 rank x ranks  bytes/parameter  peak MB  seconds/update")
    for config in arguments.configs:
        alone = 0.0
        for ranks in arguments.ranks:
            try:
                told = run_ranks(config, ranks, arguments)
            except ValueError as error:
                print(f"{config:<30} {ranks:>5}  {error}")
                continue
            state = max(rank["state"] for rank in told)
            alone = alone or state * ranks
            print(
                f"{config:<30} {ranks:>5} {state / 1e6:>9.1f} {state * ranks / alone:>18.3f}"
                f" {state / told[0]['parameters']:>16.2f} {max(rank['peak'] for rank in told) / 1e6:>8.0f}"
                f" {statistics.median(rank['seconds'] for rank in told):>15.2f}",
                flush=True,
            )


def collectives(arguments: argparse.Namespace) -> None:
    print(f"{'ds_config':<30} collectives of an update of {arguments.micro_steps} micro-steps, rank 0 of 2")
    for config in arguments.configs:
        told, _ = run_ranks(config, 2, arguments)
        kinds = ", ".join(f"{name.removeprefix('c10d::')} {count}" for name, count in sorted(told.items()))
        print(f"{config:<30} {sum(told.values()):>5.0f}: {kinds}", flush=True)


def random_data(directory: Path) -> None:
    """A data directory of random ids: documents whose adjacent segments fill 512 tokens each."""
    rng = np.random.default_rng(1)

    def shard(prefix: str, documents: int, sentences: int) -> Any:
        with ShardWriter(directory / prefix, LARGE_VOCABULARY) as writer:
            for _ in range(documents):
                for _ in range(sentences):
                    writer.add_sequence(rng.integers(4, LARGE_VOCABULARY - 1, 60))
                writer.end_document()
        return writer.info(prefix)

    Manifest(
        version=MANIFEST_VERSION,
        tokenizer_sha256="0" * 64,
        vocab_size=LARGE_VOCABULARY,
        mono={"en": [shard("mono/en/00000", 20, 40)]},
        parallel={"de-en": [{side: shard(f"parallel/de-en/00000.{side}", 1, 60) for side in ("de", "en")}]},
    ).save(directory)
    (directory / "tokenizer").mkdir(exist_ok=True)
    (directory / "tokenizer" / "tokenizer_config.json").write_text("{}", encoding="utf-8")


def group_bytes(group: int) -> int:
    """Memory of all processes of a process group, shared memory counted once."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group:
                lines = (process / "smaps_rollup").read_text(encoding="utf-8").splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, ValueError):
            continue  # it has ended
    return total * 1024


def watched(process: subprocess.Popen[str], max_bytes: float) -> Iterator[int]:
    """Largest memory of the process's group, sampled twice a second until it ends; kill it beyond `max_bytes`."""
    while process.poll() is None:
        used = group_bytes(process.pid)
        yield used
        if used > max_bytes:
            os.killpg(process.pid, signal.SIGKILL)
            sys.exit(f"ended: the processes use {used / 2**30:.1f} GiB, more than --max_gib")
        time.sleep(0.5)


def large(arguments: argparse.Namespace) -> None:
    directory = Path(arguments.directory or tempfile.mkdtemp(prefix="veco-large-"))
    claim(directory, ["data", "run"], "benchmarks.zero")
    data, run = directory / "data", directory / "run"
    shutil.rmtree(run, ignore_errors=True)
    random_data(data)
    shape = VecoConfig.large()
    fields = {
        "config": ROOT / "pretrain/recipes/large.yaml",
        "data": data,
        "output": run,
        "init_from": "null",
        "cross_attention_steps": 0,
        "num_hidden_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "intermediate_size": shape.intermediate_size,
        "ds_config": arguments.ds_config,
        "activation_checkpointing": "true",
        "mono_batch_pairs": 2,
        "bilingual_batch_pairs": 2,
        "steps": arguments.updates,
        "log_every": 1,
        "loader_workers": 0,
        "cpu_processes": 2,
    }
    flags = [text for name, value in fields.items() for text in (f"--{name}", str(value))]
    command = launcher_command(2, str(ROOT / "pretrain" / "train.py"), *flags)
    # glibc returns freed blocks of this size and more to the system. By default it raises the threshold as it goes, and
    # fragmentation costs a third more memory.
    thresholds = {name: str(2**20) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}
    environment = {
        **os.environ,
        **thresholds,
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": str(ROOT),
        "VECO_RUNS": str(directory),
    }
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True)
    peak = max(watched(process, arguments.max_gib * 2**30), default=0)
    if process.returncode:
        sys.exit(f"pretrain/train.py left with {process.returncode}")
    (checkpoint,) = checkpoints_of(run).values()
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    exported = checkpoint / MODEL_DIR  # the run's model, made from the checkpoint at its end
    size = sum(path.stat().st_size for path in files if not path.is_relative_to(exported))
    print(f"total {time.perf_counter() - start:.0f} s; peak of all processes {peak / 2**30:.1f} GiB")
    print(f"checkpoint {size / 1e9:.2f} GB: {checkpoint}")
    for line in read_metrics(run):
        print({name: round(value, 4) for name, value in line.items()})


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("table", help="memory and time of each rank, by ds_config and number of ranks")
    three = commands.add_parser("collectives", help="operations between two ranks in an update, by ds_config")
    for command in (one, three):
        command.add_argument("--configs", nargs="+", default=CONFIGS, help="files of ds_configs/")
        command.add_argument("--layers", type=int, default=4)
        command.add_argument("--width", type=int, default=512)
        command.add_argument("--vocabulary", type=int, default=32_000)
        command.add_argument("--pairs", type=int, default=4, help="pairs of a global batch (4)")
        command.add_argument("--length", type=int, default=64, help="tokens of each side of a pair (64)")
    one.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="numbers of processes (1 2)")
    one.add_argument("--updates", type=int, default=3, help="timed updates (3)")
    one.add_argument("--micro_steps", type=int, default=0, help=argparse.SUPPRESS)  # for the workers of `collectives`
    one.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    one.set_defaults(run=table)
    three.add_argument("--micro_steps", type=int, default=4, help="micro-steps of an update (4)")
    three.set_defaults(run=collectives, updates=1)
    two = commands.add_parser("large", help="VECO-large on two processes of this machine")
    two.add_argument("--updates", type=int, default=2, help="updates (2: a monolingual and a bilingual batch)")
    two.add_argument("--ds_config", default="zero3_bf16_small_buckets.json")
    two.add_argument("--max_gib", type=float, default=22.0, help="kill the processes if they need more (22)")
    two.add_argument("--directory", help="directory for data and run, 11 GB (a temporary one)")
    two.set_defaults(run=large)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    run_on_ranks(main)
