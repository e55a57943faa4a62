"""Tokenizer directories in XLM-R's layout: open them, count ids with them, write them with other ids."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tqdm import tqdm
from transformers import AutoTokenizer

from veco.convert.weights import listed
from veco.rust_errors import rust_errors_as_oserrors

MODEL_FILE = "sentencepiece.bpe.model"
TOKENIZER_JSON, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
# Files with the pieces of a tokenizer, one of which is enough: XLM-R's, any fast tokenizer's, BERT's, RoBERTa's.
PIECES_FILES = (MODEL_FILE, TOKENIZER_JSON, "vocab.txt", "vocab.json")
# Records of how transformers loaded a tokenizer; they do not belong in its directory.
LOADING_RECORDS = ("is_local", "local_files_only")
NUM_SPECIAL = 4  # <s>, <pad>, </s>, <unk>
UNK_ID, SENTENCEPIECE_UNK_ID = 3, 0
ID_OFFSET = 1  # an id is SentencePiece's plus one because of <pad>
WORD_START = "▁"
LINES_PER_CALL = 50_000  # enough for SentencePiece's threads, few enough for memory


def open_tokenizer(directory: Path) -> Any:
    """transformers' tokenizer in a directory; ValueError or OSError if there is none."""
    return AutoTokenizer.from_pretrained(directory)


def has_tokenizer(path: Path) -> bool:
    """Whether `path` is a directory with a tokenizer."""
    return any((path / name).is_file() for name in PIECES_FILES)


def save_tokenizer(tokenizer: Any, source_dir: Path, directory: Path, *, max_tokens: int) -> None:
    """Write a tokenizer opened from `source_dir`, and its SentencePiece model if it has one, beside a model.

    `max_tokens` is the length of the model's longest sequence. Raises OSError.
    """
    with rust_errors_as_oserrors(directory):
        tokenizer.save_pretrained(directory)
    config = read_json(directory / TOKENIZER_CONFIG)
    write_json(directory / TOKENIZER_CONFIG, {name: config[name] for name in config if name not in LOADING_RECORDS})
    note_max_tokens(directory, max_tokens)
    if (source_dir / MODEL_FILE).is_file() and source_dir != directory:
        shutil.copyfile(source_dir / MODEL_FILE, directory / MODEL_FILE)


def note_max_tokens(directory: Path, max_tokens: int) -> None:
    """Make the tokenizer in a directory truncate text to `max_tokens`, if it has a configuration.

    It may come without a model, or from a model of another length.
    """
    path = directory / TOKENIZER_CONFIG
    if path.is_file():
        write_json(path, {**read_json(path), "model_max_length": max_tokens})


