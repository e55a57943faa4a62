"""Encoding text with a `tokenizer.json` of any kind: WordPiece, byte-level or other BPE, Unigram, whole words.

The ids are those of transformers' fast tokenizer, except that **raw text never becomes a special id**: a line with
"[MASK]" becomes pieces like "[", "mask", "]". To this end special tokens get names here that no text has, among the
added tokens of the file and in the vocabulary of its model; ids stay what they are.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from data_tools.files.atomic import sha256_of
from data_tools.text.characters import refuse_surrogates
from data_tools.tokenizers.json_vocabulary import METASPACE, JsonVocabulary, num_characters
from data_tools.tokenizers.piece_table import PieceTable
from data_tools.tokenizers.sentence_piece import TOKENIZER_JSON
from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import records_of_lines

UNKNOWN = " ⁇ "
NO_CHARACTER = "\uffff"  # Unicode keeps it for uses like this: no text has it
PROBE = "a"
# What transformers calls the token of each role.
ROLES = {"mask": "mask_token", "pad": "pad_token", "bos": "cls_token", "eos": "sep_token"}


class TokenizerJsonEncoder:
    """Encodes lines with the tokenizer.json of a directory; see `data_tools.tokenizers.encoder.Encoder`.

    A process with `TOKENIZERS_PARALLELISM=false` in its environment uses one thread for it, others all cores. Raises
    ValueError if the directory has no such file, or its tokenizer lacks tokens for masks, padding, or the ends of
    sentences.
    """

    def __init__(self, tokenizer_dir: Path | str) -> None:
        self.tokenizer_dir = Path(tokenizer_dir)
        path = self.tokenizer_dir / TOKENIZER_JSON
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; expected a directory of data_tools.train_tokenizer, or with another fast "
                "tokenizer; of a slow one (vocab.txt and the like) transformers may make it: "
                f"AutoTokenizer.from_pretrained({str(self.tokenizer_dir)!r}).save_pretrained(NEW)"
            )
        self.tokenizer_sha256 = sha256_of(path)
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            self.vocabulary = JsonVocabulary.of(settings, self.tokenizer_dir)
            names = {id_: special_name(id_) for id_ in self.vocabulary.special}
            renamed = with_names(settings, {self.vocabulary.pieces[id_]: name for id_, name in names.items()})
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(renamed))
        except Exception as error:  # tokenizers raises nothing more specific
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}: not a {TOKENIZER_JSON} as expected ({type(error).__name__}: {reason})") from None
        self.vocab_size = self.vocabulary.size
        self.special = special_ids_of(self.vocabulary, self._tokenizer, self.tokenizer_dir)

    @property
    def spellings(self) -> list[str]:
        """The characters of each id, without what marks the beginning or end of a word; none for special ids."""
        return self.vocabulary.spellings

    @cached_property
    def table(self) -> PieceTable:
        """For each piece, whether it begins a word, and its number of characters."""
        starts_word = self.vocabulary.starts_word()
        characters = np.fromiter(map(num_characters, self.spellings), np.uint16, self.vocab_size)
        first, _ = self.encode_flat([PROBE])
        is_first_unmarked = bool(starts_word.any() and len(first) and not starts_word[first[0]])
        return PieceTable(starts_word, characters, is_first_unmarked)

    def __reduce__(self) -> tuple[type["TokenizerJsonEncoder"], tuple[Path]]:
        return TokenizerJsonEncoder, (self.tokenizer_dir,)

    def encode_flat(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths): the int32 ids of all lines end to end, and the int64 number of ids of each line.

        Raises ValueError for half of a surrogate pair.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            refuse_surrogates(lines)
            raise
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        flat = chain.from_iterable(encoding.ids for encoding in encodings)
        return np.fromiter(flat, np.int32, int(lengths.sum())), lengths

    def encode_words(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode_flat`, of words as they stand inside a sentence, after a space."""
        return self.encode_flat([f" {word}" for word in words] if self.table.is_first_unmarked else words)

    def unknown_records(self, lines: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """RECORD (m,) of the unknown ids, in order, that `encode_flat` gave these lines (see `unknown_pieces`)."""

        def normalized(rows: list[int]) -> tuple[list[str], np.ndarray]:
            normalizer = self._tokenizer.normalizer
            texts = [normalizer.normalize_str(lines[row]) if normalizer else lines[row] for row in rows]
            return texts, np.array([num_characters(text) - text.count(METASPACE) for text in texts])

        return records_of_lines(ids, lengths, self.special.are_unknown(ids), self.table.num_characters, normalized)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids (n,). Special ids and ids beyond the pieces are skipped; unknown text is ` ⁇ `."""
        text = self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)
        return text if self.special.unk is None else text.replace(special_name(self.special.unk), UNKNOWN)


def special_name(id_: int) -> str:
    """A name for a special id that no text has."""
    return f"{NO_CHARACTER}{id_}{NO_CHARACTER}"


def with_names(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The content of a tokenizer.json with other names for some tokens, and nothing that cuts, pads or is random.

    None of them is read from text, or made by merging pieces. That of unknown text is shown by decoding.
    """
    model = dict(settings["model"])
    unk = model.get("unk_token")
    vocab = model["vocab"]
    if isinstance(vocab, Mapping):
        model["vocab"] = {names.get(piece, piece): id_ for piece, id_ in vocab.items()}
    else:
        if model.get("unk_id") is not None:
            unk = vocab[model["unk_id"]][0]
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocab]
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [pair for pair in pairs if "".join(pair) not in names]
    if "dropout" in model:
        model["dropout"] = None
    added = [
        {**token, "content": names[token["content"]], "normalized": False, "special": token["content"] != unk}
        if token["content"] in names
        else token
        for token in settings["added_tokens"] or []
    ]
    return {**settings, "model": model, "added_tokens": added, "truncation": None, "padding": None}


