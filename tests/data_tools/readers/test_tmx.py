import gzip
import re
import tracemalloc
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.corpus.inputs import Input
from data_tools.readers import InputReader, xml_text

Read = Callable[..., Any]
HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'


def _tmx(body: str) -> str:
    return f'{HEADER}<tmx version="1.4">\n<header srclang="de"/>\n<body>\n{body}\n</body>\n</tmx>\n'


def _unit(*texts: tuple[str, str]) -> str:
    return "<tu>" + "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in texts) + "</tu>"


def _file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "a.tmx"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_pairs_of_units_are_read(tmp_path: Path, read_pairs: Read) -> None:
    units = [
        _unit(("de", "eins &amp; &#x7a;wei"), ("en", "one &lt; two")),
        '<tu tuid="2"><note>a <b>note</b></note><prop type="x">1</prop>\n'
        '<tuv lang="EN_us">\n<prop type="y">2</prop><seg>\n  the\tsecond\r\n </seg></tuv>'
        '<tuv xml:lang="fr"><seg>le second</seg></tuv><tuv xml:lang="DE-at"><seg>das zweite</seg></tuv></tu>',
        _unit(("de", "allein"), ("fr", "seul")),
        _unit(("del", "wer?"), ("en", "who?")),
        "<tu></tu>",
        _unit(("de", ""), ("en", "empty")),
    ]
    assert read_pairs("tmx", _file(tmp_path, _tmx("\n".join(units)))) == (
        [("eins & zwei", "one < two"), ("das zweite", "the second"), ("", "empty")],
        {"missing_side": 3},
    )


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ('vor <bpt i="1">&lt;b&gt;</bpt>fett<ept i="1">&lt;/b&gt;</ept> nach', "vor fett nach"),
        ('a<ph x="1"/>b<it pos="begin">[</it>c<ut>{}</ut>', "a bc"),
        ("Klicken<ph>&lt;br/&gt;</ph>Sie", "Klicken Sie"),
        ("eins<ph/><ph/>zwei<br/>drei<x id='1'/>vier", "eins zwei drei vier"),
        ("eins <ph/>zwei<ph/> drei<ph/>, vier<ph/>.<ph/>", "eins zwei drei, vier."),
        ("<ph/>Ha<bpt>b</bpt>us<ept>b</ept>tür<hi><ph/></hi>en", "Haustür en"),
        ("eins<bpt>b<ph/></bpt>zwei", "einszwei"),
        ("ein <hi>sehr <hi>wichtiges</hi></hi> Wort", "ein sehr wichtiges Wort"),
        ("Text<ph>&lt;fn&gt;<sub>eine <hi>Note</hi><bpt>x</bpt></sub>&lt;/fn&gt;</ph>, Ende", "Text eine Note , Ende"),
        ("<hi><bpt><hi>code</hi></bpt></hi>", ""),
        ("<![CDATA[a < b]]> <!-- no text --> c", "a < b c"),
    ],
)
def test_inline_markup_is_removed(tmp_path: Path, read_pairs: Read, marked: str, plain: str) -> None:
    path = _file(tmp_path, _tmx(_unit(("de", marked), ("en", "x"), ("de", "y"))))
    assert read_pairs("tmx", path)[0] == [(plain, "x"), ("y", "x")]


def test_several_texts_in_a_language_give_several_pairs(tmp_path: Path, read_pairs: Read) -> None:
    unit = _unit(("de-DE", "Januar"), ("en", "January"), ("de-AT", "Jänner"), ("en-GB", "Jan"))
    pairs, _ = read_pairs("tmx", _file(tmp_path, _tmx(unit)))
    assert pairs == list(product(["Januar", "Jänner"], ["January", "Jan"]))


