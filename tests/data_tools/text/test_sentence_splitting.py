import os
import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.corpus.inputs import Input
from data_tools.readers import InputReader
from data_tools.text import sentence_splitting
from data_tools.text.sentence_splitting import split_sentences

# Sentences as a reader of the language would cut them; the text is what stands between the bars.
EXAMPLES = {
    "en": "Mr. Smith paid 3.50 dollars to J. Doe. |“Really?” |She asked at 5 p.m. on Monday (or so I hear. Who knows).",
    "de": "Das kostet z. B. 3,50 Euro. |Dr. Müller kam am 3. Oktober. |»Wirklich?«",
    "fr": "Il arrive, p. ex. à 8 h. |Est-ce vrai\u202f? |«\xa0Oui\xa0!\xa0»",
    "ru": "В 1990 г. он переехал. |Это правда? |Да!",
    "el": "Ο κ. Παπαδόπουλος ήρθε. |Τι ώρα είναι; |Είναι αργά.",  # the question mark looks like a semicolon
    "zh": "今天天气很好。|你吃饭了吗？|我不知道！",
    "zh_Hant": "今天天氣很好。|你吃飯了嗎？|我不知道！",
    "ja": "今日は天気がいいです。|彼は「はい」と言った。|本当ですか？",
    "ko": "오늘은 날씨가 좋다. |밥은 먹었니? |네!",
    "hi": "आज मौसम अच्छा है। |क्या आपने खाना खाया? |हाँ!",
    "bn": "আজ আবহাওয়া ভালো। |তুমি কি খেয়েছ?",
    "ar": "الطقس جميل اليوم. |هل أكلت؟ |نعم!",
    "fa": "هوا امروز خوب است. |غذا خوردی؟ |بله.",
    "ur": "آج موسم اچھا ہے۔ |کیا تم نے کھانا کھایا؟ |ہاں۔",
    "he": 'מנכ"ל החברה בא לארה"ב. |האם אכלת? |כן!',
    "am": "ዛሬ አየሩ ጥሩ ነው። |ምግብ በልተሃል? |አዎ።",
    "hy": "Այսօր եղանակը լավ է։ |Նա եկավ։",
    "ka": "დღეს კარგი ამინდია. |ჭამე?",
    "ta": "இன்று வானிலை நன்றாக உள்ளது. |சாப்பிட்டாயா?",
    "sr_Latn": "Danas je lepo vreme. |Da li si jeo?",
    "xx": "One. |二。|तीन। |Four?",
}


@pytest.mark.parametrize("language", EXAMPLES)
def test_sentences_of_many_scripts_are_split(language: str) -> None:
    marked = EXAMPLES[language]
    assert split_sentences([marked.replace("|", "")], language) == [piece.strip() for piece in marked.split("|")]


def test_documented_limitations() -> None:
    assert len(split_sentences(["วันนี้อากาศดี คุณกินข้าวหรือยัง ฉันไม่รู้"], "th")) == 1
    assert len(split_sentences(["M. Dupont arrive."], "fr")) == 2
    assert len(split_sentences(["「はい。」と言った。"], "ja")) == 2
    assert len(split_sentences(["ယနေ့ ရာသီဥတု ကောင်းသည်၊ ပူသည်။"], "my")) == 2
    assert len(split_sentences(['He said "No. I went. She stayed.'], "en")) == 3
    assert len(split_sentences(['He said "No. I went. She stayed. The "end. And more.'], "en")) == 2


def test_texts_and_lines_end_sentences() -> None:
    texts = ["A heading\n\n  The text\r\n goes on \n", "", " \n\t", "another"]
    assert split_sentences(texts, "en") == ["A heading", "The text", "goes on", "another"]


