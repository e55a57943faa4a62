"""Normalisation of answers: SQuAD v1.1's, the same in all languages, and MLQA's, by language.

XTREME scores XQuAD and TyDiQA with the first, MLQA with the second (Lewis et al., ACL 2020, section 4).
"""

from __future__ import annotations

import re
import string
import unicodedata
from functools import cache

from finetune.understanding.tasks.task import AnswerTokens

ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
# From MLQA's script. Hindi and Chinese have none. In Arabic the two letters are removed even within a word.
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
# A Chinese character is a token, and so is a run of other characters between them and white space.
CHINESE_TOKENS = re.compile(r"[\u4e00-\u9fa5]|[^\u4e00-\u9fa5\s]+")


def tokens_of(answer: str, rules: AnswerTokens, language: str) -> list[str]:
    """The tokens of an answer by which it is compared."""
    return mlqa_tokens(answer, language) if rules is AnswerTokens.MLQA else squad_tokens(answer)


def squad_tokens(answer: str) -> list[str]:
    """The tokens of an answer in any language: lower case, without ASCII punctuation and English articles.

    In Thai and Chinese, which do not separate words by spaces, a whole phrase is thus one token, as in XTREME.
    """
    text = "".join(character for character in answer.lower() if character not in ASCII_PUNCTUATION)
    return ENGLISH_ARTICLES.sub(" ", text).split()


def mlqa_tokens(answer: str, language: str) -> list[str]:
    """The tokens of an answer in a language of MLQA: lower case, without Unicode punctuation and articles.

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
    """Whether a character is Unicode punctuation or ASCII punctuation, which includes symbols such as $ and +."""
    return character in ASCII_PUNCTUATION or unicodedata.category(character).startswith("P")
