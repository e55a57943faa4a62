"""What counts as a word of a language: the tokenizers of BLEU and TER, and where there is none that fits.

A language may be named by any code: zh, cmn, zho_Hans. What matters is its script, and whether it has spaces.
"""

from sacrebleu.metrics import TER

from data_tools.text.languages import has_spaces, normal_form, scripts_of
from finetune.mt.scoring.moses import PerlTokenizer

CHINESE = frozenset({"Bopo", "Hani"})
JAPANESE = CHINESE | {"Hira", "Kana"}


def sacrebleu_tokenizer(language: str) -> str:
    """sacreBLEU's tokenizer for text in a language: 13a, which cuts at spaces, or one that cuts at characters."""
    if has_spaces(language):
        return "13a"
    return "zh" if scripts_of(language) <= CHINESE else "char"


def ter_metric(language: str) -> TER | None:
    """TER as sacreBLEU has it, for Chinese and Japanese with its Asian support; None where it finds no words."""
    if has_spaces(language):
        return TER()
    return TER(normalized=True, asian_support=True) if scripts_of(language) <= JAPANESE else None


def moses_tokenizer(language: str) -> PerlTokenizer | None:
    """Moses' tokenizer for a language; None where it leaves whole sentences in one piece."""
    return PerlTokenizer(moses_code(language)) if has_spaces(language) else None


def moses_code(language: str) -> str:
    """What Moses calls a language: two letters where there are two, and no script."""
    return normal_form(language).split("_")[0]
