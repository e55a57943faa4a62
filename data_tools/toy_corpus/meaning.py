"""The abstract syntax of the grammar: the meaning of a sentence, without word order or forms of any language.

Concepts are names of entries of the lexicon (`lexicon.py`). All types are frozen, so meanings are compared and hashed
by value.
"""

from dataclasses import dataclass
from enum import Enum

from data_tools.toy_corpus.lexicon import lexicon


class Tense(Enum):
    """The time of a clause; each language chooses its own tense."""

    PRESENT = "present"
    PAST = "past"
    FUTURE = "future"


class Polarity(Enum):
    """Affirmative, negated, or "never" (present tense only)."""

    YES = "yes"
    NOT = "not"
    NEVER = "never"


class Determiner(Enum):
    """The determiner of a noun; OWN is the possessive that refers to the subject of the clause."""

    THE = "the"
    A = "a"  # bare in the plural and with mass nouns
    THIS = "this"
    EVERY = "every"
    ALL = "all"
    MANY = "many"
    OWN = "own"
    COUNT = "count"
    NAME = "name"


class Kind(Enum):
    """The shape of a clause."""

    VERB = "verb"
    ADJECTIVE = "adjective"  # the house is old
    COMPARISON = "comparison"  # the house is older than the tower
    PROFESSION = "profession"  # Anna is a doctor
    LOCATION = "location"  # the book is on the table
    POSSESSION = "possession"  # Anna has a dog
    EXISTENCE = "existence"  # there is a park in the city
    WEATHER = "weather"  # it is raining
    AGE = "age"  # Anna is ten years old
    PRICE = "price"  # the book costs ten euros


class Question(Enum):
    """The question words, and WHETHER for yes-or-no questions."""

    WHETHER = "whether"
    WHO = "who"
    WHAT = "what"
    WHERE = "where"
    WHEN = "when"
    WHY = "why"
    HOW_MANY = "how many"


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun with its modifiers, or the pronoun for it.

    `owner` is the subject that an OWN determiner refers to; `count` is the number of a COUNT determiner, written as a
    word unless `digits`; `partner` makes a coordination "X and partner".
    """

    noun: str
    plural: bool = False
    determiner: Determiner = Determiner.THE
    count: int = 0
    digits: bool = False
    adjectives: tuple[str, ...] = ()
    possessor: "NounPhrase | None" = None
    owner: "NounPhrase | None" = None
    relative: "Relative | None" = None
    pronoun: bool = False
    partner: "NounPhrase | None" = None

    def has(self, *kinds: str) -> bool:
        """Whether the noun is of any of these kinds."""
        return not lexicon().nouns[self.noun].tags.isdisjoint(kinds)

    @property
    def animate(self) -> bool:
        """Whether it is a person or an animal."""
        return self.has("person", "animal", "name")

    @property
    def indefinite(self) -> bool:
        """Whether it introduces something new."""
        return self.determiner is Determiner.A and not self.pronoun

    @property
    def agrees_in_plural(self) -> bool:
        """Whether a verb agrees with it in the plural."""
        return self.plural or self.partner is not None

    @property
    def members(self) -> "tuple[NounPhrase, ...]":
        """The coordinated phrases, or the single phrase."""
        return (self,) if self.partner is None else (self, self.partner)


@dataclass(frozen=True, slots=True)
class Relative:
    """A relative clause; `gap` says which of its phrases ("subject" or "object") the noun stands for."""

    gap: str
    clause: "Clause"


@dataclass(frozen=True, slots=True)
class Place:
    """A place ("at"), a direction ("to"), or a spatial preposition of the lexicon ("under", …), with its noun."""

    role: str
    ground: NounPhrase


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause. Which fields are used follows from `kind` and, for verbs, from the frame in the lexicon.

    `time` is a time adverb, or "hour:5", "hour:5:digits", "year:1987"; `fronted` puts it first. In English, `habitual`
    clauses and stative verbs are in the simple present. `manner`, `frequency` and `degree` are adverbs.
    """

    kind: Kind
    subject: NounPhrase | None = None
    verb: str = ""
    object: NounPhrase | None = None
    recipient: NounPhrase | None = None
    place: Place | None = None
    companion: NounPhrase | None = None
    topic: NounPhrase | None = None
    beneficiary: NounPhrase | None = None
    adjective: str = ""
    degree: str = ""
    number: int = 0
    digits: bool = False
    tense: Tense = Tense.PRESENT
    modal: str = ""
    polarity: Polarity = Polarity.YES
    time: str = ""
    fronted: bool = False
    frequency: str = ""
    manner: str = ""
    habitual: bool = False
    content: "Clause | None" = None
    purpose: "Clause | None" = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A main clause with at most one other clause joined by `conjunction`; `other_first` puts that clause in front.

    `opening` is an adverb that links the sentence to the previous one.
    """

    main: Clause
    conjunction: str = ""
    other: Clause | None = None
    other_first: bool = False
    question: Question | None = None
    opening: str = ""
