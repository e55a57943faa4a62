"""Change the vocabulary of a model directory: `python -m veco.vocabulary --help`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from data_tools.cli import run_main
from data_tools.files.atomic import write_texts
from data_tools.files.directories import atomic_directory
from veco.vocabulary.command_line import parse_arguments
from veco.vocabulary.commands import COMMANDS
from veco.vocabulary.model_directory import open_model, save_model


def main() -> None:
    """Run the command line."""
    arguments = parse_arguments()
    with atomic_directory(arguments.destination) as directory:
        model = open_model(arguments.source)
        before = model.config.vocab_size
        report = COMMANDS[arguments.command](arguments, model, directory)
        if num_spare := before - report.before.pieces:
            sys.stderr.write(f"note: {num_spare:,} rows of the model have no piece in its tokenizer: dropped\n")
        save_model(model, arguments.source, directory)
    if arguments.json is not None:
        write_texts(arguments.json.parent, {arguments.json.name: json.dumps(asdict(report), indent=1) + "\n"})
    print(report.table())
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{arguments.destination}: {before:,} ids -> {model.config.vocab_size:,}, {millions:,.2f}M parameters")


if __name__ == "__main__":
    run_main(main)
