"""Small tokenizers of every kind that a tokenizer.json can hold, as transformers' own classes write them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from transformers import BertTokenizer, CamembertTokenizer, RobertaTokenizer

from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.json_training import (
    BERT_TOKENS,
    ENDS,
    ROBERTA_TOKENS,
    train_byte_level,
    train_word_piece,
    word_piece,
    write_json_tokenizer,
)
from data_tools.tokenizers.sentence_piece import TOKENIZER_JSON
from data_tools.tokenizers.unigram_training import train_model

# Text of several scripts, punctuation, digits, accents, words of half a sentence, and white space.
LINES = (
    "Der große Hund schläft, wenn die Katze nicht da ist!",
    "The big dog sleeps; it's 12,5 % naïve (or 3-4 times) …",
    "Ein Café in Zürich — «très élégant», ＮＦＫＣ ２０",
    "Большая собака спит в доме, а кошка нет.",
    "大きな犬が家で寝ています。今日は天気がいい",
    "  dog  dog\tcat\u00a0house  ",
    "die Häuser der Hunde und Katzen im großen Garten, der kleine hund und die katze, the big dog sleeps",
)
ODD_LINES = ("🙂 dog", "", " ", "\u200b", "dog\u0300 e\u0301 ñ", "naïve\x00dog", "ǅ ﬁn ½", "x" * 150)
SPECIAL_LINES = (
    "dog [MASK] cat [SEP][CLS][PAD]",
    "<s> dog </s><pad> <mask>",
    "[UNK] <unk>",
    "<s>",
    "[MASK]",
    "a<mask>b",
)


def train_wordpiece(directory: Path) -> None:
    characters = Counter("".join(map(word_piece(False).normalizer.normalize_str, LINES)))
    write_json_tokenizer(train_word_piece(LINES * 3, characters, 240, 0.99, False), BERT_TOKENS, directory)


def train_bpe(directory: Path) -> None:
    write_json_tokenizer(train_byte_level(LINES * 3, 330), ROBERTA_TOKENS | ENDS, directory)


def bert(directory: Path) -> None:
    """BERT's own layout, uncased: [PAD] 0, unused ids, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103."""
    characters = Counter("".join(map(word_piece(True).normalizer.normalize_str, LINES)))
    trained = train_word_piece(LINES * 3, characters, 220, 0.99, True).get_vocab()
    pieces = [piece for piece in sorted(trained, key=trained.__getitem__) if piece not in BERT_TOKENS.values()]
    unused = [f"[unused{number}]" for number in range(1, 100)]
    order = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    BertTokenizer({piece: id_ for id_, piece in enumerate(order)}, do_lower_case=True).save_pretrained(directory)


def roberta(directory: Path) -> None:
    """RoBERTa's, whose first word has no mark."""
    trained = json.loads(train_byte_level(LINES * 3, 330).to_str())["model"]
    vocab = trained["vocab"] | {"<mask>": len(trained["vocab"])}
    RobertaTokenizer(vocab, [tuple(merge) for merge in trained["merges"]]).save_pretrained(directory)


def xlm_r(directory: Path) -> None:
    """XLM-R's without its SentencePiece model."""
    write_tokenizer(train_model(iter(LINES * 3), 105, 0.99), directory, [])
    (directory / "sentencepiece.bpe.model").unlink()


def camembert(directory: Path) -> None:
    """CamemBERT's, with a SentencePiece model beside it whose ids are others."""
    write_tokenizer(train_model(iter(LINES * 3), 105, 0.99), directory, [])
    pieces = json.loads((directory / TOKENIZER_JSON).read_text(encoding="utf-8"))["model"]["vocab"][4:-1]
    first = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"]
    vocab = [*((piece, 0.0) for piece in first), *map(tuple, pieces)]
    (directory / "tokenizer_config.json").unlink()
    CamembertTokenizer(vocab=vocab).save_pretrained(directory)


TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "wordpiece": train_wordpiece,
    "bpe": train_bpe,
    "bert": bert,
    "roberta": roberta,
    "xlm_r": xlm_r,
    "camembert": camembert,
}
