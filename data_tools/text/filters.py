"""Filters that drop sentences and pairs of a corpus: `filters` of CORPUS.yaml.

    filters:
      copied: true            # drop pairs whose sides differ only in case, white space and compatibility characters
      length_ratio: 9         # drop pairs with more than 9 times as many tokens on one side as on the other (Moses)
      length: {min: 2, max: 250}      # tokens of a sentence, or of each side of a pair
      digits: 0.3             # at most this share of the non-space characters may be digits
      punctuation: 0.5        # … punctuation or symbols
      urls: 0.2               # … part of a URL
      script: 0.5             # at least this share of the letters must be in a script of the language, by CLDR
      language: {model: lid.176.bin, min_probability: 0.5}    # the probability of the language by a fastText model

`copied` and `length_ratio` are on by default, with the values above; the others only if they are given; `false`
switches any of them off. Blank sentences, and pairs with a blank side, are always dropped. Filters of single sentences
test both sides of a pair, and drop it if either fails. The scripts and labels of a language can be given explicitly:

      script: {min_share: 0.5, scripts: {sr: [Cyrl, Latn]}}
      language: {model: glotlid.bin, min_probability: 0.5, labels: {ar: [arb_Arab, arz_Arab]}}

The filters are applied in a fixed order, cheap ones first: empty (for pairs empty_side), copied, digits, punctuation,
urls, script, language, then on tokens too_short, too_long, length_ratio. A unit is counted under the first filter that
drops it.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from data_tools.files.atomic import sha256_of
from data_tools.stages.text_batches import TextBatch, TokenBatch
from data_tools.text.characters import digit_shares, punctuation_shares, script_shares, url_shares
from data_tools.text.language_identification import LanguageIdentifier, read_labels
from data_tools.text.languages import LABEL_PREFIX, find_language, matching_labels, scripts_of, unicode_scripts

MOSES_LENGTH_RATIO = 9.0  # default of Moses' clean-corpus-n.perl
# (language, its scripts or labels) for the languages for which they are given explicitly.
ByLanguage = tuple[tuple[str, tuple[str, ...]], ...]
Complain = Callable[[str], None]
SideCheck = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class LengthFilter:
    """The limits of the number of tokens of a sentence; None for no limit."""

    min: int = 1
    max: int | None = None


@dataclass(frozen=True)
class ScriptFilter:
    """The minimal share of letters in a script of the language; `scripts` overrides CLDR's scripts of languages."""

    min_share: float = 0.5
    scripts: ByLanguage = ()

    def scripts_of(self, language: str) -> frozenset[str]:
        named = _named_for(language, self.scripts)
        if named is None:
            return scripts_of(language)
        return frozenset(script for name in named for script in unicode_scripts(name))


@dataclass(frozen=True)
class LanguageFilter:
    """The minimal probability of the language by `model`; `labels` gives its labels of languages if codes differ."""

    model: Path
    min_probability: float = 0.5
    labels: ByLanguage = ()

    def labels_of(self, language: str, known: Iterable[str]) -> frozenset[str]:
        """The labels of a language among those `known` to the model."""
        named = _named_for(language, self.labels)
        if named is None:
            return matching_labels(language, known)
        return _labels_named(named, known)


@dataclass(frozen=True)
class Filters:
    """The filters of a corpus; a filter that is None or False is off. Shares are from 0 to 1."""

    copied: bool = True
    length_ratio: float | None = MOSES_LENGTH_RATIO
    length: LengthFilter | None = None
    digits: float | None = None
    punctuation: float | None = None
    urls: float | None = None
    script: ScriptFilter | None = None
    language: LanguageFilter | None = None

    @classmethod
    def parse(cls, value: object, complain: Complain, base: Path) -> "Filters":
        """Read the filters from the value of `filters` in CORPUS.yaml; problems are passed to `complain`.

        A relative path of a model starts at `base`; variables in it have been expanded.
        """
        if value is None:
            return cls()
        reader = _Reader(complain, base)
        readers: dict[str, Callable[[str, Any], Any]] = {
            "copied": reader.flag,
            "length_ratio": reader.ratio,
            "length": reader.length,
            "digits": reader.share,
            "punctuation": reader.share,
            "urls": reader.share,
            "script": reader.script,
            "language": reader.language,
        }
        settings = reader.mapping("", value, readers)
        chosen = {key: readers[key](key, setting) for key, setting in settings.items() if setting is not False}
        off = {key: False if key == "copied" else None for key in settings}
        return cls(**{**off, **chosen})

    def check_languages(self, languages: Iterable[str], complain: Complain) -> None:
        """Complain of languages of the corpus that a filter does not know: without a known script, or a label."""
        names = sorted(set(languages))
        if self.script is not None:
            _check_named("script: scripts", self.script.scripts, names, complain)
            unknown = [name for name in names if not self.script.scripts_of(name)]
            if unknown:
                complain(
                    f"filters: script: the script of {', '.join(unknown)} is unknown; give it, for example as "
                    f"scripts: {{{unknown[0]}: [Latn]}}"
                )
        if self.language is not None:
            _check_named("language: labels", self.language.labels, names, complain)
            try:
                known = read_labels(self.language.model)
            except (OSError, ValueError) as error:
                complain(f"filters: language: {error}")
                return
            for language, labels in self.language.labels:
                missing = [label for label in labels if not _labels_named([label], known)]
                if missing:
                    complain(f"filters: language: labels: {language}: the model has no label {', '.join(missing)}")
            unknown = [name for name in names if not self.language.labels_of(name, known)]
            if unknown:
                complain(
                    f"filters: language: {self.language.model}: no label for {', '.join(unknown)} among its "
                    f"{len(known)} ({', '.join(known[:3])}, …); use another model, or give labels, for example as "
                    f"labels: {{{unknown[0]}: [{known[0].removeprefix(LABEL_PREFIX)}]}}"
                )

    def identity(self) -> dict[str, Any]:
        """All that determines which units are kept, fit for JSON; a model counts by its content, not by its path."""
        content = asdict(self)
        if self.language is not None:
            content["language"]["model"] = sha256_of(self.language.model)
        return content


