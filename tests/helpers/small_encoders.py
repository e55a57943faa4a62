"""Small random encoders of transformers, each as it would be published, with a tokenizer trained on a few words."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraForPreTraining,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)
from xtreme_files import GERMAN

# Scripts without spaces, right to left, accents that are characters of their own (NFD), a capital that becomes two.
ODD_TEXTS = (
    "กรุงเทพเป็นเมืองหลวง ของไทย",
    "北京是中国的首都",
    "القاهرة عاصمة مصر",
    "Tie\u0302\u0301ng Vie\u0323\u0302t ra\u0302\u0301t hay",
    "İSTANBUL büyük 😀👍🏽 x",
    "two  spaces and a\u00a0no-break",
)
WIDTH = 16
SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
POSITIONS = 66


def training_text() -> list[str]:
    draw = random.Random(0)
    vocabulary = [*GERMAN, *GERMAN.values()]
    return [" ".join(draw.choices(vocabulary, k=8)) for _ in range(200)] + list(ODD_TEXTS[:4]) * 2


def wordpiece(directory: Path, lowercase: bool) -> PreTrainedTokenizerBase:
    """BERT's: `[CLS] a [SEP] b [SEP]` with token types, and unknown words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(training_text(), trainers.WordPieceTrainer(vocab_size=180, special_tokens=special))
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    file = directory / "vocab.txt"
    file.write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")
    return BertTokenizer.from_pretrained(directory, do_lower_case=lowercase, model_max_length=POSITIONS)


def roberta_pieces(directory: Path) -> PreTrainedTokenizerBase:
    """RoBERTa's: bytes, pieces with their leading space, `<s> a </s></s> b </s>`."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = byte_level(special)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"cls_token": "<s>", "bos_token": "<s>", "sep_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, pad_token="<pad>", mask_token="<mask>")


def modernbert_pieces(directory: Path) -> PreTrainedTokenizerBase:
    """Bytes without an unknown token; offsets include leading spaces."""
    tokenizer = byte_level(["[CLS]", "[SEP]", "[MASK]", "[PAD]"])
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    special = [("[CLS]", 0), ("[SEP]", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=special)
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, model_max_length=POSITIONS)


def byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


def unigram(directory: Path) -> PreTrainedTokenizerBase:
    """DeBERTa's: Unigram over text in NFKC."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=special, unk_token="[UNK]")
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, mask_token="[MASK]")


def byte_fallback(directory: Path) -> PreTrainedTokenizerBase:
    """mmBERT's, which is Gemma's: spaces are pieces' own, characters without a piece become bytes."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    text = [line for line in training_text() if line.isascii()]
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=420, special_tokens=special + bytes_))
    template = processors.TemplateProcessing(
        single="<bos> $A <eos>", pair="<bos> $A <eos> $B <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    tokenizer.post_processor = template
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **names, cls_token="<bos>", sep_token="<eos>", mask_token="<mask>"
    )


def bert(**shape: Any) -> PreTrainedModel:
    return BertForPreTraining(BertConfig(**SHAPE, max_position_embeddings=POSITIONS, **shape))


def electra(**shape: Any) -> PreTrainedModel:
    return ElectraForPreTraining(ElectraConfig(**SHAPE, embedding_size=8, max_position_embeddings=POSITIONS, **shape))


def distilbert(**shape: Any) -> PreTrainedModel:
    return DistilBertModel(
        DistilBertConfig(dim=WIDTH, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=POSITIONS, **shape)
    )


def roberta(**shape: Any) -> PreTrainedModel:
    config = RobertaConfig(**SHAPE, type_vocab_size=1, max_position_embeddings=POSITIONS + 2, **shape)
    return RobertaForMaskedLM(config)


def deberta(**shape: Any) -> PreTrainedModel:
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    config = DebertaV2Config(**SHAPE, **relative, max_position_embeddings=POSITIONS, **shape)
    return DebertaV2ForMaskedLM(config)


def modernbert(**shape: Any) -> PreTrainedModel:
    config = ModernBertConfig(
        **SHAPE, max_position_embeddings=POSITIONS, local_attention=8, global_attn_every_n_layers=2, **shape
    )
    return ModernBertForMaskedLM(config)


# Name -> (the model, its tokenizer).
ENCODERS: Mapping[str, tuple[Callable[..., PreTrainedModel], Callable[[Path], PreTrainedTokenizerBase]]] = {
    "bert": (bert, lambda directory: wordpiece(directory, lowercase=True)),
    "electra": (electra, lambda directory: wordpiece(directory, lowercase=False)),
    "distilbert": (distilbert, lambda directory: wordpiece(directory, lowercase=True)),
    "roberta": (roberta, roberta_pieces),
    "deberta": (deberta, unigram),
    "modernbert": (modernbert, modernbert_pieces),
    "mmbert": (modernbert, byte_fallback),
}


def write_encoder(name: str, directory: Path) -> None:
    """Write a random model, whose biases and norms are random too, and its tokenizer."""
    model_of, tokenizer_of = ENCODERS[name]
    tokenizer = tokenizer_of(directory)
    special = {f"{one}_token_id": getattr(tokenizer, f"{one}_token_id") for one in ("pad", "bos", "eos", "cls", "sep")}
    torch.manual_seed(0)
    model = model_of(vocab_size=len(tokenizer), initializer_range=0.1, **special)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
