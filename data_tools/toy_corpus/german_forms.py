"""German inflection.

Cells: noun `singular/gender/plural/weak form` (the last for nouns that have it in all cases but the nominative
singular); adjective `predicative/attributive stem`; verb `infinitive/third person/participle/ist`, where "|" marks a
separable prefix and "sich " a reflexive verb.
"""

from dataclasses import dataclass
from functools import cache

from data_tools.toy_corpus.lexicon import lexicon

# Endings by gender (p: plural of all genders) in the order nominative, accusative, dative, genitive.
_CASES = ("nom", "acc", "dat", "gen")
_DEFINITE = {"m": "der den dem des", "f": "die die der der", "n": "das das dem des", "p": "die die den der"}
_STRONG_DETERMINER = {"m": "er en em es", "f": "e e er er", "n": "es es em es", "p": "e e en er"}
_EIN_DETERMINER = {"m": "- en em es", "f": "e e er er", "n": "- - em es", "p": "e e en er"}
_WEAK = {"m": "e en en en", "f": "e e en en", "n": "e e en en", "p": "en en en en"}
_MIXED = {"m": "er en en en", "f": "e e en en", "n": "es es en en", "p": "en en en en"}
_STRONG = {"m": "er en em en", "f": "e e er er", "n": "es es em en", "p": "e e en er"}
_ADJECTIVE = {"weak": _WEAK, "mixed": _MIXED, "strong": _STRONG}
_PERSONAL = {"m": "er ihn ihm -", "f": "sie sie ihr -", "n": "es es ihm -", "p": "sie sie ihnen -"}
_RELATIVE = {"m": "der den dem dessen", "f": "die die der deren", "n": "das das dem dessen", "p": "die die denen deren"}
# Adjectives that lose an e, or change, before an ending.
_ATTRIBUTIVE_STEMS = {"hoch": "hoh", "dunkel": "dunkl", "teuer": "teur", "sauer": "saur", "müde": "müd"}


@dataclass(frozen=True)
class GermanVerb:
    """The forms of a verb; `prefix` is the separable one, which `infinitive` and `participle` contain."""

    infinitive: str
    prefix: str
    plural: str
    third: str
    participle: str
    auxiliary_is_sein: bool
    reflexive: bool

    @property
    def zu_infinitive(self) -> str:
        """The infinitive with "zu", which a separable prefix takes inside."""
        return f"{self.prefix}zu{self.plural}" if self.prefix else f"zu {self.infinitive}"


@cache
def verb_forms(verb: str) -> GermanVerb:
    """The forms of a verb of the lexicon."""
    entry = lexicon().verbs.get(verb) or lexicon().weather[verb]
    infinitive, third, participle, *auxiliary = entry.forms("de")
    reflexive = infinitive.startswith("sich ")
    prefix, _, base = infinitive.removeprefix("sich ").rpartition("|")
    return GermanVerb(prefix + base, prefix, base, third, participle, auxiliary == ["ist"], reflexive)


def noun_gender(noun: str) -> str:
    """ "m", "f" or "n"."""
    return lexicon().nouns[noun].forms("de")[1]


@cache
def noun_form(noun: str, plural: bool, case: str) -> str:
    """The noun in number and case."""
    singular, gender, plural_form, *weak = lexicon().nouns[noun].forms("de")
    if plural:
        return f"{plural_form}n" if case == "dat" and not plural_form.endswith(("n", "s")) else plural_form
    if weak:
        return singular if case == "nom" else weak[0]
    if case == "gen" and gender != "f":
        return singular + _genitive_ending(singular)
    return singular


def _genitive_ending(noun: str) -> str:
    """-es after a sibilant and with words of one syllable that end in a consonant, else -s."""
    vowels = "aeiouäöüy"
    groups = sum(
        letter in vowels and (index == 0 or noun.lower()[index - 1] not in vowels)
        for index, letter in enumerate(noun.lower())
    )
    sibilant = noun.endswith(("s", "ß", "z", "x"))
    return "es" if sibilant or (groups == 1 and noun[-1] not in vowels) else "s"


def gender_key(noun: str, plural: bool) -> str:
    """The row of the ending tables."""
    return "p" if plural else noun_gender(noun)


def ending(table: dict[str, str], key: str, case: str) -> str:
    """One cell of an ending table."""
    found = table[key].split()[_CASES.index(case)]
    return "" if found == "-" else found


@cache
def definite(key: str, case: str) -> str:
    """The definite article."""
    return ending(_DEFINITE, key, case)


@cache
def der_word(stem: str, key: str, case: str) -> str:
    """ "dieser", "jeder", "aller", "vieler" in agreement."""
    return stem + ending(_STRONG_DETERMINER, key, case)


@cache
def ein_word(stem: str, key: str, case: str) -> str:
    """ "ein", "kein", "sein", "ihr" in agreement."""
    return stem + ending(_EIN_DETERMINER, key, case)


@cache
def adjective_form(adjective: str, kind: str, key: str, case: str) -> str:
    """The attributive adjective; `kind` is "weak", "mixed" or "strong"."""
    written = predicative(adjective)
    return _ATTRIBUTIVE_STEMS.get(written, written) + ending(_ADJECTIVE[kind], key, case)


def predicative(adjective: str) -> str:
    """The adjective without an ending."""
    return lexicon().adjectives[adjective].cells["de"]


@cache
def personal_pronoun(key: str, case: str) -> str:
    """The pronoun of the third person."""
    return ending(_PERSONAL, key, case)


@cache
def relative_pronoun(key: str, case: str) -> str:
    """The relative pronoun."""
    return ending(_RELATIVE, key, case)
