"""MonoTrans as documented, command by command: what each step changes, and that a task reads the other vocabulary."""

from __future__ import annotations

import random
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer
from xtreme_files import GERMAN, write_lines

WORDS = "veco.embeddings.word_embeddings.weight"
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that runs `python -m MODULE ARGUMENTS` in this process."""
    monkeypatch.setattr("training.launch.leave", sys.exit)

    def run(module: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            assert not end.code, f"{module} failed"

    return run


def weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The weights that both have, and that are not the same in the precision in which the later ones are saved."""
    common = before.keys() & after.keys()
    return {name for name in common if not before[name].to(after[name].dtype).equal(after[name])}


def test_a_task_reads_a_language_by_embeddings_learned_under_the_same_frozen_body(
    train: Callable[..., Path], command: Callable[..., None], tiny_model: Path, xtreme_data: Path, tmp_path: Path
) -> None:
    draw = random.Random(1)
    write_lines(tmp_path / "de.txt", [" ".join(draw.choices([*GERMAN.values()], k=8)) for _ in range(400)])
    tokenizer, start, data, language, swapped = (tmp_path / name for name in ("tok", "start", "data", "de", "task-de"))
    command(*("data_tools.train_tokenizer", "--input", tmp_path / "de.txt", "--vocab-size", 50, "--output", tokenizer))
    command("veco.vocabulary", "change", tiny_model, start, "--tokenizer", tokenizer, "--by", "random")
    (tmp_path / "corpus.yaml").write_text(f"tokenizer: {tokenizer}\nmono: {{de: de.txt}}\n")
    command("data_tools.prepare", tmp_path / "corpus.yaml", "--output", data)
    command(
        *("pretrain.train", "--init_from", start, "--trains", "embeddings", "--objective", "mlm", "--data", data),
        *(
            "--output",
            language,
            "--engine",
            "plain",
            "--ds_config",
            "zero3_fp32.json",
            "--steps",
            2,
            "--warmup_steps",
            0,
        ),
        *(
            "--mono_max_length",
            24,
            "--bilingual_max_length",
            12,
            "--mono_batch_pairs",
            8,
            "--loader_workers",
            0,
            "--learning_rate",
            1e-2,
        ),
    )
    task = train("pawsx", freeze="embeddings")
    command("veco.swap_embeddings", task / "best", language / "last", swapped)

    of_model, of_start, of_language, of_task, found = map(
        weights, (tiny_model, start, language / "last", task / "best", swapped)
    )
    assert changed(of_start, of_language) == {WORDS, "lm_head.decoder.bias"}, "the body was frozen"
    assert WORDS not in changed(of_model, of_task) and changed(of_model, of_task), "the embeddings were"
    assert found.keys() == of_task.keys() and changed(of_task, found) == {WORDS}
    assert found[WORDS].equal(of_language[WORDS].float()) and len(found[WORDS]) != len(of_task[WORDS])
    assert AutoTokenizer.from_pretrained(swapped).get_vocab() == AutoTokenizer.from_pretrained(tokenizer).get_vocab()
    command(
        *("finetune.understanding.predict", swapped, "--task", "pawsx", "--data", xtreme_data, "--languages", "de"),
        *("--output", tmp_path / "predictions"),
    )
    predicted = (tmp_path / "predictions" / "pawsx" / "test-de.tsv").read_text().splitlines()
    assert predicted and {line.split("\t")[0] for line in predicted} <= {"0", "1"}
