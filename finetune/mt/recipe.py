"""The recipe of fine-tuning for translation."""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.recipe import TrainingRecipe, option


@dataclass(frozen=True, kw_only=True)
class TranslationRecipe(TrainingRecipe):
    """Fine-tune a pre-trained VECO for translation. Values of the paper: VECO (ACL 2021), section 3."""

    init_from: str = option("", "directory of a pre-trained VECO (pretrain.export makes it); its tokenizer is used too")
    init: str = option(
        "pretrained", "pretrained, or random: init_from's shape and tokenizer with fresh weights, to compare"
    )
    decoder_layers: int | None = option(None, "layers of the decoder; null = as many as the encoder")
    decoder_layers_from: str = option("last", "which pre-trained layers become the decoder: last or first (table 4)")
    target_language: str = option("", "code such as de; its tag __de__ starts the decoder")
    train_source: str = option("", "training text, a sentence a line; plain or compressed")
    train_target: str = option("", "its translation, line by line")
    valid_source: str = option("", "validation text")
    valid_target: str = option("", "its translation")
    max_tokens: int = option(4096, "largest micro-batch on each rank, in tokens with padding (fairseq's meaning)")
    max_length: int = option(128, "longest sentence in tokens with special ones; longer ones are cut and counted")
    label_smoothing: float = option(0.1, "probability taken from the right token (fairseq's meaning); the paper: 0.2")
    dropout: float = option(0.1, "dropout behind every module and the embeddings; the paper: 0.3 en-de, 0.1 en-fr")
    attention_dropout: float = option(0.1, "dropout of attention weights")

    def problems(self) -> list[str]:
        found = super().problems()
        for name in ("init_from", "target_language", "train_source", "train_target", "valid_source", "valid_target"):
            if not self.__dict__[name]:
                found.append(f"{name} is not set")
        if self.init not in ("pretrained", "random"):
            found.append(f"init {self.init!r} must be 'pretrained' or 'random'")
        if self.decoder_layers_from not in ("last", "first"):
            found.append(f"decoder_layers_from {self.decoder_layers_from!r} must be 'last' or 'first'")
        for name in ("dropout", "attention_dropout", "label_smoothing"):
            if not 0 <= self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 0 and below 1")
        if self.max_length < 4 or self.max_tokens < self.max_length:
            found.append(
                f"max_tokens {self.max_tokens} must be at least max_length {self.max_length}, and that at least 4"
            )
        return found
