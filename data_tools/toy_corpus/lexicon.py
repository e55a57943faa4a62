"""The lexicon: one entry per concept, read from the tables in `lexicon/*.tsv`.

The tables are tab-separated with one header line. A language's cell has its forms, separated by "/", in the order given
in the docstring of its module (`english.py`, `german_forms.py`, `french_forms.py`, `russian_forms.py`); regular forms
are omitted.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

LANGUAGES = ("en", "de", "fr", "ru")


@dataclass(frozen=True)
class Entry:
    """One concept of a table: `name` is its first cell up to the first "/", plus "#…" if two would be equal."""

    name: str
    cells: dict[str, str]

    def forms(self, language: str) -> list[str]:
        """The forms of `language` as written in the table."""
        return self.cells[language].partition("#")[0].split("/")

    @cached_property
    def tags(self) -> frozenset[str]:
        """The kinds of the concept, including its own name, so that selections can name a single concept."""
        return frozenset([self.name, *_listed(self.cells.get("kinds") or self.cells.get("kind") or "")])

    @cached_property
    def flags(self) -> frozenset[str]:
        """The flags of a verb."""
        return frozenset(_listed(self.cells["flags"]))

    def government(self, language: str) -> str:
        """Case or preposition of a verb's object in `language`: "" or "acc" direct, "dat", or "preposition+case"."""
        written = self.cells["government"]
        return written.split("/")[LANGUAGES.index(language)] if written else ""


@dataclass(frozen=True)
class Lexicon:
    """All tables; each maps a concept's name to its entry, in the order of the file (common words first)."""

    nouns: dict[str, Entry]
    verbs: dict[str, Entry]
    adjectives: dict[str, Entry]
    adverbs: dict[str, Entry]
    prepositions: dict[str, Entry]
    conjunctions: dict[str, Entry]
    numbers: dict[str, Entry]
    modals: dict[str, Entry]
    weather: dict[str, Entry]

    def select(self, table: str, selection: str) -> tuple[str, ...]:
        """Names in `table` ("nouns", …) that any term of `selection` admits.

        A term is a kind or a name, optionally with kinds that it excludes: "food:-mass,apple".
        """
        return _select(table, selection)


@cache
def lexicon() -> Lexicon:
    """The lexicon, read once."""
    return Lexicon(
        nouns=_read_table("nouns"),
        verbs=_read_table("verbs"),
        adjectives=_read_table("adjectives"),
        adverbs=_read_table("adverbs"),
        prepositions=_read_table("prepositions"),
        conjunctions=_read_table("conjunctions"),
        numbers=_read_table("numbers"),
        modals=_read_table("modals"),
        weather=_read_table("weather"),
    )


def number_text(number: int, digits: bool, language: str) -> str:
    """The number in digits or as a word, which the table of numbers must have."""
    return str(number) if digits else lexicon().numbers[str(number)].cells[language]


def count_lemmas(language: str) -> int:
    """The number of distinct lemmas (first forms in a table) of `language` in all tables."""
    tables = vars(lexicon())
    return sum(len({entry.forms(language)[0] for entry in table.values()}) for table in tables.values())


@cache
def _select(table: str, selection: str) -> tuple[str, ...]:
    """See `Lexicon.select`; cached because the samplers make the same few selections again and again."""
    entries: dict[str, Entry] = vars(lexicon())[table]
    terms = [term.split(":-") for term in selection.split(",") if term]
    return tuple(
        name
        for name, entry in entries.items()
        if any(term[0] in entry.tags and not entry.tags.intersection(term[1:]) for term in terms)
    )


def _read_table(name: str) -> dict[str, Entry]:
    """Entries of `lexicon/<name>.tsv` by concept name."""
    text = resources.files("data_tools.toy_corpus").joinpath("lexicon", f"{name}.tsv").read_text(encoding="utf-8")
    heading, *rows = text.splitlines()
    columns = heading.split("\t")
    entries = {}
    for row in rows:
        cells = dict(zip(columns, row.split("\t"), strict=True))
        first = cells[columns[0]]
        concept = first.split("/")[0].partition("#")[0] + (f"#{first.partition('#')[2]}" if "#" in first else "")
        assert concept not in entries, f"lexicon/{name}.tsv has {concept} twice"
        entries[concept] = Entry(concept, cells)
    return entries


def _listed(written: str) -> list[str]:
    """The comma-separated parts of a cell."""
    return [part for part in written.split(",") if part]
