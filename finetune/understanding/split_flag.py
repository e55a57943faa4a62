"""The flag --split of the commands that predict and score."""

from __future__ import annotations

import argparse

from finetune.understanding.tasks.task import Split


def add_split_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag by which dev is predicted or scored in place of the tests."""
    parser.add_argument(
        "--split",
        type=Split,
        choices=[Split.TEST, Split.DEV],
        default=Split.TEST,
        help="test, or dev where the labels of the tests are hidden (default %(default)s)",
    )
