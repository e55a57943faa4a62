"""Write a model with the shape and tokenizer of another but random weights, the baseline for pre-training.

    python -m finetune.random_model MODEL --seed 1 --output DIR

Fine-tuning initialises its own with `--init random`; this is for tasks without training, such as XTREME's retrieval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from finetune.encoders import open_encoder
from training.launch import quiet_libraries
from veco.rust_errors import rust_errors_as_oserrors
from veco.tokenizer import save_tokenizer


def write_random_model(source: Path, seed: int, output: Path) -> None:
    """Write a model to `output` atomically. Raises ValueError if `source` is not a model with its tokenizer."""
    encoder = open_encoder(source, "MODEL")
    with atomic_directory(output) as temporary:
        torch.manual_seed(seed)
        model = MODEL_FOR_MASKED_LM_MAPPING[type(encoder.config)](encoder.config)
        with rust_errors_as_oserrors(temporary):
            model.save_pretrained(temporary)
        save_tokenizer(encoder.tokenizer, source, temporary, max_tokens=encoder.max_tokens)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="directory of a VECO, an XLM-R or another encoder")
    parser.add_argument("--seed", type=int, default=1, help="(default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the new model")
    options = parser.parse_args()
    quiet_libraries()
    write_random_model(options.model, options.seed, options.output)


if __name__ == "__main__":
    run_main(main)
