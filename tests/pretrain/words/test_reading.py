"""The files that a recipe names: which are read, what is told, and what is refused."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools.tokenizers.sentence_piece import PieceEncoder
from pretrain.views.pair import framed
from pretrain.words.lexicons import Lexicons, PairWords
from pretrain.words.reading import read_lexicons

CORPORA = os.environ.get("VECO_CORPORA")


def words_of(lexicons: Lexicons, encoder: PieceEncoder, x: str, y: str) -> PairWords:
    x_ids, y_ids = (framed(ids, encoder.special) for ids in encoder.encode_lines([x, y]))
    return lexicons.words("de-en", x_ids, y_ids)


def linked(words: PairWords, encoder: PieceEncoder) -> set[tuple[str, str]]:
    return {
        (encoder.decode(words.pieces(0, i)), encoder.decode(words.pieces(1, j)))
        for i, j in np.argwhere(words.translated)
    }


def grouped(words: PairWords, encoder: PieceEncoder) -> list[set[str]]:
    texts = [encoder.decode(words.pieces(side, i)) for side in (0, 1) for i in range(len(words.numbers[side]))]
    groups = words.groups
    return [{texts[i] for i in np.flatnonzero(groups == group)} for group in range(groups.max(initial=-1) + 1)]


@pytest.mark.parametrize("form", ["{}", "en-de={}", "de={}", "de-en={turned}", "{directory}", "{directory}/, en-de={}"])
def test_lexicon_is_named_in_any_form(form: str, lexicon: Path, word_data: Path, encoder, tmp_path: Path) -> None:
    lines = [line.split("\t") for line in lexicon.read_text().splitlines() if "\t" in line]
    (tmp_path / "turned.txt").write_text("".join(f"{german}\t{english}\n" for english, german in lines))
    (lexicon.parent / "readme").write_text("of no language")
    named = form.format(lexicon, turned=tmp_path / "turned.txt", directory=lexicon.parent)
    lexicons = read_lexicons(word_data, ["de-en"], named, None)
    words = words_of(lexicons, encoder, "Der Hund sieht das Haus, Katze.", "The dog sees the House: cat!")
    assert linked(words, encoder) == {("Hund", "dog"), ("Haus", "House"), ("Katze", "cat")}
    cat = [encoder.decode(pieces) for pieces in words.translations(1, 5)]
    assert sorted(cat) == ["Kater", "Katze"] and words.translations(0, 0) == []


def test_synonyms_of_translations_are_found_and_words_grouped(lexicon, thesaurus, word_data, encoder) -> None:
    lexicons = read_lexicons(word_data, ["de-en"], str(lexicon), str(thesaurus))
    words = words_of(lexicons, encoder, "Der Hund ist groß und klein.", "The dog is big and small, dog.")
    assert linked(words, encoder) == {("Hund", "dog"), ("und", "and")}
    assert grouped(words, encoder) == [{"Hund", "dog"}, {"groß", "big"}, {"und", "and"}]
    assert words.groups.tolist() == [-1, 0, -1, 1, 2, -1, -1, 0, -1, 1, 2, -1, 0]


def test_a_pair_without_links_has_no_groups(lexicon, word_data, encoder) -> None:
    lexicons = read_lexicons(word_data, ["de-en"], str(lexicon), None)
    assert words_of(lexicons, encoder, "Die", "").groups.tolist() == [-1]
    assert words_of(lexicons, encoder, "", "").groups.tolist() == []


def test_what_was_read_is_told_in_one_line(lexicon, thesaurus, word_data, capsys: pytest.CaptureFixture[str]) -> None:
    read_lexicons(word_data, ["de-en", "en-fr"], str(lexicon), str(thesaurus))
    assert capsys.readouterr().err == (
        f"lexicon de-en, {lexicon}: 6 pairs of words, 1 with phrases left out, 1 broken lines skipped; "
        f"thesaurus de, {thesaurus}: 2 pairs of words, 0 with phrases left out; no lexicon for en-fr\n"
    )


def test_lexicons_travel_to_other_processes(lexicon, thesaurus, word_data, encoder) -> None:
    lexicons = read_lexicons(word_data, ["de-en"], str(lexicon), str(thesaurus))
    sent = pickle.loads(pickle.dumps(lexicons))
    sentences = ("Der Hund ist groß und klein.", "The dog is big and small, dog.")
    assert (
        words_of(sent, encoder, *sentences).groups.tolist() == words_of(lexicons, encoder, *sentences).groups.tolist()
    )


@pytest.mark.parametrize(
    ("lexicon_text", "thesaurus_text", "message"),
    [
        ("{dir}/none.txt", None, "lexicon .*none.txt: no such file or directory"),
        ("de={dir}/none.txt", None, "none.txt: no such file"),
        ("{dir}/de.txt, en-de={dir}/empty.txt", None, "empty.txt: expected lines of WORD TAB TRANSLATION"),
        ("{dir}/fr.txt", None, "fr.txt: it is of en-fr, of which the data have nothing, only de-en; leave it out"),
        ("en-zz={dir}/de.txt", None, "de.txt: it is of en-zz, of which the data have nothing, only de-en"),
        (
            "{dir}/words.xml",
            None,
            "lexicon .*words.xml: its name does not tell its language; write, for example, en-de=",
        ),
        ("{dir}/others", None, "others: found no file for the data's pairs de-en; expected such names as de.txt"),
        ("{dir}/de.txt", "{dir}/none.dat", "thesaurus .*none.dat: no such file or directory"),
        ("{dir}/de.txt", "{dir}/thes_fr.dat", "thes_fr.dat: it is of fr, of which the data have nothing, only de, en"),
        ("{dir}/de.txt", "de={dir}/de.txt", "de.txt: expected a thesaurus in MyThes' format"),
        ("{dir}/de.txt", "{dir}/others", "others: found no file for the data's languages de, en; expected such names"),
    ],
)
def test_bad_names_are_refused(
    lexicon_text: str, thesaurus_text: str | None, message: str, lexicon: Path, word_data: Path, tmp_path: Path
) -> None:
    shutil.copy(lexicon, tmp_path / "de.txt")
    for name in ("fr.txt", "words.xml"):
        (tmp_path / name).write_text("dog\tchien\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "thes_fr.dat").write_text("UTF-8\nchien|1\n(Nom)|toutou\n")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "fr.txt").write_text("dog\tchien\n")
    named = thesaurus_text and thesaurus_text.format(dir=tmp_path)
    with pytest.raises(ValueError, match=message):
        read_lexicons(word_data, ["de-en"], lexicon_text.format(dir=tmp_path), named)


def test_language_without_spaces_is_refused(lexicon: Path, word_data: Path) -> None:
    with pytest.raises(ValueError, match="de.txt: zh has no spaces between words"):
        read_lexicons(word_data, ["en-zh"], f"en-zh={lexicon}", None)


@pytest.mark.skipif(not CORPORA, reason="VECO_CORPORA is not set")
def test_real_lexicons_and_thesauri(word_data: Path, encoder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(CORPORA or "") / "lexicon"
    lexicons = read_lexicons(word_data, ["de-en", "en-ru"], str(folder), f"{folder}/thesaurus/th_ru_RU_v2.dat.gz")
    words = words_of(lexicons, encoder, "Der Hund sieht das Haus, Katze.", "The dog sees the House: cat!")
    assert ("Haus", "House") in linked(words, encoder)  # it has no "Hund" for "dog", nor "Katze" for "cat"
    told = capsys.readouterr().err
    assert "de.txt.gz: 44,134 pairs of words, 16,574 with phrases left out; lexicon en-ru" in told
    assert "broken" not in told