def without_token_types(directory: Path) -> None:
    """Make the tokenizer in a directory return no token types, as BERT's does: VECO has none."""
    path = directory / TOKENIZER_CONFIG
    if path.is_file() and not read_json(path).get("tokenizer_class", "").startswith("XLMRoberta"):
        write_json(path, {**read_json(path), "model_input_names": ["input_ids", "attention_mask"]})


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file that has an object."""
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write content as indented JSON."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


class Vocabulary:
    """The ids of a tokenizer directory: pieces of `proto`, a SentencePiece model, `<mask>`, and added tokens by id.

    Raises ValueError for a directory without a SentencePiece model, a layout other than XLM-R's, and a tokenizer.json
    that does not fit the model.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / MODEL_FILE
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected a tokenizer directory with a SentencePiece model")
        try:
            self.processor = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            reason = str(error).removeprefix("INTERNAL: ")
            raise ValueError(f"{path}: not a SentencePiece model ({reason}); fetch it again") from None
        self.proto = ModelProto.FromString(path.read_bytes())
        self.tokenizer = open_tokenizer(directory)
        self.mask_id = len(self.proto.pieces) + ID_OFFSET
        tokens = self.tokenizer.get_vocab()
        expected = ["<s>", "<pad>", "</s>", "<unk>", *self.pieces, "<mask>"]
        if [tokens.get(token) for token in expected] != list(range(self.mask_id + 1)):
            raise ValueError(
                f"{directory}: expected XLM-R's layout (<s>, <pad>, </s>, <unk>, the {len(self.pieces):,} pieces of "
                f"{MODEL_FILE}, <mask> {self.mask_id}), found another; convert it with data_tools.import_tokenizer"
            )
        self.added = {id_: token for token, id_ in tokens.items() if id_ > self.mask_id}

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def pieces(self) -> list[str]:
        """The ordinary pieces; the first has id NUM_SPECIAL."""
        return [piece.piece for piece in self.proto.pieces[NUM_SPECIAL - ID_OFFSET :]]

    def ids_to_keep(
        self, used_ids: Iterable[int], keep: Collection[str], tokens: Collection[str] | None, keep_characters: bool
    ) -> list[int]:
        """Ids of a reduced vocabulary, ascending; the arguments are those of `cut_vocabulary`."""
        ids = {int(i) for i in used_ids}
        if wrong := [i for i in ids if not 0 <= i < len(self)]:
            raise ValueError(f"{self.directory}: used ids contain {wrong[0]}, expected 0 to {len(self) - 1}")
        id_of = {piece: i for i, piece in enumerate(self.pieces, start=NUM_SPECIAL)}
        if unknown := set(keep) - id_of.keys():
            raise ValueError(f"{self.directory}: has no pieces {listed(unknown)} to keep")
        if tokens is not None and (unknown := set(tokens) - set(self.added.values())):
            raise ValueError(f"{self.directory}: has no added tokens {listed(unknown)} to keep")
        ids |= {*range(NUM_SPECIAL), *(id_of[piece] for piece in keep), self.mask_id}
        ids |= {i for piece, i in id_of.items() if keep_characters and len(piece) == 1}
        ids |= self.lowest_ids()
        kept_tokens = {i for i, token in self.added.items() if tokens is None or token in tokens}
        return sorted(ids - self.added.keys() | kept_tokens)

    def lowest_ids(self) -> set[int]:
        """Ids of the least probable piece, and of the least probable one that occurs in tokenised text.

        `<unk>` is less probable by a constant than the first in transformers, than the second in SentencePiece. Without
        these pieces `<unk>` would become more probable, and lines with unknown characters could be split differently.
        """
        scores = np.array([piece.score for piece in self.proto.pieces[NUM_SPECIAL - ID_OFFSET :]])
        is_normal = np.array([piece.type for piece in self.proto.pieces[NUM_SPECIAL - ID_OFFSET :]])
        normal = np.where(is_normal == ModelProto.SentencePiece.NORMAL, scores, np.inf)
        return {NUM_SPECIAL + int(scores.argmin()), NUM_SPECIAL + int(normal.argmin())}

    def write(
        self,
        directory: Path,
        kept_ids: Sequence[int],
        pieces: Mapping[str, float],
        tokens: Sequence[str],
        *,
        max_tokens: int,
    ) -> None:
        """Write a tokenizer of kept ids (ascending), new pieces with their scores, and new special tokens.

        `max_tokens` is the length of its model's longest sequence.
        """
        front, back = [i for i in kept_ids if i < self.mask_id], [i for i in kept_ids if i >= self.mask_id]
        new_ids = {old: new for new, old in enumerate(front)}
        new_ids |= {old: new for new, old in enumerate(back, start=len(front) + len(pieces))}
        save_tokenizer(self.tokenizer, self.directory, directory, max_tokens=max_tokens)

        settings = read_json(directory / TOKENIZER_JSON)
        table = settings["model"]["vocab"]
        added = [[piece, score] for piece, score in pieces.items()]
        settings["model"]["vocab"] = [*(table[i] for i in front), *added, table[self.mask_id]]
        settings["added_tokens"] = [
            {**token, "id": new_ids[token["id"]]} for token in settings["added_tokens"] if token["id"] in new_ids
        ]
        write_json(directory / TOKENIZER_JSON, settings)
        config = read_json(directory / TOKENIZER_CONFIG)
        dropped = {token for i, token in self.added.items() if i not in new_ids}
        if extra := config.pop("extra_special_tokens", None):
            config["extra_special_tokens"] = [token for token in extra if token not in dropped]
        write_json(directory / TOKENIZER_CONFIG, config)

        if pieces or len(front) < self.mask_id:  # else the file stays as it is, byte by byte
            proto = ModelProto.FromString(self.proto.SerializeToString())
            del proto.pieces[NUM_SPECIAL - ID_OFFSET :]
            proto.pieces.extend(self.proto.pieces[i - ID_OFFSET] for i in front[NUM_SPECIAL:])
            for piece, score in pieces.items():
                proto.pieces.add(piece=piece, score=score, type=ModelProto.SentencePiece.NORMAL)
            proto.trainer_spec.vocab_size = len(proto.pieces)
            (directory / MODEL_FILE).write_bytes(proto.SerializeToString(deterministic=True))

        if tokens:
            tokenizer = open_tokenizer(directory)
            tokenizer.add_special_tokens({"additional_special_tokens": [*tokens]}, replace_extra_special_tokens=False)
            save_tokenizer(tokenizer, directory, directory, max_tokens=max_tokens)


