"""The key `deduplicate` of CORPUS.yaml.

deduplicate:
  exact: true               # of equal sentences (pairs) of a language (pair) the first one stays
  minhash: true             # of near-duplicate documents of a language one stays
  # minhash: {num_buckets: 14, hashes_per_bucket: 8, ngram: 5}      the same as `true`
"""

from collections.abc import Callable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class MinhashSettings:
    """Similarity threshold of near-duplicates; the defaults are datatrove's.

    Documents whose n-grams have the Jaccard similarity s are found with probability
    1 - (1 - s^hashes_per_bucket)^num_buckets, which rises steeply around s = (1 / num_buckets)^(1 / hashes_per_bucket),
    0.72 by default. There it is 0.65; at s = 0.5 it is 0.05, at s = 0.8 it is 0.92.
    """

    num_buckets: int = 14
    hashes_per_bucket: int = 8
    ngram: int = 5  # tokens


@dataclass(frozen=True)
class Deduplication:
    """The kinds of duplicates to remove; `dataclasses.asdict` makes it fit for JSON."""

    exact: bool = False
    minhash: MinhashSettings | None = None

    @classmethod
    def parse(cls, value: object, complain: Callable[[str], None]) -> "Deduplication":
        """Read the settings from a YAML value; all problems are passed to `complain`."""
        if value is None:
            return cls()
        known = [field.name for field in fields(cls)]
        if not isinstance(value, dict):
            complain(f"deduplicate: expected the keys {', '.join(known)}, found {value!r}")
            return cls()
        for key in value:
            if key not in known:
                complain(f"deduplicate: unknown key {key!r}; expected {', '.join(known)}")
        exact = value.get("exact", False)
        if not isinstance(exact, bool):
            complain(f"deduplicate: exact: expected true or false, found {exact!r}")
        return cls(exact=exact is True, minhash=_minhash(value.get("minhash"), complain))

    def minhash_of(self, languages: tuple[str, ...]) -> MinhashSettings | None:
        """The settings for near-duplicates of ("de",); None for ("de", "en"), since pairs are not documents."""
        return self.minhash if len(languages) == 1 else None


def _minhash(value: object, complain: Callable[[str], None]) -> MinhashSettings | None:
    """The settings of `minhash:`; None if it is off."""
    if value is None or value is False:
        return None
    if value is True:
        return MinhashSettings()
    known = [field.name for field in fields(MinhashSettings)]
    if not isinstance(value, dict):
        complain(f"deduplicate: minhash: expected true, false or the keys {', '.join(known)}, found {value!r}")
        return None
    numbers = {}
    for key, number in value.items():
        if key not in known:
            complain(f"deduplicate: minhash: unknown key {key!r}; expected {', '.join(known)}")
        elif isinstance(number, bool) or not isinstance(number, int) or number < 1:
            complain(f"deduplicate: minhash: {key}: expected a whole number from 1, found {number!r}")
        else:
            numbers[key] = number
    return MinhashSettings(**numbers)
