"""TMX, the format of translation memories: XML with a <tu> for each unit and a <tuv xml:lang="…"><seg> for each text.

Entities other than XML's own are refused, which prevents "billion laughs" and the inclusion of local files; a DTD that
the document names is not fetched. The parser is expat itself, with callbacks and constant memory: the elements of
xml.etree would take twice the time, defusedxml four times.
"""

import re
from collections.abc import Iterator
from itertools import product
from xml.parsers import expat

from data_tools.corpus.inputs import Input, Part
from data_tools.files.compression import decompressed
from data_tools.files.locations import open_binary
from data_tools.readers.source import Source, listed
from data_tools.readers.xml_text import INVALID, xml_blocks
from data_tools.text.languages import find_language

# Markup of the original format, such as <bpt i="1">&lt;b&gt;</bpt>, is not text; <hi> around it and <sub> in it are.
INLINE_CODES = frozenset({"bpt", "ept", "it", "ph", "ut", "br", "x"})
# Elements that stand for something (a line break, a picture), while the others begin or end a format. Two of them are
# HTML's and XLIFF's, not TMX's, but common in practice.
PLACEHOLDERS = frozenset({"ph", "br", "x"})
SUBFLOW = "sub"
PLACEHOLDER = "\ufdd1"  # a noncharacter, which xml_text removes from text
Unit = tuple[list[str], ...]  # the texts of each language
BETWEEN_WORDS = re.compile(rf"(?<=\w){PLACEHOLDER}+(?=\w)")