@pytest.mark.parametrize("language", ["zh_Hant", "zh-TW", "ZH"])
def test_only_the_language_of_a_code_counts(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    codes = []
    monkeypatch.setattr(sentence_splitting.sentencex, "segment", lambda code, text: codes.append(code) or [text])
    assert split_sentences(["天"], language) == ["天"]
    assert codes == ["zh"]


PIECES = st.sampled_from([*'aA1.!。। \xa0\u3000\u2028\x85"()א'])


@given(st.lists(st.lists(PIECES, max_size=30).map("".join)), st.sampled_from(["en", "zh", "he", "xx"]))
def test_nothing_is_lost(texts: list[str], language: str) -> None:
    sentences = split_sentences(texts, language)
    assert re.sub(r"\s", "", "".join(sentences)) == re.sub(r"\s", "", "".join(texts))
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_nothing_is_lost_of_long_lines(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence_splitting, "MAX_CHARACTERS", 8)
        sentences = split_sentences([text], "en")
    assert re.sub(r"\s", "", "".join(sentences)) == re.sub(r"\s", "", text)


def test_long_lines_are_split_like_short_ones() -> None:
    sentences = [f"Sentence number {i} {'goes on ' * (i % 40)}here." for i in range(300)]
    assert sum(map(len, sentences)) > 10 * sentence_splitting.MAX_CHARACTERS
    assert split_sentences([" ".join(sentences)], "en") == sentences


def test_a_long_line_without_ends_is_cut_at_spaces() -> None:
    words = ["word"] * 10_000
    sentences = split_sentences([" ".join(words)], "en")
    assert " ".join(sentences).split(" ") == words
    assert sentence_splitting.MAX_CHARACTERS < len(sentences[0]) <= 2 * sentence_splitting.MAX_CHARACTERS


@pytest.mark.parametrize("space", [*"\x85\xa0\u2003\u3000"])
def test_wide_spaces_do_not_break_the_library(space: str) -> None:
    # At some of these the library itself breaks down, here because of the bracket.
    sentences = split_sentences([f"A{space}.) End. More."], "en")
    assert [sentence.replace(space, " ") for sentence in sentences] == ["A .) End.", "More."]


def test_the_text_stays_whole_if_the_library_panics(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(*arguments: str) -> list[str]:
        raise PanicException("byte index 2 is not a char boundary")

    monkeypatch.setattr(sentence_splitting.sentencex, "segment", panic)
    assert split_sentences(["One. Two.", "Zwölf."], "en") == ["One. Two.", "Zwölf."]


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="VECO_CORPORA is not set")
@pytest.mark.parametrize(
    ("language", "bound"),
    [("de", 0.95), ("ru", 0.95), ("zh", 0.93), ("ja", 0.93), ("hi", 0.93), ("ar", 0.9), ("he", 0.88), ("th", 0.1)],
)
def test_joined_sentences_are_recovered(language: str, bound: float) -> None:
    """F1 of the borders of real documents whose sentences were joined by spaces.

    A border counts as missed only after a mark that ends sentences: headings can be found by nobody.
    """
    path = Path(os.environ["VECO_CORPORA"]) / "mono" / f"{language}.txt.gz"
    num_found = num_extra = num_missed = 0
    with InputReader(Input((language,), "text", (str(path),)), None) as reader:
        for document in islice(reader.documents(), 60):
            wanted = _ends(document)
            found = _ends(split_sentences([" ".join(document)], language))
            num_found += len(wanted.keys() & found.keys())
            num_extra += len(found.keys() - wanted.keys())
            num_missed += sum(text[-1] in ".!?。！？।؟" for end, text in wanted.items() if end not in found)
    assert 2 * num_found / (2 * num_found + num_extra + num_missed) > bound


def _ends(sentences: list[str]) -> dict[int, str]:
    """The sentences but the last, by the characters other than white space up to their ends."""
    count = 0
    ends = {}
    for sentence in sentences:
        count += len("".join(sentence.split()))
        ends[count] = sentence.rstrip()
    ends.pop(count, None)
    return ends
