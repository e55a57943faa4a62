"""Moses' own tokenizer.perl is the oracle: on the right is what it printed (mosesdecoder at 0036c6c, Perl 5.36)."""

import pytest

from finetune.mt.scoring.moses import PerlTokenizer


@pytest.mark.parametrize(
    ("language", "line", "tokens"),
    [
        ("ko", "그는 “안녕하세요。”라고 말했다.", "그는 “ 안녕하세요 。 ” 라고 말했다 ."),
        ("ko", "『책』(漢字), 3,000원·50%!", "『 책 』 ( 漢字 ) , 3,000원 · 50 % !"),
        ("zh", "《世界人权宣言》。", "《 世界人权宣言 》 。"),
        ("zh", "他说：“3.5%，好！”（完）", "他说 ： “ 3.5 % ， 好 ！ ” （ 完 ）"),
        ("ja", "『世界人権宣言』、〈前文〉。", "『 世界人権宣言 』 、 〈 前文 〉 。"),
        ("ja", "ポスト-モダン ア・イ。", "ポスト-モダン ア ・ イ 。"),
        ("hi", "संयुक्त राष्ट्र, विश्व।", "संयुक ् त राष ् ट ् र , विश ् व ।"),
        ("de", "Das gilt usw.", "Das gilt usw ."),
        (
            "de",
            "z.B. Hr. Müller kam am 3. Mai, 漢字한글 usw. und ging.",
            "z.B. Hr . Müller kam am 3. Mai , 漢字한글 usw. und ging .",
        ),
        ("fi", "USA:n EU:ssa: klo 20:een, A:B.", "USA:n EU:ssa : klo 20:een , A : B ."),
        ("ca", "L'home de la col·lecció · d'ara.", "L&apos; home de la col·lecció · d&apos; ara ."),
        ("so", "Waa ba'an 'kan' su'aal'.", "Waa ba&apos;an &apos; kan &apos; su&apos;aal &apos; ."),
        ("fr", "L'homme d'aujourd'hui 'dit'.", "L&apos; homme d&apos; aujourd&apos; hui &apos; dit &apos; ."),
        ("en", "It's the 1990's, etc.", "It &apos;s the 1990 &apos;s , etc ."),
        (
            "en",
            "Mr. Smith's U.S. <b> & [x] | a-b ... 5,300, ok.'",
            "Mr. Smith &apos;s U.S. &lt; b &gt; &amp; &#91; x &#93; &#124; a-b ... 5,300 , ok . &apos; ",
        ),
    ],
)
def test_tokens_of_tokenizer_perl(language: str, line: str, tokens: str) -> None:
    assert PerlTokenizer(language)(line).split() == tokens.split()


def test_each_language_keeps_its_own_rules() -> None:
    """Tokenizers of several languages do not affect each other."""
    tokenizers = [PerlTokenizer(language) for language in ("so", "ca", "de", "fr")]
    assert [tokenizer("l'a:b") for tokenizer in tokenizers] == [
        *("l&apos;a : b", "l&apos; a : b", "l &apos; a : b", "l&apos; a : b")
    ]
