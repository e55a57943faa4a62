"""Russian inflection.

Cells: noun `nominative/gender/exceptions`, where the exceptions are "indeclinable" or a list of `stem=` (of all other
cases), `ins=` (singular), `loc=` (after в and на), `npl=`, `gpl=`, `ipl=` and `pl=` (the base of the plural dative,
instrumental and prepositional, with its vowel); verb `present third singular/plural/past/future third
singular/plural/infinitive`, past as masculine, or `masculine:feminine` where the rule does not give it.
"""

from dataclasses import dataclass
from functools import cache

from data_tools.toy_corpus.lexicon import lexicon

CASES = ("nom", "acc", "gen", "dat", "ins", "prep")
_VELAR_OR_HUSHER = "гкхжшчщ"
_HUSHER = "жшчщ"
_PRONOUNS = {
    "m": dict(zip(CASES, ("он", "его", "его", "ему", "им", "нём"), strict=True)),
    "f": dict(zip(CASES, ("она", "её", "её", "ей", "ей", "ней"), strict=True)),
    "p": dict(zip(CASES, ("они", "их", "их", "им", "ими", "них"), strict=True)),
}
# этот and свой; the accusative of masculine and plural follows the nominative or the genitive.
_DETERMINERS = {
    "this": {
        "m": dict(zip(CASES, ("этот", "", "этого", "этому", "этим", "этом"), strict=True)),
        "n": dict(zip(CASES, ("это", "это", "этого", "этому", "этим", "этом"), strict=True)),
        "f": dict(zip(CASES, ("эта", "эту", "этой", "этой", "этой", "этой"), strict=True)),
        "p": dict(zip(CASES, ("эти", "", "этих", "этим", "этими", "этих"), strict=True)),
    },
    "own": {
        "m": dict(zip(CASES, ("свой", "", "своего", "своему", "своим", "своём"), strict=True)),
        "n": dict(zip(CASES, ("своё", "своё", "своего", "своему", "своим", "своём"), strict=True)),
        "f": dict(zip(CASES, ("своя", "свою", "своей", "своей", "своей", "своей"), strict=True)),
        "p": dict(zip(CASES, ("свои", "", "своих", "своим", "своими", "своих"), strict=True)),
    },
    "all": {"p": dict(zip(CASES, ("все", "", "всех", "всем", "всеми", "всех"), strict=True))},
}


@dataclass(frozen=True)
class RussianVerb:
    """The forms of a verb; `past` by gender and "p" for the plural."""

    present: tuple[str, str]
    future: tuple[str, str]
    past: dict[str, str]
    infinitive: str


@cache
def verb_forms(verb: str) -> RussianVerb:
    """The forms of a verb of the lexicon."""
    present, present_plural, past, future, future_plural, infinitive = lexicon().verbs[verb].forms("ru")
    return RussianVerb((present, present_plural), (future, future_plural), past_forms(past), infinitive)


def past_forms(written: str) -> dict[str, str]:
    """The four past forms from `masculine` or `masculine:feminine`."""
    masculine, _, feminine = written.partition(":")
    reflexive = masculine.endswith("ся")
    if not feminine:
        stem = masculine.removesuffix("ся")
        feminine = f"{stem}ась" if reflexive else f"{stem}а"
    base = feminine[: -3 if reflexive else -1]
    suffix = "сь" if reflexive else ""
    return {"m": masculine, "f": feminine, "n": f"{base}о{suffix}", "p": f"{base}и{suffix}"}


def noun_gender(noun: str) -> str:
    """ "m", "f" or "n"."""
    return lexicon().nouns[noun].forms("ru")[1]


def is_animate(noun: str) -> bool:
    """Whether the accusative is the genitive where the two can be equal."""
    return bool(lexicon().nouns[noun].tags & {"person", "animal", "name"})


def gender_key(noun: str, plural: bool) -> str:
    """The row of the agreement tables."""
    return "p" if plural else noun_gender(noun)


