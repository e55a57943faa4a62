"""The right one of several continuations of a text: a row for each, `<s> text </s></s> choice </s>`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.understanding.heads.sides import labelled_sides
from finetune.understanding.heads.texts import logits_of
from finetune.understanding.rows.encoding import TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.examples import Choices
from training.step import Batch
from veco import VecoForMultipleChoice
from veco.labels import Labelled, mean_cross_entropy


class MultipleChoice:
    """Rows of all choices, those of an example in one batch, and the most likely choice from the model's outputs."""

    model_class = VecoForMultipleChoice
    problem_type: str | None = None
    outputs: Sequence[str] = ("score",)

    def __init__(self, max_length: int, average_pair: bool = False) -> None:
        """`average_pair`: plugged in, choose by the mean of the logits of x and y, which have the same label."""
        self.max_length = max_length
        self.average_pair = average_pair

    def encode(self, examples: Iterable[Choices], encoder: TextEncoder) -> TokenRows:
        """The rows of each example, with the number of the right choice unless an example has none.

        Rows of more than `max_length` tokens are truncated at the end of the longer text, and counted. Raises
        ValueError for unequal numbers of choices, and for the number of a choice that is not there.
        """
        return TokenRows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[Choices], encoder: TextEncoder) -> TokenRows:
        (num_choices,) = check_choices(block)
        texts = encoder.encode([example.text for example in block])
        choices = encoder.encode([choice for example in block for choice in example.choices])
        rows = []
        num_truncated = 0
        for number, choice in enumerate(choices):
            pair = [texts[number // num_choices], choice]
            fitting = encoder.pair.fitting(pair, self.max_length)
            num_truncated += fitting is not pair
            rows.append(encoder.pair.row(*fitting))
        labels = [example.label for example in block if example.label is not None]
        targets = {"labels": np.repeat(np.array(labels, dtype=np.int64), num_choices)}
        return TokenRows.of(
            rows,
            np.repeat(np.arange(len(block)), num_choices),
            row_targets=targets if len(labels) == len(block) else {},
            truncated=+Counter({"choices cut to max_length": num_truncated}),
            rows_together=num_choices,
        )

    def labelled(self, model: nn.Module, batch: Batch) -> list[Labelled]:
        """The logits of the choices of x and y, and the numbers of the right ones."""
        return labelled_sides(model, batch)

    def loss(self, labelled: list[Labelled]) -> Tensor:
        """The mean cross-entropy over the examples of x and y."""
        return mean_cross_entropy(labelled)

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros for the logits of the choices of each example."""
        return {"logits": np.zeros((rows.num_units, rows.x.rows.rows_together))}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store the logits of the batch of examples `numbers`."""
        results["logits"][numbers] = logits_of(output, self.average_pair).cpu().numpy()

    def predictions(self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[Choices]) -> list[str]:
        """The number of the most likely choice of each example, from 0, as text."""
        return [str(number) for number in results["logits"].argmax(axis=1)]


def check_choices(examples: Sequence[Choices]) -> set[int]:
    """The numbers of choices, a single one; raises ValueError for several, and for a label beyond the choices."""
    numbers = {len(example.choices) for example in examples}
    if len(numbers) > 1:
        raise ValueError(f"examples have {' and '.join(map(str, sorted(numbers)))} choices; expected as many in all")
    for example in examples:
        if example.label is not None and not 0 <= example.label < len(example.choices):
            raise ValueError(
                f"an example in {example.language!r} has the label {example.label}; expected 0 to "
                f"{len(example.choices) - 1}, the number of a choice"
            )
    return numbers
