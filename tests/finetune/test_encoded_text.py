"""The tokenizer as fine-tuning uses it."""

from typing import ClassVar

from finetune.encoded_text import tokenizer_encoder


class WordTokenizer:
    """The part of transformers' tokenizer interface that is used; like it, it parses special strings."""

    vocabulary: ClassVar[dict[str, int]] = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5}
    all_special_tokens: ClassVar[list[str]] = ["<s>", "<pad>", "</s>", "<unk>"]
    all_special_ids: ClassVar[list[int]] = [0, 1, 2, 3]
    unk_token_id = 3

    def __call__(self, lines: list[str], add_special_tokens: bool, **_: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        return {"input_ids": [[self.vocabulary.get(word, 3) for word in line.split()] for line in lines]}


def test_text_never_yields_a_special_id_except_unknown() -> None:
    assert tokenizer_encoder(WordTokenizer())(["a b", "a </s> c <pad>"]) == [[4, 5], [4, 3, 3, 3]]
