"""Encoders of BERT's family that VECO is converted from and to: what transformers calls their weights and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from transformers import (
    BertForMaskedLM,
    BertModel,
    CamembertForMaskedLM,
    CamembertModel,
    DistilBertForMaskedLM,
    DistilBertModel,
    PreTrainedModel,
    RobertaForMaskedLM,
    RobertaModel,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)

# VECO's module -> theirs, in each layer.
BERT_LAYER = {
    "self_attention.q_proj": "attention.self.query",
    "self_attention.k_proj": "attention.self.key",
    "self_attention.v_proj": "attention.self.value",
    "self_attention.out_proj": "attention.output.dense",
    "self_attention_norm": "attention.output.LayerNorm",
    "feed_forward.up_proj": "intermediate.dense",
    "feed_forward.down_proj": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
DISTILBERT_LAYER = {
    "self_attention.q_proj": "attention.q_lin",
    "self_attention.k_proj": "attention.k_lin",
    "self_attention.v_proj": "attention.v_lin",
    "self_attention.out_proj": "attention.out_lin",
    "self_attention_norm": "sa_layer_norm",
    "feed_forward.up_proj": "ffn.lin1",
    "feed_forward.down_proj": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}
DISTILBERT_FIELDS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}


@dataclass(frozen=True)
class Head:
    """What a masked-LM head calls its modules and weights: dense, activation, LayerNorm, tied projection plus bias.

    `output_bias` has a second name in transformers' classes if `second_bias` is set; the two are tied. `activation` is
    the head's own; None stands for that of the layers.
    """

    dense: str
    norm: str
    output: str
    output_bias: str
    second_bias: str | None
    activation: str | None


BERT_HEAD = Head(
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    output="cls.predictions.decoder.weight",
    output_bias="cls.predictions.bias",
    second_bias="cls.predictions.decoder.bias",
    activation=None,
)
ROBERTA_HEAD = Head(
    dense="lm_head.dense",
    norm="lm_head.layer_norm",
    output="lm_head.decoder.weight",
    output_bias="lm_head.bias",
    second_bias="lm_head.decoder.bias",
    activation="gelu",
)
DISTILBERT_HEAD = Head(
    dense="vocab_transform",
    norm="vocab_layer_norm",
    output="vocab_projector.weight",
    output_bias="vocab_projector.bias",
    second_bias=None,
    activation=None,
)
POOLER = {"pooler": "pooler.dense"}


@dataclass(frozen=True)
class Family:
    """A kind of post-LayerNorm encoders in transformers, whose outputs VECO can compute plugged out.

    `model_type` is transformers' name. `layers` holds the layers, below `prefix`. `unused_modules`, by what they are,
    below `prefix` or beside it, are those that VECO has no use for: masked language modelling does not train them. A
    model is made with `num_token_types`, and adds the first to every token. If `positions_skip_padding`, the positions
    of tokens follow that of padding, whose number is its id (as in fairseq and VECO); otherwise they are places, from 0
    on. `renamed_fields` are fields of VecoConfig under other names; `layer_norm_eps` is set if it cannot be configured.
    """

    model_type: str
    masked_lm: type[PreTrainedModel]
    encoder: type[PreTrainedModel]
    layers: str
    layer_modules: Mapping[str, str]
    head: Head
    unused_modules: Mapping[str, str]
    num_token_types: int
    positions_skip_padding: bool
    renamed_fields: Mapping[str, str] = field(default_factory=dict)
    layer_norm_eps: float | None = None

    @property
    def prefix(self) -> str:
        """What the names of the encoder's weights begin with in a model with a head."""
        return f"{self.masked_lm.base_model_prefix}."

    @property
    def token_types(self) -> str:
        return f"{self.prefix}embeddings.token_type_embeddings.weight"

    @property
    def positions(self) -> str:
        return f"{self.prefix}embeddings.position_embeddings.weight"

    @property
    def tokens(self) -> str:
        return f"{self.prefix}embeddings.word_embeddings.weight"

    @property
    def second_names(self) -> dict[str, str]:
        """Second name of a weight -> first. transformers ties them; VECO cannot express models in which they differ."""
        names = {self.head.output: self.tokens}
        if self.head.second_bias is not None:
            names[self.head.second_bias] = self.head.output_bias
        return names

    def field_name(self, name: str) -> str:
        """The family's name of a field of VecoConfig."""
        return self.renamed_fields.get(name, name)

    def weight_names(self, num_layers: int) -> dict[str, str]:
        """VECO's parameter name -> the family's, for all but the token types, which VECO does not have."""
        return self.body_names(num_layers) | self.head_names()

    def body_names(self, num_layers: int) -> dict[str, str]:
        """`weight_names` of embeddings and layers."""
        modules = {"veco.embeddings.norm": f"{self.prefix}embeddings.LayerNorm"}
        for i in range(num_layers):
            for ours, theirs in self.layer_modules.items():
                modules[f"veco.layers.{i}.{ours}"] = f"{self.prefix}{self.layers}.{i}.{theirs}"
        names = dict(zip(of_modules(modules), of_modules(modules.values()), strict=True))
        names["veco.embeddings.word_embeddings.weight"] = self.tokens
        names["veco.embeddings.position_embeddings.weight"] = self.positions
        return names

    def head_names(self) -> dict[str, str]:
        """`weight_names` of the head."""
        modules = {"lm_head.dense": self.head.dense, "lm_head.norm": self.head.norm}
        names = dict(zip(of_modules(modules), of_modules(modules.values()), strict=True))
        return names | {"lm_head.decoder.bias": self.head.output_bias}

    def unused(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the names, with or without the prefix, that VECO has no use for -> what they are."""
        what = {name: what for what, module in self.unused_modules.items() for name in of_modules([module])}
        return {name: what[short] for name in names if (short := name.removeprefix(self.prefix)) in what}


def of_modules(modules: Iterable[str]) -> list[str]:
    """The names of the weights and biases of modules."""
    return [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]


def roberta_family(model_type: str, masked_lm: type[PreTrainedModel], encoder: type[PreTrainedModel]) -> Family:
    """RoBERTa, or what differs from it in nothing but the names of its classes."""
    return Family(
        model_type,
        masked_lm,
        encoder,
        layers="encoder.layer",
        layer_modules=BERT_LAYER,
        head=ROBERTA_HEAD,
        unused_modules=POOLER,
        num_token_types=1,
        positions_skip_padding=True,
    )


FAMILIES = {
    family.model_type: family
    for family in (
        roberta_family("xlm-roberta", XLMRobertaForMaskedLM, XLMRobertaModel),
        Family(
            "bert",
            BertForMaskedLM,
            BertModel,
            layers="encoder.layer",
            layer_modules=BERT_LAYER,
            head=BERT_HEAD,
            unused_modules=POOLER | {"next-sentence head": "cls.seq_relationship"},
            num_token_types=2,
            positions_skip_padding=False,
        ),
        roberta_family("roberta", RobertaForMaskedLM, RobertaModel),
        roberta_family("camembert", CamembertForMaskedLM, CamembertModel),
        Family(
            "distilbert",
            DistilBertForMaskedLM,
            DistilBertModel,
            layers="transformer.layer",
            layer_modules=DISTILBERT_LAYER,
            head=DISTILBERT_HEAD,
            unused_modules={},
            num_token_types=0,
            positions_skip_padding=False,
            renamed_fields=DISTILBERT_FIELDS,
            layer_norm_eps=1e-12,
        ),
    )
}

# Why other encoders cannot be converted, by transformers' names.
UNLIKE_VECO = {
    reason: model_types.split()
    for reason, model_types in {
        "is a pre-LayerNorm model, VECO is post-LayerNorm": "roberta-prelayernorm megatron-bert esm",
        "rotates queries and keys by their positions, VECO adds learned positions": (
            "roformer modernbert eurobert nomic_bert gte jina_embeddings_v3"
        ),
        "attends by relative positions, VECO adds learned positions": "deberta deberta-v2 mpnet funnel",
        "shares one layer's weights among all layers": "albert",
        "learns to tell replaced tokens, and its embeddings may be narrower than its layers": "electra",
        "has other embeddings at its output than at its input": "rembert",
        "has layers with bottlenecks": "mobilebert",
        "has convolutions in its layers": "convbert squeezebert",
        "does not attend from every token to every other": "big_bird longformer nystromformer yoso mra reformer fnet",
        "has adapters of languages in its layers": "xmod",
        "has embeddings of languages, and no transform in its head": "xlm flaubert",
        "embeds more than tokens and positions": "ernie layoutlm luke roc_bert tapas",
    }.items()
}


def family_of(model_type: str, expected: str | None = None) -> Family:
    """The family of a model type. Raises ValueError for one that is none, or not the expected one, and says why.

    XLM-R XL and XXL, a model type of their own in transformers, normalise before each module and at the end, but not
    the embeddings. No weights of a post-LayerNorm model, like VECO and XLM-R base and large, compute that.
    """
    if model_type == "xlm-roberta-xl":
        raise ValueError(
            "XLM-R XL and XXL are pre-LayerNorm models, VECO is post-LayerNorm: their weights cannot be converted; "
            "start from XLM-R base or large"
        )
    for reason, model_types in UNLIKE_VECO.items():
        if model_type in model_types:
            raise ValueError(
                f"{named(model_type)} {reason}: its weights cannot be converted; start from {', '.join(FAMILIES)}"
            )
    if expected is not None and model_type != expected:
        command = f"; convert it as {model_type}" if model_type in FAMILIES else ""
        raise ValueError(f"expected {named(expected)}, found {named(model_type)}{command}")
    if model_type not in FAMILIES:
        raise ValueError(f"expected one of {', '.join(FAMILIES)}, found {named(model_type)}")
    return FAMILIES[model_type]


def how_to_convert(model_type: str) -> str:
    """Advice, for the end of an error message, on a model that is no VECO: empty for kinds that cannot be converted."""
    return f"; python -m veco.convert {model_type} makes a veco of it" if model_type in FAMILIES else ""


def named(model_type: str) -> str:
    """The name of a model type, or of a class, with its article."""
    return f"{'an' if model_type[0] in 'aeioxX' else 'a'} {model_type}"
