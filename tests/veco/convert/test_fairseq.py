"""Checkpoints in fairseq's form, from oracles that know nothing of VECO: transformers' XLM-R, and torch's own
post-LayerNorm encoder and decoder layers."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import XLMRobertaForMaskedLM
from xlm_roberta import random_xlm_roberta

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM
from veco.convert import from_fairseq

TOLERANCE = 1e-5  # float32
V, D, FFN, HEADS, LAYERS, POSITIONS, PAD = 60, 32, 48, 4, 3, 66, 1

# fairseq's names of an XLM-R, written out: (transformers' name, fairseq's).
XLM_R_OUTER = (
    ("roberta.embeddings.word_embeddings.weight", "sentence_encoder.embed_tokens.weight"),
    ("roberta.embeddings.position_embeddings.weight", "sentence_encoder.embed_positions.weight"),
    ("roberta.embeddings.LayerNorm.weight", "sentence_encoder.emb_layer_norm.weight"),
    ("roberta.embeddings.LayerNorm.bias", "sentence_encoder.emb_layer_norm.bias"),
    ("lm_head.dense.weight", "lm_head.dense.weight"),
    ("lm_head.dense.bias", "lm_head.dense.bias"),
    ("lm_head.layer_norm.weight", "lm_head.layer_norm.weight"),
    ("lm_head.layer_norm.bias", "lm_head.layer_norm.bias"),
    ("lm_head.bias", "lm_head.bias"),
    ("roberta.embeddings.word_embeddings.weight", "lm_head.weight"),
)
XLM_R_LAYER = (
    ("attention.self.query", "self_attn.q_proj"),
    ("attention.self.key", "self_attn.k_proj"),
    ("attention.self.value", "self_attn.v_proj"),
    ("attention.output.dense", "self_attn.out_proj"),
    ("attention.output.LayerNorm", "self_attn_layer_norm"),
    ("intermediate.dense", "fc1"),
    ("output.dense", "fc2"),
    ("output.LayerNorm", "final_layer_norm"),
)
XLM_R_ARGS = Namespace(encoder_attention_heads=HEADS, activation_fn="gelu", dropout=0.1, attention_dropout=0.2)


@pytest.fixture
def xlm_roberta(config: VecoConfig) -> XLMRobertaForMaskedLM:
    torch.manual_seed(0)
    model = random_xlm_roberta(XLMRobertaForMaskedLM, config)
    with torch.no_grad():
        model.roberta.embeddings.token_type_embeddings.weight.zero_()  # fairseq has none
    return model.eval()


def xlm_r_weights(model: XLMRobertaForMaskedLM, prefix: str = "decoder") -> dict[str, Tensor]:
    """fairseq's weights of that XLM-R, as in the published files."""
    theirs = model.state_dict()
    names = list(XLM_R_OUTER)
    for i in range(LAYERS):
        for hugging_face, fairseq in XLM_R_LAYER:
            for kind in ("weight", "bias"):
                name = f"sentence_encoder.layers.{i}.{fairseq}.{kind}"
                names.append((f"roberta.encoder.layer.{i}.{hugging_face}.{kind}", name))
    return {f"{prefix}.{fairseq}": theirs[hugging_face] for hugging_face, fairseq in names}


