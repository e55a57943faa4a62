"""Training WordPiece and byte-level BPE with `tokenizers`, and writing directories that transformers opens.

WordPiece is BERT's: `[PAD]` 0, `[UNK]` 1, `[CLS]` 2, `[SEP]` 3, `[MASK]` 4, words cut at white space and punctuation,
the pieces that go on with a word beginning with `##`. Byte-level BPE is RoBERTa's: `<s>` 0, `<pad>` 1, `</s>` 2,
`<unk>` 3, `<mask>` last, and no unknown text, since every byte has a piece; but the first word of a line is like any
other (`add_prefix_space`).
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from data_tools.tokenizers.sentence_piece import TOKENIZER_JSON
from data_tools.tokenizers.tokenizer_json import TokenizerJsonEncoder

BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
ENDS = {"cls": "<s>", "sep": "</s>"}  # RoBERTa's, which have two names each
CONTINUES = "##"


def word_piece(lowercase: bool) -> Tokenizer:
    """A WordPiece tokenizer without vocabulary; with `lowercase` it also takes accents away, as BERT's uncased ones."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=BERT_TOKENS["unk"], continuing_subword_prefix=CONTINUES))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    return tokenizer


def train_word_piece(
    lines: Sequence[str], characters: Counter[str], vocab_size: int, coverage: float, lowercase: bool
) -> Tokenizer:
    """A WordPiece tokenizer of `vocab_size` ids, trained on lines whose normalised text has these characters.

    The most frequent characters, which make up the share `coverage` of all, get pieces. Raises ValueError if the text
    does not support a vocabulary of that size.
    """
    alphabet = most_frequent(characters, coverage)
    named = list(BERT_TOKENS.values())

    def train(size: int, first: list[str]) -> Tokenizer:
        tokenizer = word_piece(lowercase)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size,
            special_tokens=first,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            continuing_subword_prefix=CONTINUES,
            show_progress=sys.stderr.isatty(),
        )
        tokenizer.train_from_iterator(lines, trainer, length=len(lines))
        return tokenizer

    # The trainer numbers single characters inside words in the random order of a hash map, and ties between merges are
    # decided by these numbers. So they come first, in the order of a training that makes no merge.
    inside = sorted(piece for piece in train(0, named).get_vocab() if piece.startswith(CONTINUES))
    tokenizer = train(vocab_size, [*named, *inside])
    check_size(tokenizer.get_vocab_size(), vocab_size, len(named) + len(inside) + len(alphabet))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, named.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"] in named]
    return Tokenizer.from_str(json.dumps(settings))


def train_byte_level(lines: Sequence[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of `vocab_size` ids. Raises ValueError if the text does not support so many."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    # The space before the first word is the tokenizer's own.
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    *first, mask = ROBERTA_TOKENS.values()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=first,
        initial_alphabet=alphabet,
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(lines, trainer, length=len(lines))
    tokenizer.add_special_tokens([AddedToken(mask, lstrip=True, special=True)])
    check_size(tokenizer.get_vocab_size(), vocab_size, len(ROBERTA_TOKENS) + len(alphabet))
    ids = tokenizer.get_vocab()
    cls, sep = ((token, ids[token]) for token in ENDS.values())
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=True)
    return tokenizer


def most_frequent(characters: Counter[str], coverage: float) -> list[str]:
    """The most frequent characters but white space that together are at least the share `coverage` of all of them."""
    counts = {character: count for character, count in characters.items() if not character.isspace()}
    wanted = coverage * sum(counts.values())
    kept: list[str] = []
    num_covered = 0
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if num_covered >= wanted:
            break
        kept.append(character)
        num_covered += count
    return kept


def check_size(found: int, vocab_size: int, smallest: int) -> None:
    """Raise ValueError if a training has made more ids than were wanted, or fewer."""
    if found > vocab_size:
        raise ValueError(
            f"--vocab-size {vocab_size:,} is too small for the characters of the text: use at least {smallest:,}"
        )
    if found < vocab_size:
        raise ValueError(
            f"--vocab-size {vocab_size:,} is more than the text supports: use at most {found:,}, or more text"
        )


def write_json_tokenizer(tokenizer: Tokenizer, names: dict[str, str], directory: Path) -> TokenizerJsonEncoder:
    """Write a tokenizer, with the names of its special tokens by role, to a directory that is there; its encoder."""
    tokenizer.save(str(directory / TOKENIZER_JSON))
    config: dict[str, Any] = {f"{role}_token": token for role, token in names.items()}
    # transformers' class for any tokenizer.json, which takes the file as it is.
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config["model_input_names"] = ["input_ids", "attention_mask"]  # no token types, which VECO does not have
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    return TokenizerJsonEncoder(directory)
