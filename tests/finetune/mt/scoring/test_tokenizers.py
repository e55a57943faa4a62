import pytest

from finetune.mt.scoring.tokenizers import moses_code, moses_tokenizer, sacrebleu_tokenizer, ter_metric


@pytest.mark.parametrize(
    ("codes", "tokenizer"),
    [
        ("de zh_Latn ja_Latn ko kor_Hang vi ur_rom xx", "13a"),
        ("zh cmn zho zho_Hans zho_Hant zh-CN ZH yue wuu lzh nan", "zh"),
        ("ja jpn JPN_Jpan ja-JP th tha_Thai lo km my mya_Mymr bo dz shn", "char"),
        ("", "13a"),  # a model whose decoder starts with no tag of a language
    ],
)
def test_tokenizer_of_sacrebleu(codes: str, tokenizer: str) -> None:
    for code in codes.split() or [""]:
        assert sacrebleu_tokenizer(code) == tokenizer, code
        assert (moses_tokenizer(code) is None) == (tokenizer != "13a"), code


def test_ter_where_there_are_words() -> None:
    for code, asian in {"de": False, "ko": False, "zh_Hant": True, "jpn": True}.items():
        metric = ter_metric(code)
        assert metric is not None and metric.asian_support is asian and metric.normalized is asian, code
    assert ter_metric("th") is None and ter_metric("khm_Khmr") is None


@pytest.mark.parametrize(
    ("code", "expected"), [("deu_Latn", "de"), ("pt_BR", "pt"), ("nob_Latn", "no"), ("sr_Latn", "sr"), ("tdt", "tdt")]
)
def test_what_moses_calls_a_language(code: str, expected: str) -> None:
    assert moses_code(code) == expected
