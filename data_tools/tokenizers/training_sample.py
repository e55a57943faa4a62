"""The sample of a multilingual corpus that trains its tokenizer: lines of each language in proportion to n^alpha.

A vocabulary trained on all text is dominated by the languages with most of it. As in XLM-R (arXiv:1911.02116, alpha
0.3; for the idea see "A Primer on Pretrained Multilingual Language Models", section 2.3) language l with n_l lines
contributes M n_l^alpha / sum_k n_k^alpha of M lines. Lines are sampled without replacement: a language with fewer lines
contributes them all, and the rest of M is distributed among the others by the same rule.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from data_tools.corpus.inputs import Input
from data_tools.corpus.language_shares import sampling_probabilities
from data_tools.readers import InputReader, size_of
from data_tools.text.sentence_splitting import split_sentences

MAX_LINE_BYTES = 4192  # SentencePiece's default; longer lines are skipped in training
LINES_PER_REPORT = 10_000


@dataclass
class LineCounts:
    """Counts of one pass over a corpus so far: lines by language, lines that are too long, bytes of the others.

    `dropped` counts what the readers drop, see `InputReader`.
    """

    num_lines: Counter[str] = field(default_factory=Counter)
    num_too_long: int = 0
    num_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def training_lines(
    inputs: Sequence[Input], counts: LineCounts, report: Callable[[int], None]
) -> Iterator[tuple[str, str]]:
    """(language, line) for all lines of the inputs, also of both sides of pairs, that are not blank or too long.

    Counts them in `counts`, and calls `report` with the number of bytes read. Raises the errors of reading, see
    `InputReader`.
    """
    finished_bytes = 0
    num_seen = 0
    for item in inputs:
        with InputReader(item, None) as reader:
            for language, line in input_lines(item, reader):
                num_seen += 1
                if num_seen % LINES_PER_REPORT == 0:
                    report(finished_bytes + reader.num_bytes_read)
                num_bytes = len(line.encode())
                if num_bytes > MAX_LINE_BYTES:
                    counts.num_too_long += 1
                    continue
                counts.num_lines[language] += 1
                counts.num_bytes += num_bytes
                yield language, line
            counts.dropped.update(reader.dropped)
        finished_bytes += size_of(item)
        report(finished_bytes)


def input_lines(item: Input, reader: InputReader) -> Iterator[tuple[str, str]]:
    """(language, line) for the non-blank lines of one input; running text is split into sentences."""
    if len(item.languages) == 1:
        (language,) = item.languages
        for document in reader.documents():
            for line in split_sentences(document, language) if item.split_sentences else document:
                yield language, line
        return
    for pair in reader.pairs():
        for language, line in zip(item.languages, pair, strict=True):
            if line and not line.isspace():
                yield language, line


def allocate(num_lines: Mapping[str, int], alpha: float, num_wanted: int) -> dict[str, int]:
    """The number of lines of each language in a sample of `num_wanted`, or all lines if they are fewer.

    Languages whose share exceeds their lines contribute all of them, and the rest is distributed again until no share
    is too large; fractions are rounded by largest remainder.
    """
    given = dict.fromkeys(num_lines, 0)
    not_full = [language for language, count in num_lines.items() if count]
    shares: dict[str, float] = {}
    while not_full:
        num_left = num_wanted - sum(given.values())
        probabilities = sampling_probabilities([num_lines[language] for language in not_full], alpha)
        shares = {
            language: num_left * probability for language, probability in zip(not_full, probabilities, strict=True)
        }
        full = [language for language in not_full if shares[language] >= num_lines[language]]
        if not full:
            break
        given.update({language: num_lines[language] for language in full})
        not_full = [language for language in not_full if language not in full]
    given.update({language: int(shares[language]) for language in not_full})
    by_remainder = sorted(not_full, key=lambda language: int(shares[language]) - shares[language])
    for language in by_remainder[: min(num_wanted, sum(num_lines.values())) - sum(given.values())]:
        given[language] += 1
    return given


def chosen_lines(num_lines: int, num_chosen: int, seed: str) -> Iterator[int]:
    """The line numbers of a random sample, ascending: one from each of `num_chosen` equal stretches of the text.

    SentencePiece can sample too, but differently in every run. This sample needs no memory, and keeps the order.
    """
    random = Random(seed)
    for i in range(num_chosen):
        yield random.randrange(i * num_lines // num_chosen, (i + 1) * num_lines // num_chosen)


def drawn(
    lines: Iterable[tuple[str, str]], num_lines: Mapping[str, int], num_drawn: Mapping[str, int], seed: int
) -> Iterator[tuple[str, str]]:
    """The sampled ones of `lines`, (language, line), in order: `num_drawn` of the `num_lines` of each language."""
    chosen = {name: chosen_lines(count, num_drawn[name], f"{seed} {name}") for name, count in num_lines.items()}
    following = {language: next(numbers, None) for language, numbers in chosen.items()}
    num_seen: Counter[str] = Counter()
    for language, line in lines:
        if num_seen[language] == following[language]:
            yield language, line
            following[language] = next(chosen[language], None)
        num_seen[language] += 1
