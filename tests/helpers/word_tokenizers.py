"""Tokenizers made of the pieces that a test names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

ROLES = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}


def write_words(names: Sequence[str], directory: Path, tags: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Write a byte-level tokenizer of whole words, with XLM-R's names of special pieces where `names` has them.

    `tags` are further special tokens, appended.
    """
    backend = Tokenizer(models.Unigram([(name, -1.0) for name in names], names.index("<unk>"), byte_fallback=False))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    special = {f"{role}_token": name for role, name in ROLES.items() if name in names}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    if tags:
        tokenizer.add_special_tokens({"additional_special_tokens": [*tags]})
    tokenizer.save_pretrained(directory)
    return tokenizer


def write_word_pieces(names: Sequence[str], directory: Path, tags: Sequence[str] = ()) -> BertTokenizer:
    """Write BERT's kind of tokenizer with these pieces, of which the first are [PAD], [UNK], [CLS], [SEP], [MASK].

    `tags` are further special tokens, appended.
    """
    tokenizer = BertTokenizer(vocab={name: i for i, name in enumerate(names)}, do_lower_case=False)
    if tags:
        tokenizer.add_special_tokens({"additional_special_tokens": [*tags]})
    tokenizer.save_pretrained(directory)
    return tokenizer
