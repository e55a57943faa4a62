"""VecoConfig: the shape of a VECO model, in XLM-R's field names."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig


class VecoConfig(PreTrainedConfig):
    """Shape of a VECO model (VECO, ACL 2021, section 2.1 and table 8), validated when built.

    Every field that XLM-R has keeps XLM-R's name. The vocabulary holds XLM-R's special tokens at XLM-R's ids
    (`<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, `<mask>` last). Position ids start at `pad_token_id + 1`, so
    `max_position_embeddings` is the longest sequence plus two.

    `decoder_layers` and `decoder_layers_from` only matter to `VecoForConditionalGeneration`: its decoder has
    `decoder_layers` layers (`None`: as many as the encoder), initialised from the "last" or "first" ones.
    """

    model_type = "veco"

    vocab_size: int = 250_002
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 514
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = None
    decoder_layers: int | None = None
    decoder_layers_from: str = "last"
    use_cache: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        problems = []
        if self.hidden_size % self.num_attention_heads:
            problems.append(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"):
            if (value := self.__dict__[name]) < 1:
                problems.append(f"{name} {value} must be at least 1")
        if self.decoder_layers is not None and not 1 <= self.decoder_layers <= self.num_hidden_layers:
            problems.append(
                f"decoder_layers {self.decoder_layers} must be between 1 and num_hidden_layers {self.num_hidden_layers}"
            )
        if self.decoder_layers_from not in ("last", "first"):
            problems.append(f"decoder_layers_from {self.decoder_layers_from!r} must be 'last' or 'first'")
        if problems:
            raise ValueError("VecoConfig: " + "; ".join(problems))

    @property
    def max_tokens(self) -> int:
        """Longest sequence in tokens, `<s>` and `</s>` included."""
        return self.max_position_embeddings - self.pad_position - 1

    @property
    def pad_position(self) -> int:
        """Position id of padding; real positions follow it (XLM-R's and fairseq's offset)."""
        return 1 if self.pad_token_id is None else self.pad_token_id

    @classmethod
    def large(cls, **overrides: Any) -> VecoConfig:
        """VECO-large (table 8): XLM-R large with a cross-attention in each of its 24 layers, 660.95M parameters."""
        shape = {
            "num_hidden_layers": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
        }
        return cls(**{**shape, **overrides})

    @classmethod
    def small(cls, **overrides: Any) -> VecoConfig:
        """VECO-small (table 8): six layers at XLM-R base's width, 249.95M parameters."""
        shape = {"num_hidden_layers": 6, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
        return cls(**{**shape, **overrides})
