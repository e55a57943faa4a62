"""The tokenizers of BLEU and TER for a language, and the languages that have none.

A language may be given by any code: zh, cmn, zho_Hans. Its script decides, and whether it has spaces between words.
"""

from sacrebleu.metrics import TER

from data_tools.text.languages import has_spaces, normal_form, scripts_of
from finetune.mt.scoring.moses import PerlTokenizer

CHINESE = frozenset({"Bopo", "Hani"})
JAPANESE = CHINESE | {"Hira", "Kana"}


def sacrebleu_tokenizer(language: str) -> str:
    """sacreBLEU's tokenizer for a language: 13a, which splits at spaces, or one that splits into characters."""
    if has_spaces(language):
        return "13a"
    return "zh" if scripts_of(language) <= CHINESE else "char"


def ter_metric(language: str) -> TER | None:
    """sacreBLEU's TER, for Chinese and Japanese with its Asian support; None if it finds no words in the language."""
    if has_spaces(language):
        return TER()
    if scripts_of(language) <= JAPANESE:
        return TER(normalized=True, asian_support=True)
    return None


def moses_tokenizer(language: str) -> PerlTokenizer | None:
    """Moses' tokenizer for a language; None if it would not split its sentences."""
    return PerlTokenizer(moses_code(language)) if has_spaces(language) else None


def moses_code(language: str) -> str:
    """Moses' code for a language: of two letters if there is one, without a script."""
    return normal_form(language).split("_")[0]