@pytest.mark.parametrize(
    ("languages", "pair"),
    [
        (("pt_BR", "pt_PT"), ("ônibus", "autocarro")),
        (("zh_Hant", "sr"), ("公車", "аутобус")),
        (("ZH", "PT_pt"), ("公車", "autocarro")),
    ],
)
def test_languages_with_regions_are_matched(
    tmp_path: Path, read_pairs: Read, languages: Any, pair: tuple[str, str]
) -> None:
    texts = [("pt-br", "ônibus"), ("pt-PT", "autocarro"), ("zh-Hant-TW", "公車"), ("sr-Cyrl", "аутобус")]
    assert read_pairs("tmx", _file(tmp_path, _tmx(_unit(*texts))), languages=languages) == ([pair], {})


def test_the_more_specific_language_is_matched(tmp_path: Path, read_pairs: Read) -> None:
    unit = _unit(("pt", "A casa é vermelha."), ("pt-BR", "A casa brasileira."))
    pair = ("A casa é vermelha.", "A casa brasileira.")
    path = _file(tmp_path, _tmx(unit))
    assert read_pairs("tmx", path, languages=("pt", "pt_BR")) == ([pair], {})
    assert read_pairs("tmx", path, languages=("pt_BR", "pt")) == ([pair[::-1]], {})
    path = _file(tmp_path, _tmx(_unit(("pt-PT", pair[0]), ("PT_br", pair[1]))))
    assert read_pairs("tmx", path, languages=("pt", "pt_BR")) == ([pair], {})


def test_languages_may_have_other_codes_in_the_file(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, _tmx(_unit(("zh-TW", "公車"), ("en", "bus"), ("zh-CN", "公交车"))))
    found = read_pairs("tmx", path, languages=("zh_Hant", "en"), codes=("zh_TW", "en"))
    assert found == ([("公車", "bus")], {})
    assert read_pairs("tmx", path, languages=("zh_Hant", "zh"), codes=("zh-TW", "zh"))[0] == [("公車", "公交车")]
    assert read_pairs("tmx", path, languages=("zh_Hant", "en"))[0] == [("公車", "bus")]
    with pytest.raises(ValueError, match=r"no text in zh_HK; .* found are zh-TW, en, zh-CN; .*codes: \{zh_HK: …\}"):
        read_pairs("tmx", path, languages=("zh_HK", "en"))


def test_equivalent_codes_are_matched(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, _tmx(_unit(("deu", "eins"), ("eng", "one")) + _unit(("ger", "zwei"), ("en-GB", "two"))))
    assert read_pairs("tmx", path) == ([("eins", "one"), ("zwei", "two")], {})
    path = _file(tmp_path, _tmx(_unit(("pt", "um"), ("pt-BR", "dois"), ("en", "x"))))
    assert read_pairs("tmx", path, languages=("pt_BR", "en")) == ([("dois", "x")], {})


def test_a_spelling_is_listed_once(tmp_path: Path, read_pairs: Read) -> None:
    units = "".join(_unit((code, "a"), ("en", "b")) for code in ("fr-FR", "FR-fr", "fr_FR", "it"))
    with pytest.raises(ValueError, match=r"no text in de; the languages found are fr-FR, en, it;"):
        read_pairs("tmx", _file(tmp_path, _tmx(units)))


@pytest.mark.parametrize("written", ["&#x1F;", "\x1f", "&#xD83D;", "&#0;"])
def test_a_character_that_xml_does_not_allow_costs_a_unit(tmp_path: Path, read_pairs: Read, written: str) -> None:
    fine = _unit(("de", "eins"), ("en", "one"))
    units = [
        fine,
        _unit(("de", f"a{written}b"), ("en", "c")),
        _unit(("de", "zwei"), ("en", "two"), ("fr", f"de{written}ux")),
        f"<note>{written}</note><tu><prop type='{written if written != '&#0;' else 'x'}'>{written}</prop>{fine[4:]}",
        _unit(("fr", f"a{written}b"), ("en", "c")),
        f"<tu><tuv xml:lang='de'><seg>x<bpt>{written}</bpt></seg></tuv><tuv xml:lang='en'><seg>y</seg></tuv></tu>",
    ]
    expected = [("eins", "one"), ("zwei", "two"), ("eins", "one"), ("x", "y")]
    found = read_pairs("tmx", _file(tmp_path, _tmx("\n".join(units))))
    assert found == (expected, {"invalid_character": 1, "missing_side": 1})


