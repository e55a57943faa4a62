"""French inflection.

Cells: noun `singular/gender/plural`; adjective `masculine/feminine/masculine plural/before a vowel/pre`, where "pre"
puts it before the noun; verb `infinitive/third singular/third plural/participle/future stem/être`, of which regular
verbs in -er have only the infinitive. "*" before a word marks an h without elision; it is removed at the end.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache

from data_tools.toy_corpus.lexicon import lexicon

# Numbers before which there is no elision although they begin with a vowel sound.
_NO_ELISION = ("onze", "huit")
_ELIDED = {"le": "l'", "la": "l'", "de": "d'", "ne": "n'", "que": "qu'", "se": "s'"}


@dataclass(frozen=True)
class FrenchVerb:
    """The forms of a verb; `future` is the stem of the simple future."""

    infinitive: str
    third: str
    plural: str
    participle: str
    future: str
    uses_etre: bool
    reflexive: bool


@cache
def verb_forms(verb: str) -> FrenchVerb:
    """The forms of a verb of the lexicon."""
    entry = lexicon().verbs.get(verb) or lexicon().weather[verb]
    forms = entry.forms("fr")
    reflexive = forms[0].startswith("se ")
    infinitive = forms[0].removeprefix("se ")
    uses_etre = reflexive or forms[-1] == "être"
    stem = infinitive[:-2]
    regular = [infinitive, f"{stem}e", f"{stem}ent", f"{stem}é", infinitive]
    written = [form for form in forms[1:] if form != "être"]
    _, third, plural, participle, future = [infinitive, *written, *regular[len(written) + 1 :]]
    return FrenchVerb(infinitive, third, plural, participle, future, uses_etre, reflexive)


def imperfect(verb: str, plural: bool) -> str:
    """The imperfect, built on the third person plural of the present."""
    stem = "croy" if verb == "believe" else verb_forms(verb).plural.removesuffix("ent")
    return stem + ("aient" if plural else "ait")


def noun_gender(noun: str) -> str:
    """ "m" or "f"."""
    return lexicon().nouns[noun].forms("fr")[1]


@cache
def noun_form(noun: str, plural: bool) -> str:
    """The noun in the singular or plural."""
    forms = lexicon().nouns[noun].forms("fr")
    if not plural:
        return forms[0]
    return forms[2] if len(forms) > 2 else f"{forms[0]}s"


def is_before_noun(adjective: str) -> bool:
    """Whether the adjective stands before its noun."""
    return lexicon().adjectives[adjective].forms("fr")[-1] == "pre"


@cache
def adjective_form(adjective: str, gender: str, plural: bool, following: str = "") -> str:
    """The adjective in agreement; `following` is the word after it, "" for none."""
    masculine, *rest = [form for form in lexicon().adjectives[adjective].forms("fr") if form != "pre"]
    feminine = rest[0] if rest else masculine if masculine.endswith("e") else f"{masculine}e"
    if gender == "f":
        return f"{feminine}s" if plural else feminine
    if plural:
        return rest[1] if len(rest) > 1 else masculine if masculine.endswith(("s", "x")) else f"{masculine}s"
    return rest[2] if len(rest) > 2 and begins_with_vowel(following) else masculine


def agree(participle: str, gender: str, plural: bool) -> str:
    """A past participle in agreement."""
    form = f"{participle}e" if gender == "f" else participle
    return form if not plural or form.endswith("s") else f"{form}s"


@cache
def begins_with_vowel(word: str) -> bool:
    """Whether a word before `word` is elided."""
    if not word or word.startswith("*") or word in _NO_ELISION:
        return False
    if word == "y":  # the pronoun; nouns in y- are not elided, but the lexicon has none
        return True
    letter = unicodedata.normalize("NFD", word.lower().replace("œ", "oe"))[0]
    return letter in "aeiouh"


def contract(tokens: list[str]) -> list[str]:
    """The words with contracted articles ("de le" is "du"), elisions joined, and the marks of the h removed."""
    result: list[str] = []
    index = 0
    while index < len(tokens):
        word = tokens[index]
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        after = tokens[index + 2] if index + 2 < len(tokens) else ""
        if word in ("de", "à") and following in ("le", "les") and not (following == "le" and begins_with_vowel(after)):
            contracted = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}
            result.append(contracted[word, following])
            index += 2
        elif word == "si" and following in ("il", "ils"):
            result.append(f"s'{following}")
            index += 2
        elif word in _ELIDED and begins_with_vowel(following):
            result.append(_ELIDED[word] + following)
            index += 2
        else:
            result.append(word)
            index += 1
    return [word.replace("*", "") for word in result]