def with_joined_projections(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the three projections of attention as one, as before fairseq 0.9."""
    joined = {}
    for name, weight in weights.items():
        if ".q_proj." in name:
            three = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            joined[name.replace(".q_proj.", ".in_proj_")] = torch.cat(three)
        elif ".k_proj." not in name and ".v_proj." not in name:
            joined[name] = weight
    return joined


def save(path: Path, weights: dict[str, Tensor], args: Namespace, zipped: bool = True) -> Path:
    """`path`, a checkpoint as fairseq's trainer writes it."""
    state = {"args": args, "model": weights, "optimizer_history": [{"num_updates": 3}], "extra_state": {"epoch": 1}}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("form", ["published", "newest", "oldest"])
def test_xlm_r_computes_the_same(xlm_roberta, padded_batch, tmp_path: Path, form: str) -> None:
    weights = xlm_r_weights(xlm_roberta)
    if form == "newest":
        renamed = xlm_r_weights(xlm_roberta, prefix="encoder")
        weights = {name.replace("emb_layer_norm", "layernorm_embedding"): value for name, value in renamed.items()}
        weights["encoder.sentence_encoder.version"] = torch.tensor([3.0])
    if form == "oldest":
        weights = with_joined_projections(weights)
    veco = from_fairseq(save(tmp_path / "model.pt", weights, XLM_R_ARGS, zipped=form == "newest")).eval()
    assert isinstance(veco, VecoForMaskedLM)
    assert (veco.config.hidden_dropout_prob, veco.config.attention_probs_dropout_prob) == (0.1, 0.2)
    ids, mask = padded_batch
    ours = veco(ids, mask, output_hidden_states=True)
    theirs = xlm_roberta(ids, attention_mask=mask, output_hidden_states=True)
    for our_states, their_states in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(our_states[mask.bool()], their_states[mask.bool()], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(ours.logits[mask.bool()], theirs.logits[mask.bool()], rtol=0, atol=TOLERANCE)


def test_half_precision_becomes_float32(xlm_roberta, tmp_path: Path) -> None:
    weights = {name: weight.half() for name, weight in xlm_r_weights(xlm_roberta).items()}
    veco = from_fairseq(save(tmp_path / "model.pt", weights, XLM_R_ARGS))
    expected = weights["decoder.sentence_encoder.layers.2.fc1.weight"].float()
    assert torch.equal(veco.veco.layers[2].feed_forward.up_proj.weight, expected)


class Reference(nn.Module):
    """fairseq's translation model: post-LayerNorm, learned positions, embeddings of tokens scaled, output tied."""

    def __init__(self, num_decoder_layers: int, scaled: bool) -> None:
        super().__init__()
        self.scale = math.sqrt(D) if scaled else 1.0
        self.tokens = nn.Embedding(V, D, padding_idx=PAD)
        self.positions = nn.ModuleDict({part: nn.Embedding(POSITIONS, D) for part in ("encoder", "decoder")})
        self.norms = nn.ModuleDict({part: nn.LayerNorm(D) for part in ("encoder", "decoder")})
        shape = {"d_model": D, "nhead": HEADS, "dim_feedforward": FFN, "activation": "gelu", "batch_first": True}
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(**shape) for _ in range(LAYERS))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(**shape) for _ in range(num_decoder_layers))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(0.15 * torch.randn_like(parameter) + ("norm" in name and name.endswith("weight")))

    def embed(self, part: str, ids: Tensor) -> Tensor:
        positions = ids.ne(PAD).cumsum(1) * ids.ne(PAD) + PAD
        return self.norms[part](self.scale * self.tokens(ids) + self.positions[part](positions))

    def encode(self, ids: Tensor) -> Tensor:
        states = self.embed("encoder", ids)
        for layer in self.encoder:
            states = layer(states, src_key_padding_mask=ids.eq(PAD))
        return states

    def decode(self, ids: Tensor, source: Tensor, source_ids: Tensor, is_causal: bool) -> Tensor:
        states = self.embed("decoder", ids)
        future = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        for layer in self.decoder:
            states = layer(
                states,
                source,
                tgt_mask=future if is_causal else None,
                tgt_key_padding_mask=None if is_causal else ids.eq(PAD),
                memory_key_padding_mask=source_ids.eq(PAD),
            )
        return states @ self.tokens.weight.T

    def share(self) -> None:
        """Nothing; encoder and decoder get one set of weights, as in pre-training."""
        for own, other in ((self.positions, "encoder"), (self.norms, "encoder")):
            own["decoder"].load_state_dict(own[other].state_dict())
        for encoder_layer, decoder_layer in zip(self.encoder, self.decoder, strict=True):
            shared = {name.replace("norm2", "norm3"): weight for name, weight in encoder_layer.state_dict().items()}
            decoder_layer.load_state_dict(shared, strict=False)

    def fairseq_weights(self) -> dict[str, Tensor]:
        """Its weights under fairseq's names."""
        weights: dict[str, Tensor] = {"decoder.output_projection.weight": self.tokens.weight}
        for part, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            weights[f"{part}.version"] = torch.tensor([3.0])
            weights[f"{part}.embed_tokens.weight"] = self.tokens.weight
            weights[f"{part}.embed_positions.weight"] = self.positions[part].weight
            weights[f"{part}.layernorm_embedding.weight"] = self.norms[part].weight
            weights[f"{part}.layernorm_embedding.bias"] = self.norms[part].bias
            last_norm = "norm2" if part == "encoder" else "norm3"
            modules = [("norm1", "self_attn_layer_norm"), ("linear1", "fc1"), ("linear2", "fc2")]
            modules += [(last_norm, "final_layer_norm")]
            attentions = [("self_attn", "self_attn")]
            if part == "decoder":
                modules.append(("norm2", "encoder_attn_layer_norm"))
                attentions.append(("multihead_attn", "encoder_attn"))
            for i, layer in enumerate(layers):
                theirs = dict(layer.named_parameters())
                for torchs, fairseqs in attentions:
                    for kind in ("weight", "bias"):
                        for letter, matrix in zip("qkv", theirs[f"{torchs}.in_proj_{kind}"].chunk(3), strict=True):
                            weights[f"{part}.layers.{i}.{fairseqs}.{letter}_proj.{kind}"] = matrix
                    modules.append((f"{torchs}.out_proj", f"{fairseqs}.out_proj"))
                for torchs, fairseqs in modules:
                    for kind in ("weight", "bias"):
                        weights[f"{part}.layers.{i}.{fairseqs}.{kind}"] = theirs[f"{torchs}.{kind}"]
        return {name: weight.detach().clone() for name, weight in weights.items()}