def special_ids_of(vocabulary: JsonVocabulary, tokenizer: tokenizers.Tokenizer, directory: Path) -> SpecialIds:
    """The special ids of a tokenizer; ends and separators of sentences as it puts them itself, or else by their names.

    Raises ValueError if some are missing.
    """
    prefix, between, suffix = frame_of(tokenizer)
    named = vocabulary.named
    found = {
        "mask": named.get("mask"),
        "pad": named.get("pad"),
        "bos": prefix[0] if len(prefix) == 1 else named.get("cls", named.get("bos")),
        "eos": suffix[0] if len(suffix) == 1 else named.get("sep", named.get("eos")),
    }
    roles = {role: id_ for role, id_ in found.items() if id_ is not None}
    if missing := [role for role in found if role not in roles]:
        tokens = {ROLES[role]: f"[{ROLES[role].removesuffix('_token').upper()}]" for role in missing}
        raise ValueError(
            f"{directory}: its tokenizer has no {' and no '.join(tokens)}, which pre-training needs; choose another, "
            f"or add what is missing with transformers, tokenizer.add_special_tokens({tokens}), and save it"
        )
    others = (vocabulary.special | set(vocabulary.without_piece)) - {*roles.values(), vocabulary.unk}
    try:
        return SpecialIds(
            **roles, unk=vocabulary.unk, others=tuple(sorted(others)), num_separators=max(1, len(between))
        )
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None


def frame_of(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int], list[int]]:
    """The ids that a tokenizer puts before, between and after two sentences."""
    encoded = tokenizer.encode(PROBE, PROBE)
    texts = [place for place, source in enumerate(encoded.sequence_ids) if source is not None]
    if not texts:
        return [], [], []
    between = encoded.ids[texts[0] : texts[-1]]
    between = [id_ for place, id_ in enumerate(between, texts[0]) if place not in texts]
    return encoded.ids[: texts[0]], between, encoded.ids[texts[-1] + 1 :]
