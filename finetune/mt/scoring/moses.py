"""Moses' `tokenizer.perl`, which published tokenized BLEU uses: sacremoses, corrected where it splits differently.

sacremoses classifies characters by lists: it takes `。` and `「` for letters in Chinese, Japanese and Korean, does not
take Han and Hangul for letters elsewhere, and takes the viramas of Indic scripts for letters. Here Unicode's own
properties decide, as in Perl.
"""

import regex
from sacremoses import MosesTokenizer

LETTER, LOWERCASE = regex.compile(r"\p{Alphabetic}"), regex.compile(r"\p{Lowercase}")
FULL_STOP_AT_END = regex.compile(r"(\S)\.$")
# Signs that belong to a word where a lowercase letter follows: USA:n, col·lecció.
SIGNS_IN_WORDS = {"fi": ":", "sv": ":", "ca": "·", "tdt": "'"}
# Languages in which an apostrophe stays with the word to its left (l' home), and those in which it is a letter (Somali
# ba'an); sacremoses does not know them.
ELISION, GLOTTAL_STOP = ("ga", "ca"), ("so", "tdt")

# For these codes sacremoses spends seconds on lists of characters that are not needed here; for other names it does
# not. Moses has abbreviations for Chinese, but not for the other two.
SACREMOSES_NAMES = {"zh": "chinese", "ja": "english", "ko": "english"}


class PerlTokenizer(MosesTokenizer):
    """A tokenizer like `tokenizer.perl -l LANGUAGE`, with English abbreviations for languages without their own."""

    def __init__(self, language: str) -> None:
        super().__init__(lang=SACREMOSES_NAMES.get(language, language))
        sign = SIGNS_IN_WORDS.get(language, "")
        in_words = rf"|{sign}(?=$|\P{{Ll}})" if sign else ""
        self.PAD_NOT_ISALNUM = (regex.compile(rf"([^\p{{Alnum}}\s.'`,{sign}\-]{in_words})"), r" \1 ")
        if language in GLOTTAL_STOP:
            self.FR_IT_SPECIFIC_APOSTROPHE = MosesTokenizer.FR_IT_SPECIFIC_APOSTROPHE[:3]
        if language in (*ELISION, *GLOTTAL_STOP):
            self.lang = "fr"  # from here on it only determines how apostrophes are split

    def isanyalpha(self, text: str) -> bool:
        """Whether the text has a letter."""
        return LETTER.search(text) is not None

    def islower(self, text: str) -> bool:
        """Whether the text consists of lowercase letters."""
        return all(map(LOWERCASE.match, text))

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        """The words with final full stops split off; always that of the last word, as it ends the sentence."""
        return str(FULL_STOP_AT_END.sub(r"\1 .", super().handles_nonbreaking_prefixes(text)))

    def __call__(self, line: str) -> str:
        """The words of a line, with spaces between them."""
        return str(self.tokenize(line, return_str=True))