def veco_args(**changes: Any) -> Namespace:
    """Settings of a fine-tuning run as published."""
    settings = {
        "task": "translation_from_pretrained_veco",
        "target_lang": "de",
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "activation_fn": "gelu",
        "no_scale_embedding": False,
        "dropout": 0.3,
        "attention_dropout": 0.1,
    }
    return Namespace(**{**settings, **changes})


@pytest.fixture
def reference() -> Reference:
    """Pre-trained: encoder and decoder share their weights."""
    torch.manual_seed(2)
    model = Reference(LAYERS, scaled=True).eval()
    model.share()
    return model


@pytest.mark.parametrize("scaled", [True, False])
def test_pretrained_veco_is_one_model(reference, padded_batch, pair_batch, tmp_path: Path, scaled: bool) -> None:
    reference.scale = math.sqrt(D) if scaled else 1.0
    args = veco_args(no_scale_embedding=not scaled)
    veco = from_fairseq(save(tmp_path / "model.pt", reference.fairseq_weights(), args)).eval()
    assert isinstance(veco, VecoForMaskedLM)
    (x, x_mask), (y, y_mask) = padded_batch, pair_batch
    h = veco.veco(y, y_mask).last_hidden_state
    source = reference.encode(y)
    torch.testing.assert_close(h[y_mask.bool()], source[y_mask.bool()], rtol=0, atol=TOLERANCE)
    plugged_in = veco(x, x_mask, encoder_hidden_states=h, encoder_attention_mask=y_mask).logits
    expected = reference.decode(x, source, y, is_causal=False)
    torch.testing.assert_close(plugged_in[x_mask.bool()], expected[x_mask.bool()], rtol=0, atol=TOLERANCE)
    assert (plugged_in - veco(x, x_mask).logits).abs().max() > 0.1, "theta_c was not taken"

    # The translation model made of it is fairseq's before fine-tuning.
    translation = VecoForConditionalGeneration.from_veco(veco).eval()
    ours = translation(y, y_mask, decoder_input_ids=x).logits
    expected = reference.decode(x, source, y, is_causal=True)
    torch.testing.assert_close(ours[x_mask.bool()], expected[x_mask.bool()], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("num_decoder_layers", [2, 3])
@pytest.mark.parametrize("own_positions", [True, False])
def test_finetuned_veco_is_a_translation_model(
    padded_batch, pair_batch, tmp_path: Path, num_decoder_layers: int, own_positions: bool
) -> None:
    torch.manual_seed(3)
    reference = Reference(num_decoder_layers, scaled=True).eval()
    if not own_positions:
        reference.positions["decoder"] = reference.positions["encoder"]
        reference.norms["decoder"] = reference.norms["encoder"]
    veco = from_fairseq(save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())).eval()
    assert isinstance(veco, VecoForConditionalGeneration)
    assert veco.config.separate_decoder_embeddings == own_positions
    (x, x_mask), (y, y_mask) = padded_batch, pair_batch
    ours = veco(y, y_mask, decoder_input_ids=x).logits
    expected = reference.decode(x, reference.encode(y), y, is_causal=True)
    torch.testing.assert_close(ours[x_mask.bool()], expected[x_mask.bool()], rtol=0, atol=TOLERANCE)

    veco.save_pretrained(tmp_path / "veco")
    again = VecoForConditionalGeneration.from_pretrained(tmp_path / "veco").eval()
    torch.testing.assert_close(again(y, y_mask, decoder_input_ids=x).logits, ours, rtol=0, atol=0)
    if own_positions:
        assert again.decoder.embeddings.word_embeddings.weight is again.veco.embeddings.word_embeddings.weight


