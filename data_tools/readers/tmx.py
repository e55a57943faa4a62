"""TMX, the format of translation memories: XML with a <tu> for each unit and a <tuv xml:lang="…"><seg> for each text.

Entities other than XML's own are refused, so neither "billion laughs" nor files of this machine get in; a DTD that the
document names is not fetched. The parser is expat itself, since the elements of xml.etree would take twice the time and
defusedxml's four times: it calls back where something of interest begins or ends, and nothing piles up.
"""

from collections.abc import Iterator
from itertools import product
from xml.parsers import expat

from data_tools.inputs import Input, Part
from data_tools.locations import open_binary
from data_tools.readers.source import Source, listed
from data_tools.text_lines import DAMAGED, compressed_suffix, decompressed

READ_BYTES = 1 << 18
# Markup of the original format, such as <bpt i="1">&lt;b&gt;</bpt>, is no text; <hi> around it and <sub> in it are.
INLINE_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
SUBFLOW = "sub"


class TmxSource(Source):
    """The pairs of the units; a unit with several texts in a language has as many pairs.

    A text's language is one of the corpus if it begins with it: `de` stands for de, DE, de-AT and de_CH, but `pt_BR`
    for pt-br alone. White space is collapsed: in XML a line break is no more than a space. Units without one of the
    languages are counted. Raises ValueError naming the line if the XML is broken, and at the end of the file if one of
    the languages does not occur in it.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        (self.path,) = item.paths
        self._raw = open_binary(self.path)
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
        stream = decompressed(self._raw, compressed_suffix(self.path))
        parser = _TmxParser(self.path, self.item.languages)
        is_last = False
        while not is_last:
            try:
                block = stream.read(READ_BYTES)
            except DAMAGED as error:
                raise ValueError(f"{self.path}: damaged or cut short ({error}); fetch or compress it again") from None
            is_last = not block
            for sides in parser.feed(block, is_last):
                if all(sides):
                    yield from product(*sides)
                else:
                    self.dropped["missing_side"] += 1
        parser.check_languages()


class _TmxParser:
    """Turns blocks of XML into units: for each language the list of its texts."""

    def __init__(self, path: str, languages: tuple[str, ...]) -> None:
        self._path = path
        self._languages = languages
        self._side_of: dict[str, int | None] = {}  # of each language that has occurred
        self._units: list[tuple[list[str], ...]] = []
        self._unit: tuple[list[str], ...] = ()  # none outside <tu>
        self._side: int | None = None
        self._text: list[str] = []
        self._open: list[bool] = []  # of the elements from <seg> to here, whether what they hold is text
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start_root
        self._expat.EndElementHandler = self._end
        self._expat.EntityDeclHandler = self._refuse_entity
        # Where a DTD is named, expat takes an entity that it does not know to be declared there, and says nothing.
        self._expat.SkippedEntityHandler = self._refuse_entity

    def feed(self, block: bytes, is_last: bool) -> list[tuple[list[str], ...]]:
        """The units that end in the next block of the file."""
        try:
            self._expat.Parse(block, is_last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise ValueError(f"{self._path}: line {error.lineno}: broken XML ({reason}); fetch it again") from None
        units = self._units
        self._units = []
        return units

    def check_languages(self) -> None:
        """Nothing; raises ValueError if the file holds texts, but none in one of the languages."""
        missing = set(range(len(self._languages))) - set(self._side_of.values())
        if missing and self._side_of:
            names = " and ".join(self._languages[side] for side in sorted(missing))
            raise ValueError(f"{self._path}: no text in {names}; the languages found are {listed(self._side_of)}")

    def _start_root(self, name: str, attributes: dict[str, str]) -> None:
        if name != "tmx":
            raise ValueError(
                f"{self._path}: expected a translation memory (<tmx>), found XML of another kind (<{name}>)"
            )
        self._expat.StartElementHandler = self._start

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._open:
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
            self._unit = tuple([] for _ in self._languages)

    def _end(self, name: str) -> None:
        if self._open:
            if name == SUBFLOW:
                self._text.append(" ")
            self._open.pop()
            self._listen()
            if not self._open:
                assert self._side is not None
                self._unit[self._side].append(" ".join("".join(self._text).split()))
                self._text.clear()
        elif name == "tuv":
            self._side = None
        elif name == "tu":
            self._units.append(self._unit)
            self._unit = ()

    def _enter(self, is_text: bool) -> None:
        self._open.append(is_text)
        self._listen()

    def _listen(self) -> None:
        """Nothing; from here on character data is text, or not."""
        self._expat.CharacterDataHandler = self._text.append if self._open and self._open[-1] else None

    def _find_side(self, language: str) -> int | None:
        found = _normalised(language)
        for side, wanted in enumerate(map(_normalised, self._languages)):
            if f"{found}-".startswith(f"{wanted}-"):
                return side
        return None

    def _refuse_entity(self, name: str, *declaration: object) -> None:
        line = self._expat.CurrentLineNumber
        raise ValueError(f"{self._path}: line {line}: the entity {name!r}; expected none but XML's own, such as &amp;")


def _normalised(language: str) -> str:
    return language.strip().lower().replace("_", "-")