def test_a_language_without_texts_is_reported(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, _tmx(_unit(("fr", "un"), ("en-GB", "one"))))
    with pytest.raises(ValueError, match=r"a\.tmx: no text in de; the languages found are fr, en-GB"):
        read_pairs("tmx", path)
    with pytest.raises(ValueError, match=r"a\.tmx: no text in de and es; the languages found are fr, en-GB"):
        read_pairs("tmx", path, languages=("de", "es"))
    assert read_pairs("tmx", _file(tmp_path, _tmx(""))) == ([], {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_tmx("<tu>\n</tuv></tu>"), r"a\.tmx: line 7: broken XML \(mismatched tag\)"),
        (_tmx(_unit(("de", "a & b"), ("en", "c"))), r"a\.tmx: line 6: broken XML \(not well-formed"),
        (_tmx("")[:-7], r"a\.tmx: line 8: broken XML \(no element found\)"),
        (_tmx(_unit(("de", "&copy;"))), r"a\.tmx: line 6: the entity 'copy'; expected only XML's own"),
        ("<tmx>" + _unit(("de", "&copy;")), r"a\.tmx: line 1: broken XML \(undefined entity\)"),
        (_tmx(_unit(("de", "&#999999999999;"))), r"a\.tmx: line 6: broken XML \(reference to invalid character"),
        (_tmx(_unit(("de", "ä"))).encode("latin-1"), r"a\.tmx: line 6 is not utf-8"),
        (_tmx("").replace("UTF-8", "x-foo"), r"a\.tmx: line 1: unknown encoding 'x-foo'"),
        (gzip.compress(_tmx("").encode()), r"a\.tmx: gzip-compressed, expected XML; let its name end in \.gz"),
        ("\n", r"a\.tmx: line 2: broken XML \(no element found\)"),
        ("no XML\n", r"a\.tmx: line 1: broken XML"),
        (
            "<html><tu/></html>",
            r"a\.tmx: expected a translation memory \(<tmx>\), found other XML \(<html>\)",
        ),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, read_pairs: Read, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_pairs("tmx", _file(tmp_path, content))
    assert "\n" not in str(caught.value)


BOMB = '<!DOCTYPE tmx [\n<!ENTITY a "ha">\n' + "".join(
    f'<!ENTITY {name} "{f"&{previous};" * 10}">' for previous, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("document_type", "line"),
    [
        (BOMB + "]>", 2),
        ('<!DOCTYPE tmx [\n\n<!ENTITY i SYSTEM "file:///etc/passwd">]>', 3),
        ('<!DOCTYPE tmx [<!ENTITY % i SYSTEM "file:///etc/passwd"> %i;]>', 1),
        ('<!DOCTYPE tmx SYSTEM "tmx14.dtd" [<!ENTITY i "x">]>', 1),
    ],
)
def test_entities_are_refused(tmp_path: Path, read_pairs: Read, document_type: str, line: int) -> None:
    body = "<tmx><body>" + _unit(("de", "&i;"), ("en", "&i;")) + "</body></tmx>"
    with pytest.raises(ValueError, match=rf"a\.tmx: line {line}: the entity '[ai]'; expected only XML's") as caught:
        read_pairs("tmx", _file(tmp_path, document_type + body))
    assert "\n" not in str(caught.value)


def test_what_a_dtd_declares_is_not_fetched(tmp_path: Path, read_pairs: Read) -> None:
    (tmp_path / "own.dtd").write_text('<!ENTITY i "from the DTD">')
    content = f'<!DOCTYPE tmx SYSTEM "file://{tmp_path}/own.dtd"><tmx>' + _unit(("de", "a&i;"), ("en", "b")) + "</tmx>"
    with pytest.raises(ValueError, match=r"a\.tmx: line 1: the entity 'i'"):
        read_pairs("tmx", _file(tmp_path, content))


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("utf-16", "utf-16"),
        ("utf-8", "utf-8-sig"),
        ("iso-8859-1", "iso-8859-1"),
        ("ANSI", "cp1252"),
        ("UTF-16", "utf-16-le"),
        ("GB18030", "gb18030"),
    ],
)
def test_encodings_other_than_utf8_are_read(tmp_path: Path, read_pairs: Read, declared: str, encoding: str) -> None:
    content = _tmx(_unit(("de", "Fahrräder"), ("en", "bicycles"))).replace("UTF-8", declared)
    assert read_pairs("tmx", _file(tmp_path, content.encode(encoding)))[0] == [("Fahrräder", "bicycles")]


