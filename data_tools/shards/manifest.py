"""The manifest of a data directory: its shards, the tokenizer they were made with, and what was dropped."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from data_tools.files.atomic import atomic_path
from data_tools.shards.format import ShardInfo
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import Unknown

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 2
SPLITS = ("train", "valid")
SHARES = "unknown_share"  # only in the file, since they follow from the counts


class SplitShards(TypedDict):
    """The shards of one split. `parallel["de-en"][k]` is shard number k, {"de": info, "en": info}."""

    mono: dict[str, list[ShardInfo]]
    parallel: dict[str, list[dict[str, ShardInfo]]]


def _no_shards() -> SplitShards:
    return {"mono": {}, "parallel": {}}


@dataclass(frozen=True)
class Manifest:
    """The content of a data directory: `DATA/manifest.json`, written last.

    `mono` and `parallel` are the shards to train on, as in `SplitShards`; `valid` those held out. `dropped` counts the
    dropped units (sentences, pairs) by corpus ("mono/de") and reason. By corpus and language, in all shards, `words`
    counts the pieces that begin a word, and `unknown` the unknown pieces, which earlier versions did not count.
    `special_ids` are those of the tokenizer, None for XLM-R's, as in the manifests of earlier versions; `special` has
    them in either case. The content depends only on the text, the settings and the tokenizer, not on the machine or the
    day.
    """

    version: int
    tokenizer_sha256: str
    vocab_size: int
    mono: dict[str, list[ShardInfo]]
    parallel: dict[str, list[dict[str, ShardInfo]]]
    valid: SplitShards = field(default_factory=_no_shards)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    words: dict[str, dict[str, int]] = field(default_factory=dict)
    unknown: dict[str, dict[str, Unknown]] = field(default_factory=dict)
    special_ids: SpecialIds | None = None

    @classmethod
    def load(cls, data_dir: Path | str) -> "Manifest":
        """Read the manifest of a data directory; raises ValueError if there is none, or one of another version."""
        path = Path(data_dir) / MANIFEST_NAME
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected a directory that data_tools.prepare has finished")
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != MANIFEST_VERSION:
                raise ValueError(
                    f"{path}: version {content['version']}, expected {MANIFEST_VERSION}; run data_tools.prepare again"
                )
            valid = _split(content.pop("valid"))
            train = _split({"mono": content.pop("mono"), "parallel": content.pop("parallel")})
            content.pop(SHARES, None)
            special_ids = SpecialIds.from_json(content.pop("special_ids")) if "special_ids" in content else None
            unknown = {
                name: {language: Unknown(**counts) for language, counts in sides.items()}
                for name, sides in content.pop("unknown", {}).items()
            }
            return cls(**train, valid=valid, unknown=unknown, special_ids=special_ids, **content)
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: not a manifest of data_tools.prepare ({error!r}); run it again") from None

    def save(self, data_dir: Path | str) -> None:
        """Write `manifest.json`, whole or not at all, with the shares of unknown pieces by language."""
        shares = {
            language: {"pieces": unknown.piece_share, "characters": unknown.character_share}
            for language, unknown in self.unknown_by_language().items()
        }
        content = self._content() | {SHARES: shares}
        with atomic_path(Path(data_dir) / MANIFEST_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the content: equal for equal data and tokenizer, wherever and however they were made."""
        content = self._content()
        if not self.unknown:  # the fingerprint of versions that did not count it
            del content["unknown"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        """What is saved, and identifies the content."""
        content = asdict(self)
        if self.special_ids is None:
            del content["special_ids"]
        return content

    @property
    def special(self) -> SpecialIds:
        """The special ids of the tokenizer."""
        return self.special_ids or SpecialIds.xlm_r(self.vocab_size)

    def unknown_by_language(self) -> dict[str, Unknown]:
        """The unknown pieces of each language, in all corpora together."""
        total: dict[str, Unknown] = {}
        for sides in self.unknown.values():
            for language, unknown in sides.items():
                total[language] = total.get(language, Unknown()) + unknown
        return total

    def corpora(self, split: str) -> dict[str, list[dict[str, ShardInfo]]]:
        """The shards of the split `train` or `valid` by corpus ("mono/de", "parallel/de-en").

        A shard is {language: info}, of one language or two.
        """
        content = {"train": SplitShards(mono=self.mono, parallel=self.parallel), "valid": self.valid}[split]
        mono = {f"mono/{lang}": [{lang: info} for info in infos] for lang, infos in content["mono"].items()}
        return mono | {f"parallel/{pair}": shards for pair, shards in content["parallel"].items()}

    def shards(self) -> Iterator[ShardInfo]:
        """All shards, first those of train; a shard of a pair counts as two."""
        for split in SPLITS:
            for shards in self.corpora(split).values():
                for sides in shards:
                    yield from sides.values()


def _split(content: dict[str, Any]) -> SplitShards:
    """Read the shards of a split from its JSON."""
    return {
        "mono": {lang: [ShardInfo(**info) for info in infos] for lang, infos in content["mono"].items()},
        "parallel": {
            pair: [{lang: ShardInfo(**info) for lang, info in sides.items()} for sides in shards]
            for pair, shards in content["parallel"].items()
        },
    }
