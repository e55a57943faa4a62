"""Write a model with the shape and tokenizer of another but random weights, the baseline for pre-training.

    python -m finetune.random_model MODEL --seed 1 --output DIR

Fine-tuning initialises its own with `--init random`; this is for tasks without training, such as XTREME's retrieval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from finetune.pretrained import VECO, XLM_ROBERTA, open_pretrained
from training.launch import quiet_libraries
from veco import VecoForMaskedLM
from veco.rust_errors import rust_errors_as_oserrors
from veco.tokenizer import save_tokenizer


def write_random_model(source: Path, seed: int, output: Path) -> None:
    """Write a model to `output` atomically. Raises ValueError if `source` is not a model with its tokenizer."""
    tokenizer, config = open_pretrained(source, "MODEL", kinds=(VECO, XLM_ROBERTA))
    with atomic_directory(output) as temporary:
        torch.manual_seed(seed)
        model = VecoForMaskedLM(config)
        with rust_errors_as_oserrors(temporary):
            model.save_pretrained(temporary)
        save_tokenizer(tokenizer, source, temporary, max_tokens=config.max_tokens)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="directory of a VECO or XLM-R")
    parser.add_argument("--seed", type=int, default=1, help="(default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the new model")
    options = parser.parse_args()
    quiet_libraries()
    write_random_model(options.model, options.seed, options.output)


if __name__ == "__main__":
    run_main(main)
