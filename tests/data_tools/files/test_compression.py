import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_tools.files.compression import damage_named, decompressed
from data_tools.files.formats import COMPRESSED_SUFFIXES
from data_tools.files.locations import open_binary

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
}
CONTENT = "".join(f"line {i}\n" for i in range(10_000)).encode()


def _read(path: Path) -> bytes:
    with open_binary(str(path)) as raw, damage_named(str(path)):
        return decompressed(str(path), raw).read()


def test_every_suffix_is_tested() -> None:
    assert tuple(COMPRESSORS) == COMPRESSED_SUFFIXES


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_complete_files_are_decompressed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    path.write_bytes(COMPRESSORS[suffix](CONTENT))
    assert _read(path) == CONTENT
    path.write_bytes(COMPRESSORS[suffix](b""))
    assert _read(path) == b""
    path.write_bytes(COMPRESSORS[suffix](CONTENT) + COMPRESSORS[suffix](b"more"))  # as `cat a.gz b.gz` makes it
    assert _read(path) == CONTENT + b"more"


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_file_of_no_bytes_holds_nothing(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    assert _read(tmp_path / f"a{suffix}") == b""


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_truncated_or_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    whole = COMPRESSORS[suffix](CONTENT)
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:-1], whole[:3], whole[: middle - 50] + bytes(100) + whole[middle + 50 :]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\{suffix}: damaged or cut short"):
            _read(path)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_content_that_contradicts_the_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for other, compress in COMPRESSORS.items():
        if other != suffix:
            path.write_bytes(compress(CONTENT))
            with pytest.raises(ValueError, match=rf"a\{suffix}: by its suffix .*-compressed, found .*\{other}$"):
                _read(path)
    for content in (b"never compressed\n", b"x", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\{suffix}: by its suffix \{suffix} .*, found something else; fetch"):
            _read(path)


def test_a_zstd_window_above_the_default_limit_is_read(tmp_path: Path) -> None:
    # As `zstd --long=28` makes it.
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.zst").write_bytes(compressor.compress(CONTENT) + compressor.flush())
    with pytest.raises(zstandard.ZstdError, match="memory"):
        zstandard.ZstdDecompressor().decompressobj().decompress((tmp_path / "a.zst").read_bytes())
    assert _read(tmp_path / "a.zst") == CONTENT


def test_a_skippable_zstd_frame_may_come_first(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"  # as pzstd writes it
    (tmp_path / "a.zst").write_bytes(skipped + COMPRESSORS[".zst"](CONTENT))
    assert _read(tmp_path / "a.zst") == CONTENT


def test_a_zstd_dictionary_is_not_called_damage(tmp_path: Path) -> None:
    samples = [b"%d is a line of text %d\n" % (i, i * i) * 10 for i in range(1_000)]
    dictionary = zstandard.train_dictionary(2_000, samples)
    (tmp_path / "a.zst").write_bytes(zstandard.ZstdCompressor(dict_data=dictionary).compress(CONTENT))
    with pytest.raises(ValueError, match=r"a\.zst: made with a dictionary of its own; compress it again without one"):
        _read(tmp_path / "a.zst")


def test_errors_of_the_disk_name_the_file() -> None:
    with pytest.raises(OSError) as caught, damage_named("a.gz"):
        raise OSError(5, "Input/output error")
    assert caught.value.filename == "a.gz"
    with pytest.raises(ValueError, match=r"^a\.gz: damaged"), damage_named("a.gz"):
        bz2.BZ2File(io.BytesIO(b"BZh9" + bytes(100))).read()
