"""Winogender schemas as pairs of entailment: the same sentence with a pronoun of either gender, and one hypothesis.

Read from the files of Winogender (Rudinger et al., 2018), or from SuperGLUE's recast of them, AX-g.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.files.formats import COMPRESSED_SUFFIXES
from data_tools.text.lines import open_text

TEMPLATES, STATISTICS = "templates.tsv", "occupations-stats.tsv"
HEADER_OF_TEMPLATES = ("occupation(0)", "other-participant(1)", "answer", "sentence")
OCCUPATION, PARTICIPANT = "$OCCUPATION", "$PARTICIPANT"
# Slot of a template -> (his form, her form, what follows a noun in its place).
PRONOUNS = {
    "$NOM_PRONOUN": ("he", "she", ""),
    "$ACC_PRONOUN": ("him", "her", ""),
    "$POSS_PRONOUN": ("his", "her", "'s"),
}
ENTAILMENT, NOT_ENTAILMENT = "entailment", "not_entailment"


@dataclass(frozen=True)
class Subject:
    """Whom a pair is about: the hypothesis has the occupation, or else the participant, in the place of the pronoun.

    `share_of_women` is that of the occupation, None where it is not known.
    """

    occupation: str
    says_occupation: bool
    share_of_women: float | None


@dataclass(frozen=True)
class GenderPair:
    """Two premises that differ in the gender of a pronoun, and a hypothesis that follows from both or from neither.

    Of AX-g the genders of the premises are not known, and `subject` is None.
    """

    premises: tuple[str, str]  # his and hers
    hypothesis: str
    is_entailed: bool
    subject: Subject | None = None

    def is_gotcha(self, is_hers: bool) -> bool | None:
        """Whether the pronoun's gender speaks against whom it means; None where the share of women is not known.

        It does where it means the occupation and is not the gender of most of those who have it, or means the
        participant and is (Rudinger et al., 2018).
        """
        if self.subject is None or self.subject.share_of_women is None:
            return None
        means_occupation = self.subject.says_occupation == self.is_entailed
        are_mostly_women = self.subject.share_of_women >= 0.5
        return (is_hers == are_mostly_women) != means_occupation


def read_pairs(path: Path) -> list[GenderPair]:
    """The pairs of Winogender's directory, or of an AX-g file. Raises ValueError for anything else."""
    pairs = list(recast(path) if path.is_dir() else pairs_of_axg(path))
    if not pairs:
        raise ValueError(f"{path}: empty; expected Winogender's templates, or AX-g's pairs")
    return pairs


def files_of_winogender(directory: Path) -> dict[str, Path]:
    """The files of a directory by name, plain or compressed; STATISTICS may be missing.

    Raises ValueError for a directory without TEMPLATES.
    """
    places = {
        name: [directory / f"{name}{suffix}" for suffix in ("", *COMPRESSED_SUFFIXES)]
        for name in (TEMPLATES, STATISTICS)
    }
    found = {name: next((path for path in paths if path.is_file()), None) for name, paths in places.items()}
    if found[TEMPLATES] is None:
        raise ValueError(f"{directory}: expected Winogender's {TEMPLATES}, found no such file")
    return {name: path for name, path in found.items() if path is not None}


def recast(directory: Path) -> Iterator[GenderPair]:
    """Two pairs of each template: in the hypothesis the occupation, or the participant, stands for the pronoun.

    Raises ValueError for files in another form.
    """
    files = files_of_winogender(directory)
    shares = shares_of_women(files[STATISTICS]) if STATISTICS in files else {}
    for where, row in rows_of(files[TEMPLATES]):
        if missing := [name for name in HEADER_OF_TEMPLATES if name not in row]:
            raise ValueError(f"{where}: no column {missing[0]}; expected {', '.join(HEADER_OF_TEMPLATES)}")
        occupation, participant, answer, template = (row[name] for name in HEADER_OF_TEMPLATES)
        slots = [slot for slot in PRONOUNS if slot in template]
        if len(slots) != 1 or answer not in ("0", "1"):
            raise ValueError(f"{where}: expected one of {', '.join(PRONOUNS)}, and the answer 0 or 1")
        his, hers, ending = PRONOUNS[slots[0]]
        sentence = template.replace(OCCUPATION, occupation).replace(PARTICIPANT, participant)
        premises = sentence.replace(slots[0], his), sentence.replace(slots[0], hers)
        for number, name in enumerate((occupation, participant)):
            hypothesis = sentence.replace(slots[0], f"the {name}{ending}")
            subject = Subject(occupation, number == 0, shares.get(occupation))
            yield GenderPair(premises, hypothesis, int(answer) == number, subject)


def shares_of_women(path: Path) -> dict[str, float]:
    """The share of women in each occupation, by the Bureau of Labor Statistics."""
    shares = {}
    for where, row in rows_of(path):
        try:
            shares[row["occupation"]] = float(row["bls_pct_female"]) / 100
        except (KeyError, ValueError):
            raise ValueError(f"{where}: expected columns occupation and bls_pct_female, a percentage") from None
    return shares


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(its place, cells by column) of each row of a TSV file with a header. Raises ValueError for unequal rows."""
    with open_text(path) as lines:
        header: list[str] | None = None
        for number, line in enumerate(lines, start=1):
            cells = line.split("\t")
            if header is None:
                header = cells
            elif len(cells) != len(header):
                raise ValueError(f"{lines.place(number)}: expected {len(header)} columns, found {len(cells)}")
            else:
                yield lines.place(number), dict(zip(header, cells, strict=True))


def pairs_of_axg(path: Path) -> Iterator[GenderPair]:
    """The pairs of a JSONL file, an object a line: two lines that follow each other are a pair.

    Raises ValueError for lines in another form, and for two with different hypotheses or labels.
    """
    with open_text(path) as lines:
        own = (line_of_axg(line, lines.place(number)) for number, line in enumerate(lines, start=1) if line.strip())
        for where, premise, hypothesis, label in own:
            other = next(own, None)
            if other is None or other[2:] != (hypothesis, label) or other[1] == premise:
                raise ValueError(
                    f"{where}: expected a second line with another premise, the same hypothesis and the same label"
                )
            yield GenderPair((premise, other[1]), hypothesis, label == ENTAILMENT)


def line_of_axg(line: str, where: str) -> tuple[str, str, str, str]:
    """(its place, premise, hypothesis, label) of a line. Raises ValueError for another form."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    keys = ("premise", "hypothesis", "label")
    if not isinstance(row, Mapping) or not all(isinstance(row.get(key), str) for key in keys):
        raise ValueError(f"{where}: expected a JSON object with the texts premise, hypothesis and label")
    premise, hypothesis, label = (row[key] for key in keys)
    if label not in (ENTAILMENT, NOT_ENTAILMENT):
        raise ValueError(f"{where}: expected the label {ENTAILMENT} or {NOT_ENTAILMENT}, found {label!r}")
    return where, premise, hypothesis, label
