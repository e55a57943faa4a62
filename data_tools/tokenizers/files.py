"""Files of tokenizers: reading SentencePiece models of others, and writing directories in XLM-R's layout."""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from data_tools.files.formats import check_signature
from data_tools.tokenizers.sentence_piece import MODEL_FILE, TOKENIZER_JSON, WORD_START, PieceEncoder, not_a_model

Piece = ModelProto.SentencePiece
# A step that the normalizer of a tokenizer.json may have besides its character table: SentencePiece does it anyway.
MERGE_SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": WORD_START}
# Nearly equal sums of float32 may differ, in one line of many thousands; with a wrong id layout all lines differ.
MAX_DIFFERENT = 0.1  # share of the lines


def find_model(path: Path) -> Path:
    """The model file at `path`: the file itself, or the SentencePiece model or else the tokenizer.json in a directory.

    Raises ValueError if there is none, or more than one.
    """
    if not path.is_dir():
        return path
    if (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    models = sorted(path.glob("*.model"))
    if len(models) > 1:
        raise ValueError(f"{path}: holds {', '.join(model.name for model in models)}; name one of them")
    if not models and not (path / TOKENIZER_JSON).is_file():
        raise ValueError(f"{path}: expected a SentencePiece model (*.model) or {TOKENIZER_JSON} in it")
    return models[0] if models else path / TOKENIZER_JSON


def read_model(path: Path) -> bytes:
    """Read a SentencePiece model, or make one from a tokenizer.json; raises ValueError for other files."""
    content = path.read_bytes()
    check_signature(str(path), content, "a SentencePiece model or a tokenizer.json")
    if path.suffix.lower() == ".json":
        content = model_of_tokenizer_json(content, path)
    try:
        sentencepiece.SentencePieceProcessor().LoadFromSerializedProto(content)
    except RuntimeError as error:
        raise not_a_model(path, error) from None
    return content


def model_of_tokenizer_json(content: bytes, where: Path) -> bytes:
    """A serialised SentencePiece model that tokenises text as a tokenizer.json does.

    It consists of pieces, scores and the normalisation table: transformers' XLM-R tokenizer uses nothing else of the
    file either. Raises ValueError if the file asks for more than that.
    """
    model = ModelProto()
    try:
        settings = json.loads(content)
        unigram = settings["model"]
        if unigram["type"] != "Unigram" or unigram.get("byte_fallback"):
            kind = "Unigram with byte fallback" if unigram["type"] == "Unigram" else unigram["type"]
            raise ValueError(
                f"{where}: a model of type {kind}; expected Unigram without byte fallback, XLM-R's; others need no "
                "import: a corpus takes their directory as its tokenizer"
            )
        kinds = {
            token["content"]: Piece.CONTROL if token["special"] else Piece.USER_DEFINED
            for token in settings["added_tokens"]
        }
        for i, (piece, score) in enumerate(unigram["vocab"]):
            kind = Piece.UNKNOWN if i == unigram["unk_id"] else kinds.get(piece, Piece.NORMAL)
            model.pieces.add(piece=piece, score=score, type=kind)
        cuts = _steps(settings["pre_tokenizer"], "pretokenizers")
        *before, last = cuts or [{"type": None}]
        has_prefix = last.get("prepend_scheme", "always") == "always" and last.get("add_prefix_space", True)
        if before not in ([], [{"type": "WhitespaceSplit"}]) or last["type"] != "Metaspace" or not has_prefix:
            raise ValueError(f"{where}: pre_tokenizer: expected XLM-R's Metaspace with a prefix, found {cuts}")
        for step in _steps(settings["normalizer"], "normalizers"):
            if step["type"] == "Precompiled":
                model.normalizer_spec.precompiled_charsmap = base64.b64decode(step["precompiled_charsmap"])
            elif step["type"] != "Strip" and step != MERGE_SPACES:
                raise ValueError(f"{where}: normalizer: expected XLM-R's Precompiled, found {step}")
    except (json.JSONDecodeError, UnicodeError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(f"{where}: not a tokenizer.json as expected ({type(error).__name__}: {error})") from None
    return bytes(model.SerializeToString(deterministic=True))


def _steps(value: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, which may be null, one step, or a sequence."""
    if value is None:
        return []
    return list(value[key]) if value["type"] == "Sequence" else [value]


def write_tokenizer(model: bytes, directory: Path, sample_lines: list[str]) -> PieceEncoder:
    """Write the model, and the files that AutoTokenizer reads, to a directory; returns its encoder.

    The directory exists and is empty. Raises ValueError for a model that transformers' XLM-R tokenizer cannot express:
    both must give the same special ids, and the same ids for `sample_lines`.
    """
    (directory / MODEL_FILE).write_bytes(model)
    encoder = PieceEncoder(directory)
    config = {"tokenizer_class": "XLMRobertaTokenizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    from transformers import AddedToken, AutoTokenizer, XLMRobertaTokenizer  # slow to import: only here

    # From the model alone transformers rebuilds the tokenizer at every load; a saved one is read back quickly.
    built = XLMRobertaTokenizer.from_pretrained(directory, mask_token=AddedToken("<mask>", lstrip=True, special=True))
    built.save_pretrained(directory)
    # save_pretrained also writes how this object was loaded, which does not belong in a tokenizer directory. The length
    # limit of sequences belongs to a model, and is written when the tokenizer is saved beside one (veco.tokenizer).
    kept = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "add_prefix_space": True,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")

    loaded = AutoTokenizer.from_pretrained(directory)
    special = [loaded.convert_tokens_to_ids(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    expected_special = [0, 1, 2, 3, encoder.vocab_size - 1]
    if len(loaded) != encoder.vocab_size or special != expected_special:
        raise ValueError(
            f"transformers makes {len(loaded):,} ids of this model, the special ones {special}; expected "
            f"{encoder.vocab_size:,} and {expected_special}"
        )
    # See data_tools.tokenizers.sentence_piece on special tokens in raw text.
    plain = [line for line in sample_lines if "<" not in line]
    expected = loaded(plain, add_special_tokens=False, verbose=False)["input_ids"] if plain else []
    found = [ids.tolist() for ids in encoder.encode_lines(plain)]
    different = sum(a != b for a, b in zip(expected, found, strict=True))
    if different > MAX_DIFFERENT * len(plain):
        raise ValueError(
            f"transformers tokenises {different} of {len(plain)} lines differently: its XLM-R tokenizer cannot express "
            "this model"
        )
    return encoder
