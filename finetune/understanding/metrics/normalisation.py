"""Answers made comparable: as SQuAD v1.1's script does for all languages, and as MLQA's does for each of its own.

XTREME scores XQuAD and TyDiQA with the first, MLQA with the second (Lewis et al., ACL 2020, section 4).
"""

import re
import string
import unicodedata
from functools import cache

ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Of MLQA's script. Hindi and Chinese have none. In Arabic the two letters go wherever they stand, also within a word.
MLQA_ARTICLES = {
    "ar": re.compile("ال"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "en": ENGLISH_ARTICLES,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "hi": None,
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    "zh": None,
}
ASCII_PUNCTUATION = frozenset(string.punctuation)
# A Chinese character is a token, and so is what stands between them and white space.
CHINESE_TOKENS = re.compile(r"[\u4e00-\u9fa5]|[^\u4e00-\u9fa5\s]+")


def squad_tokens(answer: str) -> list[str]:
    """The tokens of an answer in any language: lower case, without ASCII punctuation and English articles.

    Thai and Chinese, which put no spaces, are thus one token a phrase, as in XTREME.
    """
    text = "".join(character for character in answer.lower() if character not in ASCII_PUNCTUATION)
    return ENGLISH_ARTICLES.sub(" ", text).split()


def mlqa_tokens(answer: str, language: str) -> list[str]:
    """The tokens of an answer in a language of MLQA: lower case, without Unicode punctuation and its articles.

    Raises ValueError for a language that MLQA does not have.
    """
    if language not in MLQA_ARTICLES:
        raise ValueError(f"MLQA has no rules for {language!r}, only for {', '.join(MLQA_ARTICLES)}")
    text = "".join(character for character in answer.lower() if not is_punctuation(character))
    articles = MLQA_ARTICLES[language]
    if articles is not None:
        text = articles.sub(" ", text)
    return CHINESE_TOKENS.findall(text) if language == "zh" else text.split()


@cache
def is_punctuation(character: str) -> bool:
    """Whether a character is punctuation for Unicode, or for ASCII, which counts symbols such as $ and + as well."""
    return character in ASCII_PUNCTUATION or unicodedata.category(character).startswith("P")