class TextFilter:
    """Drops units by their text. `languages` are those of the one or two sides of the batches."""

    def __init__(self, filters: Filters, languages: tuple[str, ...]) -> None:
        self._compares_sides = filters.copied and len(languages) == 2
        self._checks = list(zip(*(_side_checks(filters, language) for language in languages), strict=True))

    def __call__(self, batch: TextBatch) -> TextBatch:
        """The batch without the units that a filter drops, which it counts."""
        is_pairs = len(batch.sides) == 2
        batch = batch.keep(_all(map(_is_not_blank, batch.sides)), "empty_side" if is_pairs else "empty")
        if self._compares_sides:
            batch = batch.keep(~is_copied(*batch.sides), "copied")
        for side_checks in self._checks:
            reason, _ = side_checks[0]
            kept = _all(check(side) for (_, check), side in zip(side_checks, batch.sides, strict=True))
            batch = batch.keep(kept, reason)
        return batch


class TokenFilter:
    """Drops units by the number of their tokens."""

    def __init__(self, filters: Filters) -> None:
        self._length = filters.length
        self._ratio = filters.length_ratio

    def __call__(self, batch: TokenBatch) -> TokenBatch:
        """The batch without the units that a filter drops, which it counts."""
        if self._length is not None:
            batch = batch.keep(_shorter(batch) >= self._length.min, "too_short")
            if self._length.max is not None:
                batch = batch.keep(_longer(batch) <= self._length.max, "too_long")
        if self._ratio is not None and len(batch.sides) == 2:
            batch = batch.keep(_longer(batch) <= self._ratio * _shorter(batch), "length_ratio")
        return batch


def is_copied(sources: list[str], targets: list[str]) -> np.ndarray:
    """For each pair (n,) whether its sides are equal after NFKC, case folding and collapsing of white space.

    Normalisation takes microseconds, so it is only done for pairs whose sides may start with the same letter.
    """
    copied = np.zeros(len(sources), dtype=bool)
    starts = (map(_folded_start, map(itemgetter(slice(1)), side)) for side in (sources, targets))
    for i, (source_start, target_start) in enumerate(zip(*starts, strict=True)):
        may_be_equal = source_start == target_start or not source_start or not target_start
        if may_be_equal and _normal_form(sources[i]) == _normal_form(targets[i]):
            copied[i] = True
    return copied


