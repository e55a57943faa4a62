"""Moses' `tokenizer.perl`, as tokenized BLEU is published with it: sacremoses, mended where it cuts otherwise.

sacremoses goes by lists of characters: to it, `。` and `「` are letters in Chinese, Japanese and Korean, Han and Hangul
are none elsewhere, and the viramas of Indian scripts are. Here Unicode's own properties decide, as in Perl.
"""

import regex
from sacremoses import MosesTokenizer

LETTER, LOWERCASE = regex.compile(r"\p{Alphabetic}"), regex.compile(r"\p{Lowercase}")
FULL_STOP_AT_END = regex.compile(r"(\S)\.$")
# Signs that belong to a word where a lowercase letter follows: USA:n, col·lecció.
SIGNS_IN_WORDS = {"fi": ":", "sv": ":", "ca": "·", "tdt": "'"}
# What an apostrophe leaves to its left (l' home), and where it is a letter (Somali ba'an): not known to sacremoses.
ELISION, GLOTTAL_STOP = ("ga", "ca"), ("so", "tdt")

# For these codes sacremoses spends seconds on lists of characters that are not wanted here; by name it does not. Moses
# has abbreviations of Chinese, and none of the others.
CALLED = {"zh": "chinese", "ja": "english", "ko": "english"}


class PerlTokenizer(MosesTokenizer):
    """Tokenizes as `tokenizer.perl -l LANGUAGE` does, with English's abbreviations for a language without its own."""

    def __init__(self, language: str) -> None:
        super().__init__(lang=CALLED.get(language, language))
        sign = SIGNS_IN_WORDS.get(language, "")
        in_words = rf"|{sign}(?=$|\P{{Ll}})" if sign else ""
        self.PAD_NOT_ISALNUM = (regex.compile(rf"([^\p{{Alnum}}\s.'`,{sign}\-]{in_words})"), r" \1 ")
        if language in GLOTTAL_STOP:
            self.FR_IT_SPECIFIC_APOSTROPHE = MosesTokenizer.FR_IT_SPECIFIC_APOSTROPHE[:3]
        if language in (*ELISION, *GLOTTAL_STOP):
            self.lang = "fr"  # from here on it only says how apostrophes are cut

    def isanyalpha(self, text: str) -> bool:
        """Whether there is a letter."""
        return LETTER.search(text) is not None

    def islower(self, text: str) -> bool:
        """Whether there is nothing but lowercase letters."""
        return all(map(LOWERCASE.match, text))

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        """Words with the full stops that end them cut off; the last one always, as it ends a sentence."""
        return str(FULL_STOP_AT_END.sub(r"\1 .", super().handles_nonbreaking_prefixes(text)))

    def __call__(self, line: str) -> str:
        """The words of a line, with spaces between them."""
        return str(self.tokenize(line, return_str=True))
