"""Training a SentencePiece unigram model with XLM-R's special ids."""

import hashlib
import io
import re
from collections.abc import Iterator

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from data_tools.tokenizers.sentence_piece import (
    NUM_EXTRA_IDS,
    SENTENCEPIECE_BOS_ID,
    SENTENCEPIECE_EOS_ID,
    SENTENCEPIECE_UNK_ID,
)
from data_tools.tokenizers.training_sample import MAX_LINE_BYTES

# Fixed, because the rounding of sums over threads depends on it; more threads than cores do no harm.
NUM_THREADS = 16
# In nats: a piece becomes at most half a per cent less probable, and differences of this size survive the float32 sums
# over a line of thousands of pieces.
MAX_JITTER = 0.005
# SentencePiece's errors for text without any character that it could learn.
NO_CHARACTERS = re.compile(r"all_chars_count|!sentences_\.empty")
INTERNAL = re.compile(r"^(INTERNAL|Internal): \S+\(\d+\) ")  # the place in its source, in front of an error


class _Guarded(Iterator[str]):
    """Lines for SentencePiece, which would hide the errors of reading them: the stream ends, and the error is kept."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.is_empty = True
        self.error: Exception | None = None

    def __next__(self) -> str:
        try:
            line = next(self.lines)
        except (ValueError, OSError) as error:
            self.error = error
            raise StopIteration from None
        self.is_empty = False
        return line


def train_model(lines: Iterator[str], vocab_size: int, character_coverage: float) -> bytes:
    """A serialised SentencePiece model whose transformers tokenizer has `vocab_size` ids.

    Raises ValueError if the text is empty or does not support a vocabulary of that size, and the errors of `lines`.
    """
    guarded = _Guarded(lines)
    model = io.BytesIO()
    failure = ""
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=guarded,
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size - NUM_EXTRA_IDS,
            character_coverage=character_coverage,
            normalization_rule_name="nmt_nfkc",
            byte_fallback=False,
            unk_id=SENTENCEPIECE_UNK_ID,
            bos_id=SENTENCEPIECE_BOS_ID,
            eos_id=SENTENCEPIECE_EOS_ID,
            pad_id=-1,
            max_sentence_length=MAX_LINE_BYTES,
            num_threads=NUM_THREADS,
            minloglevel=2,  # it would log hundreds of lines to stderr; errors are exceptions
        )
    except RuntimeError as error:
        failure = str(error)
    if guarded.error is not None:
        raise guarded.error
    if guarded.is_empty:
        raise ValueError("no text to train on: all lines of the input are blank")
    if failure:
        raise ValueError(_explain(failure, vocab_size))
    return break_ties(model.getvalue())


def break_ties(model: bytes) -> bytes:
    """The model with each score lowered by up to MAX_JITTER, by an amount that depends only on the piece.

    The scores of equally frequent pieces agree to a few millionths, so that "м|е|не" and "м|ен|е" are almost equally
    probable. SentencePiece then takes the one favoured by its float32 sums, transformers the one favoured by its
    float64 sums. With a tokenizer of a small regular corpus, they cut 198 of 2,000 lines of other text differently
    without this, and none with it. Only runs of one character remain: 00|000 and 000|00 are the same pieces.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces:
        if piece.type == sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL:
            share = int.from_bytes(hashlib.sha256(piece.piece.encode()).digest()[:8], "big") / 2**64
            piece.score -= MAX_JITTER * share
    return bytes(proto.SerializeToString(deterministic=True))


def _explain(message: str, vocab_size: int) -> str:
    """SentencePiece's error about the vocabulary, in terms of `--vocab-size`; other errors as they are."""
    too_high = re.search(r"Vocabulary size too high .*value <= (\d+)", message)
    if too_high:
        largest = int(too_high.group(1)) + NUM_EXTRA_IDS
        return f"--vocab-size {vocab_size:,} is more than the text supports: use at most {largest:,}, or more text"
    too_low = re.search(r"smaller than required_chars\D*(\d+)\D+(\d+)", message)
    if too_low:
        smallest = max(map(int, too_low.groups())) + NUM_EXTRA_IDS
        return (
            f"--vocab-size {vocab_size:,} is too small for the characters of the text: use at least {smallest:,}, "
            "or lower --character-coverage"
        )
    if NO_CHARACTERS.search(message):
        return (
            "no text to train on: SentencePiece skips all lines of the input; either normalisation removes all their "
            "characters, such as control characters, or they contain U+2581 or U+2585, which it uses itself"
        )
    return f"SentencePiece cannot train on this text: {INTERNAL.sub('', message)}"