def parts_of(pieces: Iterable[str], proto: ModelProto) -> dict[str, list[int]]:
    """Ids into which each new piece is split now; ValueError for one that cannot occur in normalised text."""
    inside = ModelProto(pieces=proto.pieces, trainer_spec=proto.trainer_spec, normalizer_spec=proto.normalizer_spec)
    inside.normalizer_spec.add_dummy_prefix = False  # a piece need not start a word
    inside.normalizer_spec.remove_extra_whitespaces = False
    processor = SentencePieceProcessor(model_proto=inside.SerializeToString())
    parts = {}
    for piece in pieces:
        if not piece.removeprefix(WORD_START) or WORD_START in piece[1:] or any(letter.isspace() for letter in piece):
            raise ValueError(f"{piece!r} is not a piece: expected letters, after {WORD_START} if they start a word")
        text = piece.replace(WORD_START, " ")
        if (normalised := processor.normalize(text)) != piece:
            raise ValueError(f"{piece!r} never occurs in text: normalised it is {normalised!r}")
        parts[piece] = [UNK_ID if i == SENTENCEPIECE_UNK_ID else i + ID_OFFSET for i in processor.encode(text)]
    return parts


def lowest_score(proto: ModelProto) -> float:
    """Score of the least probable ordinary piece."""
    return min(float(piece.score) for piece in proto.pieces if piece.type == ModelProto.SentencePiece.NORMAL)


def count_ids(tokenizer_dir: Path, paths: Sequence[Path]) -> np.ndarray:
    """Counts of each id, int64 (vocabulary,), in text files, plain or .gz, tokenised line by line.

    Raises ValueError for a file that is not UTF-8 or is damaged, OSError for one that cannot be opened.
    """
    vocabulary = Vocabulary(tokenizer_dir)
    counts = np.zeros(len(vocabulary), np.int64)
    total = sum(path.stat().st_size for path in paths)
    with tqdm(desc="counting", total=total, unit="B", unit_scale=True, mininterval=1) as bar:
        for path in paths:
            with open(path, "rb") as raw:
                stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
                num_read = 0
                while lines := read_lines(stream, path):
                    arrays = vocabulary.processor.encode(lines, return_type="numpy", num_threads=os.cpu_count() or 1)
                    ids = np.concatenate(arrays).astype(np.int64)
                    ids[ids == SENTENCEPIECE_UNK_ID] = UNK_ID - ID_OFFSET
                    counts += np.bincount(ids + ID_OFFSET, minlength=len(counts))
                    bar.update(raw.tell() - num_read)
                    num_read = raw.tell()
    return counts


def read_lines(stream: IO[bytes], path: Path) -> list[str]:
    """The next LINES_PER_CALL lines of text, or fewer at the end; ValueError naming `path` if they cannot be read."""
    try:
        text = b"".join(islice(stream, LINES_PER_CALL)).decode("utf-8")
        return text.split("\n") if text else []
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason}); convert the file, for example with iconv") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged or cut short ({error}); fetch or compress it again") from None
