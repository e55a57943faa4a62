import pytest

from data_tools.text.languages import find_language, matching_labels, normal_form, scripts_of, unicode_scripts

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
def test_scripts_of_a_language(codes: str, scripts: str) -> None:
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
def test_labels_of_a_language(codes: str, expected: str) -> None:
    for code in codes.split():
        labels = [f"__label__{label}" for label in LABELS.split()]
        assert matching_labels(code, labels) == {f"__label__{label}" for label in expected.split()}, code
        assert matching_labels(code, LABELS.split()) == set(expected.split()), code


@pytest.mark.parametrize(
    ("codes", "form"),
    [
        ("zh ZH zho chi cmn zho_Hans zh-Hans cmn_Hani", "zh"),
        ("zho_Hant zh_hant", "zh_Hant"),
        ("zh_TW zh-Hant-TW", "zh_TW"),
        ("ja jpn jpn_Jpan JA", "ja"),
        ("ko kor_Hang ko_Kore", "ko"),
        ("de deu ger deu_Latn DE", "de"),
        ("en en_XX eng_Latn", "en"),
        ("pt_BR por_Latn_BR", "pt_BR"),
        ("no nb nob_Latn", "no"),
        ("sr_Latn sh srp_Latn", "sr_Latn"),
        ("tw twi_Latn", "tw"),
        ("ak aka_Latn", "ak"),
    ],
)
def test_equivalent_codes_have_one_normal_form(codes: str, form: str) -> None:
    for code in codes.split():
        assert normal_form(code) == form, code


@pytest.mark.parametrize("word", ["ur_rom", "eml", "zh-CN-en", "und", "ja_Hira", "", "a b"])
def test_strings_that_are_not_codes_are_unchanged(word: str) -> None:
    assert normal_form(word) == word


@pytest.mark.parametrize(
    ("code", "known", "found"),
    [
        ("zho_Hans", "de zh", "zh"),
        ("ZH", "zho_Hans zho_Hant", "zho_Hans"),
        ("zh", "zho_Hans zh", "zh"),  # the same letters first
        ("zh_CN", "zho_Hant zho_Hans", "zho_Hans"),
        ("zh_TW", "zh zh_Hant", "zh_Hant"),
        ("zh_HK", "zh zh_TW", None),
        ("de", "de_DE de_CH", "de_DE"),
        ("pt_PT", "pt pt_BR", None),
        ("pt", "pt_BR pt_PT", "pt_BR"),
        ("no", "nn nob_Latn", "nob_Latn"),
        ("zh", "cmn zho_Hans", None),  # either could be meant
        ("ur_rom", "ur ur_rom", "ur_rom"),
        ("fr", "", None),
    ],
)
def test_a_language_is_found_among_others(code: str, known: str, found: str | None) -> None:
    assert find_language(code, known.split()) == found