@cache
def noun_form(noun: str, plural: bool, case: str) -> str:
    """The noun in number and case; case "loc" is the prepositional after в and на."""
    return _paradigm(noun)[("p" if plural else "s") + ("prep" if plural and case == "loc" else case)]


@cache
def _paradigm(noun: str) -> dict[str, str]:
    """All forms of a noun: "snom", "sacc", … "ploc"."""
    nominative, gender, *written = lexicon().nouns[noun].forms("ru")
    if written == ["indeclinable"]:
        return {number + case: nominative for number in "sp" for case in (*CASES, "loc")}
    exceptions = dict(item.split("=") for item in written[0].split(",")) if written else {}
    forms = _regular_paradigm(nominative, gender, exceptions.get("stem", ""))
    if "npl" in exceptions:
        forms["pnom"] = exceptions["npl"]
        # учителя, дома, повара: the plural is built on the new nominative, and the genitive follows its vowel.
        if exceptions["npl"].endswith("а") and gender == "m":
            forms["pgen"] = f"{exceptions['npl'][:-1]}ов"
        if gender == "m" and exceptions["npl"].endswith(("а", "я")):
            _set_oblique_plural(forms, exceptions["npl"])
    if "pl" in exceptions:
        _set_oblique_plural(forms, exceptions["pl"])
    for key, target in (("ins", "sins"), ("loc", "sloc"), ("gpl", "pgen"), ("ipl", "pins")):
        if key in exceptions:
            forms[target] = exceptions[key]
    animate = is_animate(noun)
    forms["pacc"] = forms["pgen" if animate else "pnom"]
    if gender == "m" and not nominative.endswith(("а", "я")):
        forms["sacc"] = forms["sgen" if animate else "snom"]
    return forms


def _set_oblique_plural(forms: dict[str, str], base: str) -> None:
    """Set the plural dative, instrumental and prepositional from their base with its vowel."""
    forms.update(pdat=f"{base}м", pins=f"{base}ми", pprep=f"{base}х", ploc=f"{base}х")


def _regular_paradigm(nominative: str, gender: str, stem: str) -> dict[str, str]:
    """The forms by the rules of the noun's ending."""
    last = nominative[-1]
    if last in "ая":
        singular, plural = _a_declension(nominative)
    elif gender == "f":
        stem = stem or nominative[:-1]
        singular = (nominative, nominative, f"{stem}и", f"{stem}и", f"{stem}ью", f"{stem}и")
        plural = (f"{stem}и", f"{stem}ей", _after(stem, "я"))
    elif gender == "n":
        singular, plural = _neuter_declension(nominative)
    else:
        singular, plural = _masculine_declension(nominative, stem)
    forms = {f"s{case}": form for case, form in zip(CASES, singular, strict=True)}
    forms["sloc"] = forms["sprep"]
    forms["pnom"], forms["pgen"] = plural[:2]
    _set_oblique_plural(forms, plural[2])
    return forms


def _after(stem: str, vowel: str) -> str:
    """The stem with я or ю, written а or у after hushers."""
    if stem[-1] in _HUSHER:
        vowel = {"я": "а", "ю": "у", "ы": "и"}.get(vowel, vowel)
    return stem + vowel


def _a_declension(nominative: str) -> tuple[tuple[str, ...], tuple[str, str, str]]:
    """Singular in all cases; plural nominative, genitive and oblique base of nouns in -а and -я."""
    stem, soft = nominative[:-1], nominative.endswith("я")
    genitive = stem + ("и" if soft or stem[-1] in _VELAR_OR_HUSHER else "ы")
    dative = f"{stem}и" if stem.endswith("и") else f"{stem}е"
    instrumental = f"{stem}ей" if soft or stem[-1] in _HUSHER + "ц" else f"{stem}ой"
    accusative = stem + ("ю" if soft else "у")
    plural_genitive = stem
    if soft:
        plural_genitive = f"{stem}й" if stem[-1] in "аеёиоуыэюя" else f"{stem}ь"
    singular = (nominative, accusative, genitive, dative, instrumental, dative)
    return singular, (genitive, plural_genitive, nominative)