def test_utf16_is_read(tmp_path: Path, read_pairs: Read) -> None:
    content = _tmx(_unit(("de", "Das Haus ist rot."), ("en", "房子"))).replace("UTF-8", "GB2312").encode("gb2312")
    assert read_pairs("tmx", _file(tmp_path, content))[0] == [("Das Haus ist rot.", "房子")]


def test_compressed_files_are_read(tmp_path: Path, read_pairs: Read) -> None:
    content = gzip.compress(_tmx("\n".join([_unit(("de", "eins"), ("en", "one"))] * 10_000)).encode())
    (tmp_path / "a.tmx.gz").write_bytes(content)
    assert read_pairs("tmx", tmp_path / "a.tmx.gz") == ([("eins", "one")] * 10_000, {})
    (tmp_path / "a.tmx.gz").write_bytes(content[:-1000])
    with pytest.raises(ValueError, match=r"a\.tmx\.gz: damaged or cut short"):
        read_pairs("tmx", tmp_path / "a.tmx.gz")


@pytest.mark.parametrize("name", ["a.tmx", "a.tmx.gz", "a.TMX.XZ"])
def test_a_file_of_no_bytes_is_counted(tmp_path: Path, read_pairs: Read, name: str) -> None:
    (tmp_path / name).touch()
    assert read_pairs("tmx", tmp_path / name) == ([], {"empty_file": 1})


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_text, "READ_BYTES", 1 << 12)

    def peak(num_units: int) -> int:
        path = _file(tmp_path, _tmx("\n".join(_unit(("de", f"{i} " * 20), ("en", "x")) for i in range(num_units))))
        tracemalloc.start()
        with InputReader(Input(("de", "en"), "tmx", (str(path),)), None) as reader:
            assert sum(1 for _ in reader.pairs()) == num_units
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return memory

    peak(100)  # imports
    assert peak(4_000) < 1.3 * peak(400)


NODE = st.recursive(
    st.text("ab&<> \n😀").map(escape),
    lambda inner: st.builds(
        lambda tag, content: f"<{tag} x={quoteattr('<')}>{''.join(content)}</{tag}>",
        st.sampled_from(["hi", "bpt", "ph"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


GAP = "\0"  # where a placeholder stood


def _plain(element: Any) -> str:
    inner = "".join(_plain(child) + (child.tail or "") for child in element)
    return {"bpt": "", "ph": GAP}.get(element.tag, (element.text or "") + inner)


def _words(text: str) -> str:
    """The words separated by spaces, also where a placeholder separated them."""
    return " ".join(re.sub(rf"(?<=\w){GAP}+(?=\w)", " ", text).replace(GAP, "").split())


@given(units=st.lists(st.lists(st.tuples(st.sampled_from(["de", "en"]), NODE), max_size=3)))
def test_texts_are_those_of_a_parser_of_whole_documents(
    tmp_path_factory: pytest.TempPathFactory, read_pairs: Read, units: Any
) -> None:
    """The texts equal those found by a parser of whole documents."""
    always = _unit(("de", "first"), ("en", "first"))
    path = _file(tmp_path_factory.mktemp("tmx"), _tmx(always + "".join(_unit(*unit) for unit in units)))
    expected = []
    for unit in ElementTree.parse(path).iter("tu"):
        texts = {
            language: [
                _words(_plain(text.find("seg")))
                for text in unit
                if text.get("{http://www.w3.org/XML/1998/namespace}lang") == language
            ]
            for language in ("de", "en")
        }
        expected += list(product(texts["de"], texts["en"]))
    assert read_pairs("tmx", path)[0] == expected
