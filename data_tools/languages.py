"""What a language code of a corpus means: its scripts, and the labels that language identification has for it.

Codes are BCP 47 with `_` for `-`: de, zh_Hant, sr_Latn. Several codes of one language count as one, as CLDR has it:
`nb` and `no`, `cmn` and `zh`, `arb` and `ar`, `swh` and `sw`; but not `arz` and `ar`, or `nn` and `no`.
"""

from collections.abc import Iterable
from functools import cache

from fontTools.unicodedata import Scripts
from langcodes import Language
from langcodes.data_dicts import LIKELY_SUBTAGS
from langcodes.tag_parser import LanguageTagError

from data_tools.characters import SCRIPTLESS

LABEL_PREFIX = "__label__"
# langcodes keeps apart what CLDR treats as one.
SAME_LANGUAGE = {"nb": "no"}
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


@cache
def _parsed(code: str) -> Language | None:
    """The language of a code, its macro-language where CLDR has one; None if it is not a language code."""
    try:
        language = Language.get(code).prefer_macrolanguage()
    except LanguageTagError:
        return None
    # Registered or not, an extended subtag changes the meaning in a way nobody knows: ur_rom is Urdu in Latin letters.
    if not language.language or language.extlangs or not language.is_valid():
        return None
    return language.update_dict({"language": SAME_LANGUAGE.get(language.language, language.language)})
