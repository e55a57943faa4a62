"""Change the vocabulary of a model directory: `python -m veco.vocabulary --help`."""

from __future__ import annotations

from data_tools.cli import run_main
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
        save_model(model, arguments.source, directory)
    print(report.table())
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{arguments.destination}: {before:,} ids -> {model.config.vocab_size:,}, {millions:,.2f}M parameters")


if __name__ == "__main__":
    run_main(main)
