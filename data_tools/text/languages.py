"""Language codes: equivalent codes, the scripts of a language, and its labels in language identification.

Codes are BCP 47 with `_` instead of `-`: de, zh_Hant, sr_Latn. Several codes of one language count as one, by CLDR:
`nb` and `no`, `cmn` and `zh`, `arb` and `ar`, `swh` and `sw`; but not `arz` and `ar`, or `nn` and `no`.

Data directories, tags in vocabularies and names in manifests keep the code that the user wrote. Codes are compared by
their normal form, and `find_language` looks one up among others.
"""

from collections.abc import Iterable
from functools import cache

from fontTools.unicodedata import Scripts
from langcodes import Language
from langcodes.data_dicts import LIKELY_SUBTAGS
from langcodes.tag_parser import LanguageTagError

from data_tools.text.characters import SCRIPTLESS

LABEL_PREFIX = "__label__"
# Distinguished by langcodes, but the same in CLDR.
SAME_LANGUAGE = {"nb": "no"}
# CLDR treats Twi and Fante as Akan; Wikipedia and FLORES have separate text in each.
KEPT_APART = ("tw", "fat")
# Not assigned by ISO 3166: mBART's en_XX is English without a territory.
NO_TERRITORIES = ("XX", "ZZ")
# The usual scripts of Korean and Chinese by the names of FLORES (kor_Hang) and GlotLID (cmn_Hani) -> by those of CLDR.
USUAL_SCRIPT = {"Hang": "Kore", "Hani": "Hans"}
# ISO 15924 also has variants and mixtures of scripts, which Unicode's characters do not have.
UNICODE_SCRIPTS = {
    "Aran": ("Arab",),
    "Cyrs": ("Cyrl",),
    "Geok": ("Geor",),
    "Hanb": ("Bopo", "Hani"),
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Hrkt": ("Hira", "Kana"),
    "Jamo": ("Hang",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Latf": ("Latn",),
    "Latg": ("Latn",),
    "Syre": ("Syrc",),
    "Syrj": ("Syrc",),
    "Syrn": ("Syrc",),
}
# Scripts without spaces between words: of Chinese and Japanese, Unicode's line-breaking class SA, and Tibetan.
UNSPACED_SCRIPTS = frozenset(
    {"Bopo", "Hani", "Hira", "Kana", "Ahom", "Khmr", "Lana", "Laoo", "Mymr", "Tale", "Talu", "Tavt", "Thai", "Tibt"}
)


def normal_form(code: str) -> str:
    """The common form of equivalent codes: zh for zho_Hans, cmn and ZH; a string that is not a code is unchanged.

    The usual script of a language is omitted. A territory stays: pt is not pt_BR, and zh_TW is not zh_Hant, although
    `find_language` matches the latter two.
    """
    language = _normal(code)
    return code if language is None else language.to_tag().replace("-", "_")


def find_language(code: str, known: Iterable[str]) -> str | None:
    """Look up the language of `code` among known codes; returns the known code as it is spelt, None if there is none.

    That is the same code; otherwise the one with the same normal form; otherwise the one that is the same with the
    likely script and territory added (de and de_DE, zh_Hant and zh_TW). If two codes match equally well, None.
    """
    candidates = list(dict.fromkeys(known))
    for form in (str, normal_form, _in_full):
        if found := [other for other in candidates if form(other) == form(code)]:
            return found[0] if len(found) == 1 else None
    return None


def unicode_scripts(script: str | None) -> tuple[str, ...]:
    """The Unicode scripts of the characters of an ISO 15924 script; empty if Unicode has no such script."""
    if script is None or script in SCRIPTLESS:
        return ()
    return UNICODE_SCRIPTS.get(script, (script,) if script in Scripts.NAMES else ())


def scripts_of(code: str) -> frozenset[str]:
    """The Unicode scripts of a language, by its code or else by CLDR's likely subtags; empty if they are unknown."""
    language = _parsed(code)
    # For an unknown language maximize() would return the likely script of any language, Latin.
    if language is None or (language.script is None and language.language not in LIKELY_SUBTAGS):
        return frozenset()
    return frozenset(unicode_scripts(language.maximize().script))


def has_spaces(code: str) -> bool:
    """Whether a language has spaces between words, like Korean and unlike Chinese; true if its script is unknown."""
    scripts = scripts_of(code)
    return not scripts or not scripts <= UNSPACED_SCRIPTS


def matching_labels(code: str, labels: Iterable[str]) -> frozenset[str]:
    """The labels of a model (`__label__de`, `__label__deu_Latn`) for the language of `code`.

    A code without script or territory matches labels of any script, since scripts have a filter of their own.
    """
    return frozenset(label for label in labels if _is_same(_parsed(code), _parsed(label.removeprefix(LABEL_PREFIX))))


def _is_same(wanted: Language | None, found: Language | None) -> bool:
    if wanted is None or found is None or wanted.language != found.language:
        return False
    wanted_script = wanted.maximize().script if wanted.territory else wanted.script
    if wanted_script is None or found.script is None or wanted_script == found.script:
        return True
    # The label cmn_Hani matches zh_Hant, zho_Hans does not.
    return found.script in unicode_scripts(wanted_script) or wanted_script in unicode_scripts(found.script)


def _normal(code: str) -> Language | None:
    """The language of a code without its usual script or a meaningless territory; None if it is not a language code."""
    language = _parsed(code)
    if language is None:
        return None
    if language.territory in NO_TERRITORIES:
        language = language.update_dict({"territory": None})
    usual = language.update_dict({"script": None}).maximize().script
    if language.script is not None and USUAL_SCRIPT.get(language.script, language.script) == usual:
        language = language.update_dict({"script": None})
    return language


def _in_full(code: str) -> str:
    """A code with the likely script and territory added."""
    language = _normal(code)
    return code if language is None else language.maximize().to_tag()


@cache
def _parsed(code: str) -> Language | None:
    """The language of a code, or its macrolanguage if CLDR has one; None if it is not a language code."""
    try:
        language = Language.get(code)
    except LanguageTagError:
        return None
    if language.language not in KEPT_APART:
        language = language.prefer_macrolanguage()
    # An extended subtag, registered or not, changes the meaning in unknown ways: ur_rom is Urdu in Latin letters.
    if not language.language or language.extlangs or not language.is_valid():
        return None
    return language.update_dict({"language": SAME_LANGUAGE.get(language.language, language.language)})
