import pytest

from data_tools.languages import matching_labels, scripts_of, unicode_scripts

# The kinds of label in use: lid.176 (mostly ISO 639-1), NLLB and OpenLID (languages of a macro-language apart), GlotLID
# (scripts as Unicode has them), and whatever else a classifier may tell apart.
LABELS = """
    als ar arz de eml fil no nn sh sq sr zh
    arb_Arab deu_Latn est_Latn ind_Latn nob_Latn nno_Latn srp_Cyrl tgl_Latn zho_Hans zho_Hant zsm_Latn
    cmn_Hani ekk_Latn jpn_Jpan kor_Hang srp_Latn yue_Hani zlm_Latn
    spam not-a-language und_Latn zxx_Latn
"""


@pytest.mark.parametrize(
    ("codes", "scripts"),
    [
        ("de en sw vi yo jv sr_Latn als uz_Latn haw", "Latn"),
        ("ru sr kk mn khk sr_Cyrl", "Cyrl"),
        ("ar arz ur fa pes ks ug ur_Aran", "Arab"),
        ("zh zh_Hans zh_Hant zh_TW cmn_Hani yue", "Hani"),
        ("ja", "Hani Hira Kana"),
        ("ko", "Hang Hani"),
        ("kor_Hang", "Hang"),
        ("th", "Thai"),
        ("hi mr ne", "Deva"),
        ("ka", "Geor"),
        ("my", "Mymr"),
        ("xx mul und ur_rom my_zaw zh_classical digits en2 qaa pbt zxx_Zxxx", ""),
    ],
)
def test_scripts_of_languages(codes: str, scripts: str) -> None:
    for code in codes.split():
        assert scripts_of(code) == frozenset(scripts.split()), code


def test_scripts_that_characters_have() -> None:
    assert unicode_scripts("Hanb") == ("Bopo", "Hani")
    for script in (None, "Zyyy", "Zinh", "Zzzz", "Zxxx", "Cyrillic", "latn"):
        assert unicode_scripts(script) == ()


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("de deu_Latn de_CH", "de deu_Latn"),
        ("zh cmn cmn_Hani", "zh zho_Hans zho_Hant cmn_Hani"),
        ("zh_Hant zh_TW", "zh zho_Hant cmn_Hani"),
        ("zh_Hans zh_CN", "zh zho_Hans cmn_Hani"),
        ("yue", "yue_Hani"),
        ("sr", "sr sh srp_Cyrl srp_Latn"),
        ("sr_Latn", "sr sh srp_Latn"),
        ("sr_Cyrl", "sr srp_Cyrl"),
        ("no nb", "no nob_Latn"),
        ("nn", "nn nno_Latn"),
        ("ar", "ar arb_Arab"),
        ("arz", "arz"),
        ("et", "est_Latn ekk_Latn"),
        ("ms", "zsm_Latn"),
        ("id", "ind_Latn"),
        ("tl fil", "fil tgl_Latn"),
        ("ja", "jpn_Jpan"),
        ("ko ko_Kore", "kor_Hang"),
        ("fr xx eml ur_rom und zxx_Hans digits", ""),
    ],
)
def test_labels_of_languages(codes: str, expected: str) -> None:
    for code in codes.split():
        labels = [f"__label__{label}" for label in LABELS.split()]
        assert matching_labels(code, labels) == {f"__label__{label}" for label in expected.split()}, code
        assert matching_labels(code, LABELS.split()) == set(expected.split()), code