class TmxSource(Source):
    """The pairs of the units; a unit with several texts in a language gives several pairs.

    The code of a text belongs to a language of the corpus if it begins with its code (that given for TMX, if any): `de`
    matches de, DE, de-AT and de_CH, but `pt_BR` only pt-br. If both languages match, as for pt-pt_BR, the more specific
    one is taken. Otherwise equivalent codes match: `deu` or `ger` for de, `zh-TW` for zh_Hant. White space is
    collapsed: in XML a line break is no more than a space. Units without one of the languages count as `missing_side`,
    units with a character that XML forbids as `invalid_character`. Raises ValueError naming the line if the XML is
    broken, and at the end of the file if one of the languages does not occur in it.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        (self.path,) = item.paths
        self._raw = open_binary(self.path)
        self._is_empty = not self._raw.peek(1)
        if self._is_empty:
            self.dropped["empty_file"] += 1
        self._num_bytes_read = 0

    @property
    def num_bytes_read(self) -> int:
        if not self._raw.closed:
            self._num_bytes_read = self._raw.tell()
        return self._num_bytes_read

    def close(self) -> None:
        self._num_bytes_read = self.num_bytes_read
        self._raw.close()

    def pairs(self) -> Iterator[tuple[str, str]]:
        if self._is_empty:
            return
        parser = _TmxParser(self.path, self.item)
        for text in xml_blocks(self.path, decompressed(self.path, self._raw)):
            for sides in parser.feed(text):
                if sides is None:
                    self.dropped["invalid_character"] += 1
                elif all(sides):
                    yield from product(*sides)
                else:
                    self.dropped["missing_side"] += 1
        parser.finish()


class _TmxParser:
    """Turns blocks of XML into units."""

    def __init__(self, path: str, item: Input) -> None:
        self._path = path
        self._item = item
        self._codes = [_normalised(code) for code in item.codes_in_file]
        self._side_of: dict[str, int | None] = {}  # by code, for all codes found so far
        self._units: list[Unit | None] = []
        self._unit: Unit = ()  # none outside <tu>
        self._is_invalid = False  # whether a text of the unit holds INVALID
        self._side: int | None = None
        self._text: list[str] = []
        self._open: list[bool] = []  # for each open element from <seg> on, whether its content is text
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start_root
        self._expat.EndElementHandler = self._end
        self._expat.EntityDeclHandler = self._refuse_entity
        # If a DTD is named, expat assumes that unknown entities are declared there, and skips them silently.
        self._expat.SkippedEntityHandler = self._refuse_entity

    def feed(self, block: str, is_last: bool = False) -> list[Unit | None]:
        """Parse the next block of the file; returns the units that end in it, None for invalid ones."""
        try:
            self._expat.Parse(block, is_last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise ValueError(f"{self._path}: line {error.lineno}: broken XML ({reason}); fetch it again") from None
        units = self._units
        self._units = []
        return units

    def finish(self) -> None:
        """Raise ValueError if the file is truncated, or has texts but none in one of the languages."""
        self.feed("", is_last=True)
        missing = set(range(len(self._codes))) - set(self._side_of.values())
        if missing and self._side_of:
            names = " and ".join(self._item.codes_in_file[side] for side in sorted(missing))
            language = self._item.languages[min(missing)]
            spellings: dict[str, str] = {}  # the first of each language
            for spelling in self._side_of:
                spellings.setdefault(_normalised(spelling), spelling)
            raise ValueError(
                f"{self._path}: no text in {names}; the languages found are {listed(spellings.values())}; if it has "
                f"another code there, give it beside tmx: in the corpus, as codes: {{{language}: …}}"
            )

    def _start_root(self, name: str, attributes: dict[str, str]) -> None:
        if name != "tmx":
            raise ValueError(f"{self._path}: expected a translation memory (<tmx>), found other XML (<{name}>)")
        self._expat.StartElementHandler = self._start

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._open:
            if name in PLACEHOLDERS and self._open[-1]:
                self._text.append(PLACEHOLDER)
            self._enter(name == SUBFLOW or (self._open[-1] and name not in INLINE_CODES))
            if name == SUBFLOW:
                self._text.append(" ")  # a text of its own, such as a footnote
        elif name == "seg":
            if self._unit and self._side is not None:
                self._enter(True)
        elif name == "tuv":
            language = attributes.get("xml:lang") or attributes.get("lang") or "(none)"
            if language not in self._side_of:
                self._side_of[language] = self._find_side(language)
            self._side = self._side_of[language]
        elif name == "tu":
            self._unit = tuple([] for _ in self._codes)
            self._is_invalid = False

    def _end(self, name: str) -> None:
        if self._open:
            if name == SUBFLOW:
                self._text.append(" ")
            self._open.pop()
            self._listen()
            if not self._open:
                assert self._side is not None
                text = "".join(self._text)
                if PLACEHOLDER in text:
                    text = BETWEEN_WORDS.sub(" ", text).replace(PLACEHOLDER, "")
                self._is_invalid |= INVALID in text
                self._unit[self._side].append(" ".join(text.split()))
                self._text.clear()
        elif name == "tuv":
            self._side = None
        elif name == "tu":
            self._units.append(None if self._is_invalid else self._unit)
            self._unit = ()

    def _enter(self, is_text: bool) -> None:
        self._open.append(is_text)
        self._listen()

    def _listen(self) -> None:
        """Collect the character data that follows, or ignore it."""
        self._expat.CharacterDataHandler = self._text.append if self._open and self._open[-1] else None

    def _find_side(self, language: str) -> int | None:
        found = _normalised(language)
        fitting = [side for side, code in enumerate(self._codes) if f"{found}-".startswith(f"{code}-")]
        if fitting:
            return max(fitting, key=lambda side: len(self._codes[side]))
        # A less specific code is not equivalent: in a file with pt and pt-BR, pt_BR is only the latter.
        same = find_language(found, [code for code in self._codes if not code.startswith(f"{found}-")])
        return None if same is None else self._codes.index(same)

    def _refuse_entity(self, name: str, *declaration: object) -> None:
        line = self._expat.CurrentLineNumber
        raise ValueError(f"{self._path}: line {line}: the entity {name!r}; expected only XML's own, such as &amp;")


def _normalised(language: str) -> str:
    return language.strip().lower().replace("_", "-")