def _normal_form(line: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", line).casefold().split())


@cache
def _folded_start(character: str) -> str:
    """The first character, decomposed, of the normal form of a line that starts with `character`; "" if undetermined.

    Characters after a letter can only compose with it, and the composition decomposes and folds to the same start.
    """
    start = unicodedata.normalize("NFKD", character)[:1]
    if not start or start.isspace() or unicodedata.combining(start):
        return ""
    return start.casefold()[0]


def _is_not_blank(lines: list[str]) -> np.ndarray:
    return np.fromiter(map(bool, map(str.strip, lines)), bool, len(lines))


def _all(conditions: Iterable[np.ndarray]) -> np.ndarray:
    return np.logical_and.reduce(list(conditions))


def _shorter(batch: TokenBatch) -> np.ndarray:
    return np.minimum.reduce([side.lengths for side in batch.sides])


def _longer(batch: TokenBatch) -> np.ndarray:
    return np.maximum.reduce([side.lengths for side in batch.sides])


def _side_checks(filters: Filters, language: str) -> Iterator[tuple[str, SideCheck]]:
    """(reason, check) of the filters on the text of one side, in their order."""
    limited = [
        ("digits", digit_shares, filters.digits),
        ("punctuation", punctuation_shares, filters.punctuation),
        ("urls", url_shares, filters.urls),
    ]
    for reason, shares, limit in limited:
        if limit is not None:
            yield reason, partial(_at_most, shares, limit)
    if filters.script is not None:
        scripts = filters.script.scripts_of(language)
        assert scripts, f"{language}: check_languages() was not called"
        yield "script", partial(_at_least, partial(script_shares, scripts=scripts), filters.script.min_share)
    if filters.language is not None:
        labels = filters.language.labels_of(language, read_labels(filters.language.model))
        identifier = LanguageIdentifier(filters.language.model, labels)
        yield "language", partial(_at_least, identifier.probabilities, filters.language.min_probability)


def _at_most(values: SideCheck, limit: float, lines: list[str]) -> np.ndarray:
    return values(lines) <= limit


def _at_least(values: SideCheck, limit: float, lines: list[str]) -> np.ndarray:
    return values(lines) >= limit


def _labels_named(names: Sequence[str], known: Iterable[str]) -> frozenset[str]:
    """The known labels that a user has given, with or without their prefix."""
    return frozenset(label for label in known if label in names or label.removeprefix(LABEL_PREFIX) in names)


def _named_for(language: str, named: ByLanguage) -> tuple[str, ...] | None:
    """The scripts or labels that a user has given for a language, under any of its codes; None if there are none."""
    names = dict(named)
    code = find_language(language, names)
    return None if code is None else names[code]


def _check_named(what: str, named: ByLanguage, languages: list[str], complain: Complain) -> None:
    """Complain of entries for languages that the corpus does not have."""
    for language, _ in named:
        if find_language(language, languages) is None:
            complain(f"filters: {what}: {language} is not a language of this corpus; it has {', '.join(languages)}")


class _Reader:
    """Turns YAML values into those of the dataclasses; problems are passed to `complain` and replaced by a default."""

    def __init__(self, complain: Complain, base: Path) -> None:
        self._complain = complain
        self.base = base

    def complain(self, where: str, expected: str, found: object) -> None:
        self._complain(f"{': '.join(filter(None, ['filters', where]))}: expected {expected}, found {found!r}")

    def mapping(self, where: str, value: object, keys: Iterable[str]) -> dict[str, Any]:
        """The entries of a mapping whose keys are among `keys`."""
        if not isinstance(value, dict):
            self.complain(where, f"a mapping of {', '.join(keys)}", value)
            return {}
        for key in value:
            if key not in keys:
                self.complain(where, f"the keys {', '.join(keys)}", key)
        return {key: setting for key, setting in value.items() if key in keys}

    def flag(self, where: str, value: object) -> bool:
        if not isinstance(value, bool):
            self.complain(where, "true or false", value)
        return value is True

    def share(self, where: str, value: object) -> float | None:
        if _is_number(value) and 0 <= value <= 1:
            return float(value)
        self.complain(where, "a number from 0 to 1", value)
        return None

    def ratio(self, where: str, value: object) -> float | None:
        if _is_number(value) and value >= 1:
            return float(value)
        self.complain(where, "a number of at least 1", value)
        return None

    def length(self, where: str, value: object) -> LengthFilter:
        limits = self.mapping(where, value, ("min", "max"))
        for key, limit in limits.items():
            if not (isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1):
                self.complain(f"{where}: {key}", "a whole number of tokens, at least 1", limit)
                return LengthFilter()
        found = LengthFilter(**limits)
        if found.max is not None and found.max < found.min:
            self.complain(where, "min not above max", value)
        return found

    def script(self, where: str, value: object) -> ScriptFilter:
        if not isinstance(value, dict):
            value = {"min_share": value}
        settings = self.mapping(where, value, ("min_share", "scripts"))
        min_share = self.share(f"{where}: min_share", settings.get("min_share", ScriptFilter.min_share))
        scripts = self.by_language(f"{where}: scripts", settings.get("scripts", {}))
        for language, names in scripts:
            for name in names:
                if not unicode_scripts(name):
                    self.complain(f"{where}: scripts: {language}", "ISO 15924 codes such as Latn or Cyrl", name)
        return ScriptFilter(min_share or 0.0, scripts)

    def language(self, where: str, value: object) -> LanguageFilter | None:
        settings = self.mapping(where, value, ("model", "min_probability", "labels"))
        model = settings.get("model")
        if not isinstance(model, str) or not (self.base / model).is_file():
            self.complain(f"{where}: model", "a model file of fastText", model)
            return None
        probability = self.share(
            f"{where}: min_probability", settings.get("min_probability", LanguageFilter.min_probability)
        )
        labels = self.by_language(f"{where}: labels", settings.get("labels", {}))
        return LanguageFilter(self.base / model, probability or 0.0, labels)

    def by_language(self, where: str, value: object) -> ByLanguage:
        """{language: name or names} as pairs in sorted order."""
        if not isinstance(value, dict):
            self.complain(where, "languages and their names", value)
            return ()
        found = []
        for language, names in value.items():
            listed = [names] if isinstance(names, str) else names
            if not isinstance(language, str):  # YAML 1.1 reads `no` as false
                self.complain(where, "language codes, in quotes if YAML does not read them as text", language)
            elif not (isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed)):
                self.complain(f"{where}: {language}", "a list of names", names)
            else:
                found.append((language, tuple(listed)))
        return tuple(sorted(found))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
