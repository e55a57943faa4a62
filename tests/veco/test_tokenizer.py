"""What is read off tokenizers of transformers."""

from __future__ import annotations

from pathlib import Path

from word_tokenizers import write_word_pieces, write_words

from data_tools.tokenizers.encoder import open_encoder
from veco.tokenizer import ends_of, open_tokenizer

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_ends_of_a_row_are_those_that_the_tokenizer_puts_there(tmp_path: Path) -> None:
    """Whatever else it calls the beginning or the end of a sentence; the shards have the same."""
    tokenizer = write_word_pieces([*BERT, "der"], tmp_path / "bert")
    tokenizer.add_special_tokens({"bos_token": "[BOS]", "eos_token": "[EOS]"})
    tokenizer.save_pretrained(tmp_path / "both")
    tokenizer, special = open_tokenizer(tmp_path / "both"), open_encoder(tmp_path / "both").special
    assert tokenizer.bos_token_id == 6 and tokenizer("der")["input_ids"] == [2, 5, 3]
    assert ends_of(tokenizer) == (special.bos, special.eos) == (2, 3)
    assert ends_of(write_words(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], tmp_path / "words")) == (0, 2)
    assert ends_of(write_words(["<pad>", "<unk>", "<mask>"], tmp_path / "none")) == (None, None)