def write_dictionary(path: Path, num_pieces: int, *others: str) -> Path:
    """`path`, a dict.txt of so many pieces and then the others."""
    pieces = [*(f"▁piece{i}" for i in range(num_pieces)), *others]
    path.write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    return path


def test_missing_mask_gets_the_mean_row(padded_batch, pair_batch, tmp_path: Path) -> None:
    torch.manual_seed(4)
    reference = Reference(2, scaled=True).eval()
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())
    veco = from_fairseq(path, write_dictionary(tmp_path / "dict.txt", V - 4)).eval()
    assert veco.config.vocab_size == V + 1
    (x, x_mask), (y, y_mask) = padded_batch, pair_batch
    logits = veco(y, y_mask, decoder_input_ids=x).logits
    expected = reference.decode(x, reference.encode(y), y, is_causal=True)
    torch.testing.assert_close(logits[..., :V][x_mask.bool()], expected[x_mask.bool()], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(logits[..., V], logits[..., :V].mean(-1), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("others", [[], ["<mask>"]])
def test_mask_that_is_there_adds_no_row(reference, tmp_path: Path, others: list[str]) -> None:
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())
    dictionary = write_dictionary(tmp_path / "dict.txt", V - 5, *others)
    assert from_fairseq(path, dictionary).config.vocab_size == V


@pytest.mark.parametrize(
    ("task", "others", "start"),
    [
        ("translation", [], 2),
        ("translation_from_pretrained_veco", [], 3),  # no [de] in the dictionary: fairseq takes <unk>
        ("translation_from_pretrained_veco", ["[en]", "[de]"], V - 1),
        ("translation_from_pretrained_veco", None, None),
        (None, [], None),
    ],
)
def test_start_of_the_decoder(tmp_path: Path, task: str | None, others: list[str] | None, start: int | None) -> None:
    torch.manual_seed(5)
    path = save(tmp_path / "model.pt", Reference(1, scaled=True).fairseq_weights(), veco_args(task=task))
    dictionary = None
    if others is not None:
        dictionary = write_dictionary(tmp_path / "dict.txt", V - 4 - len(others), *others)
    veco = from_fairseq(path, dictionary)
    assert veco.config.decoder_start_token_id == veco.generation_config.decoder_start_token_id == start


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1"] * 3, "60 rows of embeddings, but the dictionary has 3 lines: expected 7, or 8 with <mask>"),
        (["<mask> 1", "a 1"], "<mask> at line 1, expected it last or not at all"),
        (["a 1", "b"], "dict.txt: line 2: expected a piece, a space and its count, found 'b'"),
    ],
)
def test_dictionary_that_does_not_fit(reference, tmp_path: Path, lines: list[str], message: str) -> None:
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())
    (tmp_path / "dict.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        from_fairseq(path, tmp_path / "dict.txt")


def test_settings_replace_and_complete_the_files(reference, padded_batch, tmp_path: Path) -> None:
    """A bare state dict tells no number of heads."""
    torch.save(reference.fairseq_weights(), tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="does not tell encoder_attention_heads, activation_fn, no_scale_embedding"):
        from_fairseq(tmp_path / "bare.pt")
    settings = {"encoder_attention_heads": HEADS, "activation_fn": "gelu", "no_scale_embedding": False}
    veco = from_fairseq(tmp_path / "bare.pt", settings=settings).eval()
    ids, mask = padded_batch
    expected = reference.encode(ids)[mask.bool()]
    torch.testing.assert_close(veco.veco(ids, mask)[0][mask.bool()], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.layers.1.fc1.weight": None}, "lacks encoder.layers.1.fc1.weight"),
        ({"decoder.layers.2.encoder_attn.k_proj.bias": None}, "lacks decoder.layers.2.encoder_attn.k_proj.bias"),
        ({"encoder.layernorm_embedding.weight": None}, "lacks encoder.layernorm_embedding.weight"),
        ({"encoder.extra": torch.ones(1)}, "has weights that VECO has no place for: encoder.extra"),
        ({"classification_heads.x": torch.ones(1)}, "no place for: classification_heads.x"),
        ({"encoder.layer_norm.weight": torch.ones(D)}, "encoder.layer_norm.weight belongs to a pre-LayerNorm model"),
        ({"decoder.embed_positions._float_tensor": torch.ones(1)}, "decoder has sinusoidal positions"),
        ({"decoder.output_projection.weight": torch.ones(V, D)}, "decoder.output_projection.weight differs from"),
        ({"decoder.embed_tokens.weight": torch.ones(V, D)}, "decoder.embed_tokens.weight differs from"),
        ({"encoder.layers.0.fc2.weight": torch.ones(D, FFN + 1)}, "size mismatch for veco.layers.0.feed_forward"),
    ],
)
def test_other_weights_are_refused(reference, tmp_path: Path, changes: dict[str, Tensor | None], message: str) -> None:
    weights = {
        name: weight for name, weight in {**reference.fairseq_weights(), **changes}.items() if weight is not None
    }
    with pytest.raises(ValueError, match=message):
        from_fairseq(save(tmp_path / "model.pt", weights, veco_args()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_fn": "swish"}, "activation_fn 'swish', expected one of gelu"),
        ({"decoder_attention_heads": 8}, "encoder and decoder have different numbers of attention heads"),
    ],
)
def test_other_settings_are_refused(reference, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_fairseq(save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args(**changes)))


def test_weight_under_two_names_is_refused(xlm_roberta, tmp_path: Path) -> None:
    weights = {**xlm_r_weights(xlm_roberta), **xlm_r_weights(xlm_roberta, prefix="encoder")}
    with pytest.raises(ValueError, match="expected each weight once"):
        from_fairseq(save(tmp_path / "model.pt", weights, XLM_R_ARGS))
