"""OPUS: zip archives in Moses format, with members such as `Europarl.de-en.de` and `Europarl.de-en.en`."""

import zipfile
from collections.abc import Iterator

from data_tools.corpus.inputs import Input, Part
from data_tools.files.formats import check_is_not_another
from data_tools.files.locations import is_of_finder, open_binary
from data_tools.readers.source import Source, listed
from data_tools.readers.text import line_pairs
from data_tools.text.lines import TextLines

ZIP = b"PK"  # what archives begin with


class OpusSource(Source):
    """The pairs of an archive: the i-th lines of its members X.de and X.en, for one X after another.

    Other members (README, LICENSE, X.scores, files of macOS' Finder) are ignored. Raises ValueError if the archive is
    damaged or encrypted, has no such members, or one without the other.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        (self.path,) = item.paths
        self._size = self.size_of(item)
        self._file = open_binary(self.path)
        try:
            try:
                self._archive = zipfile.ZipFile(self._file)
            except (zipfile.BadZipFile, NotImplementedError) as error:
                check_is_not_another(self.path, ZIP, "a zip archive as OPUS has them")
                raise ValueError(f"{self.path}: not a zip archive, or cut short ({error}); fetch it again") from None
            self._members = self._find_members()
        except BaseException:
            self._file.close()
            raise
        sizes = (self._archive.getinfo(member).file_size for members in self._members for member in members)
        self._text_bytes = sum(sizes)
        self._num_read = 0
        self._open: list[TextLines] = []

    def _find_members(self) -> list[tuple[str, str]]:
        """The names of two members each, in the order of the archive."""
        members = [info.filename for info in self._archive.infolist() if not info.is_dir()]
        names = [name for name in members if not is_of_finder(name)]
        endings = [f".{code}" for code in self.item.codes_in_file]
        stems = [[name.removesuffix(ending) for name in names if name.endswith(ending)] for ending in endings]
        if not any(stems):
            raise ValueError(
                f"{self.path}: has no members *{endings[0]} and *{endings[1]}, as OPUS archives in Moses format have; "
                f"found {listed(names)}"
            )
        for one, other, ending in ((stems[0], stems[1], endings[1]), (stems[1], stems[0], endings[0])):
            for stem in one:
                if stem not in other:
                    raise ValueError(f"{self.path}: has no member {stem}{ending}; found {listed(names)}")
        return [(stem + endings[0], stem + endings[1]) for stem in stems[0]]

    @property
    def num_bytes_read(self) -> int:
        num_read = self._num_read + sum(lines.num_bytes_read for lines in self._open)
        return self._size * num_read // max(self._text_bytes, 1)

    def close(self) -> None:
        for lines in self._open:
            lines.close()
        self._archive.close()
        self._file.close()

    def pairs(self) -> Iterator[tuple[str, str]]:
        for members in self._members:
            self._open = [self._lines(member) for member in members]
            try:
                yield from line_pairs(*self._open)
            except zipfile.BadZipFile as error:
                raise ValueError(f"{self.path}: damaged ({error}); fetch it again") from None
            self._num_read += sum(lines.num_bytes_read for lines in self._open)
            self._open = []

    def _lines(self, member: str) -> TextLines:
        try:
            return TextLines(f"{self.path}: {member}", self._archive.open(member), is_prose=True)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError: password required
            raise ValueError(f"{self.path}: {member} cannot be read ({error})") from None
