"""What a language code means: which others say the same, its scripts, and the labels of language identification.

Codes are BCP 47 with `_` for `-`: de, zh_Hant, sr_Latn. Several codes of one language count as one, as CLDR has it:
`nb` and `no`, `cmn` and `zh`, `arb` and `ar`, `swh` and `sw`; but not `arz` and `ar`, or `nn` and `no`.

Directories of data, tags in vocabularies and names in manifests keep the code that a user wrote. Codes are compared by
their normal form, and one that is looked for among others is found by `find_language`.
"""

from collections.abc import Iterable
from functools import cache

from fontTools.unicodedata import Scripts
from langcodes import Language
from langcodes.data_dicts import LIKELY_SUBTAGS
from langcodes.tag_parser import LanguageTagError

from data_tools.text.characters import SCRIPTLESS

LABEL_PREFIX = "__label__"
# langcodes keeps apart what CLDR treats as one.
SAME_LANGUAGE = {"nb": "no"}
# CLDR takes Twi and Fante for Akan; Wikipedia and FLORES have text in each.
KEPT_APART = ("tw", "fat")
# ISO 3166 gives them to nobody: mBART's en_XX is English of no place in particular.
NO_TERRITORIES = ("XX", "ZZ")
# What FLORES (kor_Hang) and GlotLID (cmn_Hani) call the scripts in which Korean and Chinese are usually written.
USUAL_SCRIPT = {"Hang": "Kore", "Hani": "Hans"}
# ISO 15924 names variants and mixtures of scripts; Unicode's characters know none of them.
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
# Written without spaces between words: Chinese and Japanese, Unicode's line-breaking class SA, and Tibetan.
UNSPACED_SCRIPTS = frozenset(
    {"Bopo", "Hani", "Hira", "Kana", "Ahom", "Khmr", "Lana", "Laoo", "Mymr", "Tale", "Talu", "Tavt", "Thai", "Tibt"}
)


def normal_form(code: str) -> str:
    """The one spelling of all codes that say the same: zh for zho_Hans, cmn and ZH; what is no code stays as it is.

    A script is left out where it goes without saying. A territory stays: pt is not pt_BR, and zh_TW not zh_Hant, though
    `find_language` takes one for the other.
    """
    language = _normal(code)
    return code if language is None else language.to_tag().replace("-", "_")


def find_language(code: str, known: Iterable[str]) -> str | None:
    """The one of the known codes that stands for the language of `code`, in its own spelling; None if none does.

    That is the same code; else the one that has the same normal form; else the one that means the same where a script
    and a territory are not said (de and de_DE, zh_Hant and zh_TW). Where two would do, none is taken.
    """
    candidates = list(dict.fromkeys(known))
    for form in (str, normal_form, _in_full):
        if found := [other for other in candidates if form(other) == form(code)]:
            return found[0] if len(found) == 1 else None
    return None


def unicode_scripts(script: str | None) -> tuple[str, ...]:
    """The scripts that characters of an ISO 15924 script have in Unicode; none if it knows no such script."""
    if script is None or script in SCRIPTLESS:
        return ()
    return UNICODE_SCRIPTS.get(script, (script,) if script in Scripts.NAMES else ())


def scripts_of(code: str) -> frozenset[str]:
    """The Unicode scripts of a language, as its code says or else CLDR's likely subtags; none if they are unknown."""
    language = _parsed(code)
    # For a language that it does not know, maximize() would say what is likely for any: Latin.
    if language is None or (language.script is None and language.language not in LIKELY_SUBTAGS):
        return frozenset()
    return frozenset(unicode_scripts(language.maximize().script))


def has_spaces(code: str) -> bool:
    """Whether a language is written with spaces between words, as Korean and unlike Chinese; true if it is unknown."""
    scripts = scripts_of(code)
    return not scripts or not scripts <= UNSPACED_SCRIPTS


def matching_labels(code: str, labels: Iterable[str]) -> frozenset[str]:
    """Those of a model's labels (`__label__de`, `__label__deu_Latn`) that stand for the language of `code`.

    A code without script or territory takes labels of any script: how it is written is the script filter's business.
    """
    return frozenset(label for label in labels if _is_same(_parsed(code), _parsed(label.removeprefix(LABEL_PREFIX))))


def _is_same(wanted: Language | None, found: Language | None) -> bool:
    if wanted is None or found is None or wanted.language != found.language:
        return False
    wanted_script = wanted.maximize().script if wanted.territory else wanted.script
    if wanted_script is None or found.script is None or wanted_script == found.script:
        return True
    # The label cmn_Hani fits zh_Hant, and zho_Hans does not.
    return found.script in unicode_scripts(wanted_script) or wanted_script in unicode_scripts(found.script)


def _normal(code: str) -> Language | None:
    """The language of a code without what goes without saying; None if it is not a language code."""
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
    """A code with the script and territory that are likely where it names none."""
    language = _normal(code)
    return code if language is None else language.maximize().to_tag()


@cache
def _parsed(code: str) -> Language | None:
    """The language of a code, its macro-language where CLDR has one; None if it is not a language code."""
    try:
        language = Language.get(code)
    except LanguageTagError:
        return None
    if language.language not in KEPT_APART:
        language = language.prefer_macrolanguage()
    # Registered or not, an extended subtag changes the meaning in a way nobody knows: ur_rom is Urdu in Latin letters.
    if not language.language or language.extlangs or not language.is_valid():
        return None
    return language.update_dict({"language": SAME_LANGUAGE.get(language.language, language.language)})
