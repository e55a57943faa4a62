"""VecoConfig: the shape of a VECO model, in XLM-R's field names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from veco.adapter_config import AdapterConfig, check_name, check_stack

COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
SWITCHES = ("tie_self_attention", "plug_in", "scale_embedding", "lm_head_transform", "separate_decoder_embeddings")
FAIRSEQ_PAD = 1  # its id of padding, where a model names none
SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")  # of padding, and of the ends of a row
TOKEN_IDS = ("pad_token_id", "bos_token_id", "decoder_start_token_id")
ACTIVATIONS = ("hidden_act", "lm_head_act")
LANGUAGES = ("source_language", "target_language")
FRAMES = ("source_prefix_ids", "source_suffix_ids", "target_suffix_ids")


class VecoConfig(PreTrainedConfig):
    """Shape of a VECO model (VECO, ACL 2021, section 2.1 and table 8), validated when built.

    Every field that XLM-R has keeps XLM-R's name, and the ids of special tokens are by default XLM-R's (`<s>` 0,
    `<pad>` 1, `</s>` 2); `bos_token_id` and `eos_token_id` are those around a sentence, such as BERT's `[CLS]` and
    `[SEP]`. Position ids start at `pad_token_id + 1`, so `max_position_embeddings` is the longest sequence plus two, or
    plus one where padding is 0. They start at `padding_position + 1` where that is given: a vocabulary in which padding
    is far behind would leave as many rows unread. `lm_head_act` is the activation in the masked-LM head: BERT's is
    `hidden_act`.

    `decoder_layers` and `decoder_layers_from` matter only to `VecoForConditionalGeneration`: its decoder has
    `decoder_layers` layers (`None`: as many as the encoder), initialised from the "last" or "first" ones; with
    `tie_self_attention` it keeps sharing their self-attention (section 3.2).

    `plug_in` and `classifier_dropout` (`None`: `hidden_dropout_prob`) matter only to the models that classify: plugged
    in, they predict from a pair of sequences, and their heads are twice as wide (section 3.1).

    The published fairseq checkpoints of VECO differ from XLM-R in three ways (see `veco.convert.from_fairseq`):
    `scale_embedding` multiplies token embeddings by the root of `hidden_size`; without `lm_head_transform` the head is
    the output projection alone; with `separate_decoder_embeddings` the decoder of `VecoForConditionalGeneration` has
    positions and an embedding LayerNorm of its own.

    Translation models differ in the special tokens around sentences: `source_prefix_ids` and `source_suffix_ids`
    surround a source, `target_suffix_ids` follow a target, and the last of these ends a translation. `None` means ours,
    `<s> x </s>` and `y </s>`. fairseq has `x </s>` and `y </s>`, VECO in fairseq `x </s> [en]` and `y </s> [de]`.
    A model of one direction whose tokenizer has no language tags may name its `source_language` and `target_language`.

    `adapters` maps the names of a model's adapters to the fields of their `AdapterConfig`; those of `active_adapters`
    work, the first one lowest. `veco.adapters` sets both.
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
    padding_position: int | None = None
    decoder_start_token_id: int | None = None
    decoder_layers: int | None = None
    decoder_layers_from: str = "last"
    tie_self_attention: bool = False
    plug_in: bool = False
    classifier_dropout: float | None = None
    scale_embedding: bool = False
    lm_head_transform: bool = True
    lm_head_act: str = "gelu"
    separate_decoder_embeddings: bool = False
    source_prefix_ids: list[int] | None = None
    source_suffix_ids: list[int] | None = None
    target_suffix_ids: list[int] | None = None
    source_language: str | None = None
    target_language: str | None = None
    adapters: dict[str, dict[str, Any]] | None = None
    active_adapters: list[str] | None = None
    use_cache: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        num_labels = kwargs.get("num_labels")
        if num_labels is not None and not _is_whole(num_labels):  # transformers makes a range of it
            raise ValueError(f"VecoConfig: num_labels {num_labels!r} must be a whole number")
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise ValueError with all problems; models call it too, since fields can be set later."""
        # Fields are compared with each other only if each is valid by itself.
        problems = self._wrong_values() or self._contradictions() or self._problems_of_adapters()
        if problems:
            raise ValueError("VecoConfig: " + "; ".join(problems))

    def _wrong_values(self) -> list[str]:
        """Problems of single fields: types (configurations are written by hand) and ranges."""
        values = vars(self)
        counts = [*COUNTS, *(["decoder_layers"] if self.decoder_layers is not None else [])]
        probabilities = [*PROBABILITIES, *(["classifier_dropout"] if self.classifier_dropout is not None else [])]
        problems = [
            f"{name} {values[name]!r} must be a whole number and at least 1"
            for name in counts
            if not _is_whole(values[name]) or values[name] < 1
        ]
        problems += [
            f"{name} {values[name]!r} must be a number from 0 to below 1"
            for name in probabilities
            if not isinstance(values[name], int | float) or not 0 <= values[name] < 1
        ]
        problems += [
            f"{name} {values[name]!r} must be {kind}, a whole number from 0 on, or None"
            for name, kind in {**dict.fromkeys(TOKEN_IDS, "a token id"), "padding_position": "a position id"}.items()
            if values[name] is not None and (not _is_whole(values[name]) or values[name] < 0)
        ]
        problems += [
            f"{name} {values[name]!r} must be a list of token ids, or None"
            for name in FRAMES
            if values[name] is not None and not _are_ids(values[name])
        ]
        problems += [
            f"{name} {values[name]!r} must be a language code such as de, or None"
            for name in LANGUAGES
            if values[name] is not None and (not isinstance(values[name], str) or not values[name])
        ]
        if self.num_labels < 1:
            problems.append(f"num_labels {self.num_labels} must be at least 1")
        problems += [
            f"{name} {values[name]!r} is none of {', '.join(ACT2FN)}"
            for name in ACTIVATIONS
            if values[name] not in list(ACT2FN)
        ]
        if self.decoder_layers_from not in ("last", "first"):
            problems.append(f"decoder_layers_from {self.decoder_layers_from!r} must be 'last' or 'first'")
        problems += [
            f"{name} {values[name]!r} must be true or false" for name in SWITCHES if not isinstance(values[name], bool)
        ]
        return problems

    def _contradictions(self) -> list[str]:
        """Problems of fields that contradict each other."""
        problems = []
        if self.hidden_size % self.num_attention_heads:
            problems.append(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.decoder_layers is not None and self.decoder_layers > self.num_hidden_layers:
            problems.append(
                f"decoder_layers {self.decoder_layers} must be between 1 and num_hidden_layers {self.num_hidden_layers}"
            )
        if self.tie_self_attention and not self.tie_word_embeddings:
            # transformers ties either all the weights that a model names or none.
            problems.append("tie_self_attention needs tie_word_embeddings")
        if self.max_tokens < 1:
            problems.append(
                f"max_position_embeddings {self.max_position_embeddings} leaves no position above "
                f"that of padding, {self.pad_position}"
            )
        ids = {name: vars(self)[name] for name in TOKEN_IDS}
        problems += [
            f"{name} {id_} is not below vocab_size {self.vocab_size}"
            for name, id_ in ids.items()
            if id_ is not None and id_ >= self.vocab_size
        ]
        problems += [
            f"{name} {frame} must be below vocab_size {self.vocab_size}"
            for name, frame in self.frames.items()
            if any(i >= self.vocab_size for i in frame)
        ]
        if self.target_suffix_ids == []:
            problems.append("target_suffix_ids is empty: its last token ends a translation")
        return problems

    def _problems_of_adapters(self) -> list[str]:
        """Adapters that are not described as such, or do not fit the model."""
        adapters, active = self.adapters or {}, self.active_adapters or []
        if not isinstance(adapters, Mapping) or not isinstance(active, Sequence) or isinstance(active, str):
            return [f"adapters {adapters!r} must map names to values, active_adapters {active!r} be a list of names"]
        try:
            read = {name: AdapterConfig.of(values, f"adapters, {name}") for name, values in adapters.items()}
            for name, adapter in read.items():
                check_name(name)
                adapter.check_fits(self.hidden_size)
            check_stack(active, adapters)
        except ValueError as error:
            return [str(error)]
        if self.separate_decoder_embeddings and any(adapter.invertible for adapter in read.values()):
            return ["separate_decoder_embeddings: an invertible adapter is for one embedding of encoder and decoder"]
        return []

    @property
    def frames(self) -> dict[str, list[int]]:
        """The ids around sentences that are set, by field: those of FRAMES that are not None."""
        ids = {name: vars(self)[name] for name in FRAMES}
        return {name: frame for name, frame in ids.items() if frame is not None}

    @property
    def has_frame(self) -> bool:
        """Whether the model has its own tokens around sentences, as those converted from fairseq do."""
        return bool(self.frames)

    @property
    def max_tokens(self) -> int:
        """Length of the longest sequence in tokens, `<s>` and `</s>` included."""
        return self.max_position_embeddings - self.pad_position - 1

    @property
    def filler_id(self) -> int:
        """Token id behind the last token of a row: that of padding, or fairseq's where the model names none."""
        return FAIRSEQ_PAD if self.pad_token_id is None else self.pad_token_id

    @property
    def pad_position(self) -> int:
        """Position id of padding; the positions of tokens follow it (XLM-R's and fairseq's offset)."""
        return position_of_padding(self.pad_token_id) if self.padding_position is None else self.padding_position

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


def position_of_padding(pad_token_id: int | None) -> int:
    """Position id of padding with this token id."""
    return FAIRSEQ_PAD if pad_token_id is None else pad_token_id


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(_is_whole(i) and i >= 0 for i in value)
