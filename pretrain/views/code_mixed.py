"""Code-mixed sentences: words of one sentence of a pair in the place of their translations in the other (ALM)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.masking import MaskedSequence, mask_tokens
from pretrain.views.pair import Pair
from pretrain.words.lexicons import PairWords
from veco.objectives.alm import ALTERNATING, HOSTS, AlternatingLanguageModelling
from veco.views import CODE_MIXED


def code_mixed(pairs: Sequence[Pair]) -> list[MaskedSequence]:
    return [masked_mixture(pair) for pair in pairs]


def masked_mixture(pair: Pair) -> MaskedSequence:
    """A mixture of both sentences with masks. Without a translation to take it is one of them as it is, masked."""
    options = pair.resources.options(AlternatingLanguageModelling)
    rng = pair.rng(CODE_MIXED)
    host = int(rng.integers(2)) if options.host == ALTERNATING else HOSTS.index(options.host)
    return mask_tokens(mixture(pair.words, host, options.share, options.any_translation, rng), rng, pair.masking)


def mixture(words: PairWords, host: int, share: float, any_translation: bool, rng: np.random.Generator) -> np.ndarray:
    """Ids of x (`host` 0) or of y (1) in which the `share` of its words gives way to translations.

    So many words are replaced if so many have a translation by the lexicon: in the other sentence, as it stands there,
    or with `any_translation` anywhere. Which ones, and by which of several translations, is random. The mixture is no
    longer than both sentences together: a translation that would make it so is not taken.
    """
    own = words.words[host]
    candidates = replacements(words, host, any_translation)
    wanted = int(share * len(own.starts) + rng.random())
    room = len(words.ids[1 - host])
    taken: dict[int, np.ndarray] = {}
    for word in rng.permutation(sorted(candidates)).tolist():
        pieces = candidates[word][int(rng.integers(len(candidates[word])))]
        growth = len(pieces) - int(own.ends[word] - own.starts[word])
        if len(taken) < wanted and growth <= room:
            taken[word] = pieces
            room -= growth
    parts, end = [], 0
    for word, pieces in sorted(taken.items()):
        parts += [words.ids[host][end : own.starts[word]], pieces]
        end = int(own.ends[word])
    return np.concatenate([*parts, words.ids[host][end:]]).astype(np.int64)


def replacements(words: PairWords, host: int, any_translation: bool) -> dict[int, list[np.ndarray]]:
    """The pieces that may stand for each word of a sentence that some may stand for."""
    if any_translation:
        found = {word: words.translations(host, word) for word in range(len(words.words[host].starts))}
        return {word: pieces for word, pieces in found.items() if pieces}
    translated = words.translated if host == 0 else words.translated.T
    return {
        word: [words.pieces(1 - host, other) for other in np.flatnonzero(translated[word]).tolist()]
        for word in np.flatnonzero(translated.any(1)).tolist()
    }