def _neuter_declension(nominative: str) -> tuple[tuple[str, ...], tuple[str, str, str]]:
    """Singular in all cases; plural nominative, genitive and oblique base of nouns in -о and -е."""
    stem = nominative[:-1]
    if nominative.endswith("о"):
        singular = (nominative, nominative, f"{stem}а", f"{stem}у", f"{stem}ом", f"{stem}е")
        return singular, (f"{stem}а", stem, f"{stem}а")
    hard = stem[-1] in "ц" + _HUSHER
    a, u = ("а", "у") if hard else ("я", "ю")
    prepositional = f"{stem}и" if stem.endswith("и") else nominative
    singular = (nominative, nominative, stem + a, stem + u, f"{nominative}м", prepositional)
    return singular, (stem + a, f"{stem}й", stem + a)


def _masculine_declension(nominative: str, stem: str) -> tuple[tuple[str, ...], tuple[str, str, str]]:
    """Singular in all cases; plural nominative, genitive and oblique base of masculines in a consonant, -ь or -й."""
    if nominative[-1] in "ьй":
        stem = stem or nominative[:-1]
        singular = (nominative, nominative, f"{stem}я", f"{stem}ю", f"{stem}ем", f"{stem}е")
        return singular, (f"{stem}и", f"{stem}ев" if nominative.endswith("й") else f"{stem}ей", f"{stem}я")
    stem = stem or nominative
    instrumental = f"{stem}ем" if stem[-1] in _HUSHER + "ц" else f"{stem}ом"
    plural_genitive = f"{stem}ей" if stem[-1] in _HUSHER else f"{stem}ев" if stem[-1] == "ц" else f"{stem}ов"
    singular = (nominative, nominative, f"{stem}а", f"{stem}у", instrumental, f"{stem}е")
    plural_nominative = stem + ("и" if stem[-1] in _VELAR_OR_HUSHER else "ы")
    return singular, (plural_nominative, plural_genitive, f"{stem}а")


@cache
def adjective_form(adjective: str, key: str, case: str, animate: bool) -> str:
    """The long adjective in agreement; `key` is a gender, or "p"."""
    return decline_adjective(lexicon().adjectives[adjective].cells["ru"], key, case, animate)


@cache
def decline_adjective(masculine: str, key: str, case: str, animate: bool) -> str:
    """A form of the adjective whose masculine nominative is given ("каждый" and "который" go this way too)."""
    if case == "acc" and key in "mp":
        case = "gen" if animate else "nom"
    stem, last = masculine[:-2], masculine[-3]
    soft = masculine.endswith("ний")
    husher = last in _HUSHER and not masculine.endswith("ой")
    o = "е" if soft or husher else "о"
    y = "ы" if not soft and last not in _VELAR_OR_HUSHER else "и"
    endings = {
        "m": (masculine[-2:], "", f"{o}го", f"{o}му", f"{y}м", f"{o}м"),
        "n": (f"{o}е", f"{o}е", f"{o}го", f"{o}му", f"{y}м", f"{o}м"),
        "f": ("яя" if soft else "ая", "юю" if soft else "ую", *[f"{o}й"] * 4),
        "p": (f"{y}е", "", f"{y}х", f"{y}м", f"{y}ми", f"{y}х"),
    }
    return stem + endings[key][CASES.index(case)]


@cache
def determiner_form(name: str, key: str, case: str, animate: bool) -> str:
    """A form of "this", "own" or "all"."""
    if case == "acc" and key in "mp":
        case = "gen" if animate else "nom"
    return _DETERMINERS[name][key][case]


def pronoun_form(key: str, case: str) -> str:
    """The pronoun of the third person."""
    return _PRONOUNS["m" if key == "n" and case != "nom" else key][case] if key != "n" or case != "nom" else "оно"


def counted_form(number: int) -> str:
    """The form that a noun takes after a number: "one", "few" (2 to 4) or "many"."""
    if number % 100 in range(11, 15):
        return "many"
    return {1: "one", 2: "few", 3: "few", 4: "few"}.get(number % 10, "many")
