"""Checkpoints in fairseq's format, made by oracles independent of VECO: transformers' XLM-R, and torch's layers."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq_checkpoints import (
    FFN,
    HEADS,
    LAYERS,
    D,
    Reference,
    V,
    save,
    veco_args,
    with_stale_copies,
    write_dictionary,
)
from torch import Tensor
from transformers import XLMRobertaForMaskedLM
from xlm_roberta import random_xlm_roberta

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM
from veco.convert import from_fairseq
from veco.convert.fairseq import convert

TOLERANCE = 1e-5  # float32

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
    """That XLM-R's weights under fairseq's names, as in the published files."""
    theirs = model.state_dict()
    names = list(XLM_R_OUTER)
    for i in range(LAYERS):
        for hugging_face, fairseq in XLM_R_LAYER:
            for kind in ("weight", "bias"):
                name = f"sentence_encoder.layers.{i}.{fairseq}.{kind}"
                names.append((f"roberta.encoder.layer.{i}.{hugging_face}.{kind}", name))
    return {f"{prefix}.{fairseq}": theirs[hugging_face] for hugging_face, fairseq in names}


def with_joined_projections(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with one matrix for the three projections of attention, as before fairseq 0.9."""
    joined = {}
    for name, weight in weights.items():
        if ".q_proj." in name:
            three = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            joined[name.replace(".q_proj.", ".in_proj_")] = torch.cat(three)
        elif ".k_proj." not in name and ".v_proj." not in name:
            joined[name] = weight
    return joined


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


def test_missing_mask_gets_a_row_without_probability(padded_batch, pair_batch, tmp_path: Path) -> None:
    """The other V pieces have the probabilities that fairseq computes without <mask>."""
    torch.manual_seed(4)
    reference = Reference(2, scaled=True).eval()
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())
    veco = from_fairseq(path, write_dictionary(tmp_path / "dict.txt", V - 4)).eval()
    assert veco.config.vocab_size == V + 1
    (x, x_mask), (y, y_mask) = padded_batch, pair_batch
    inputs = {"input_ids": y, "attention_mask": y_mask, "decoder_input_ids": x}
    ours = veco(**inputs).logits.log_softmax(-1)
    expected = reference.decode(x, reference.encode(y), y, is_causal=True).log_softmax(-1)
    torch.testing.assert_close(ours[..., :V][x_mask.bool()], expected[x_mask.bool()], rtol=0, atol=TOLERANCE)
    assert (ours[..., V].exp() == 0).all(), "a beam or a sampler could choose it"
    mean = veco.get_input_embeddings().weight[:V].mean(0)
    torch.testing.assert_close(veco.get_input_embeddings().weight[V], mean)

    labels = x.masked_fill(x_mask == 0, -100)
    loss = veco(**inputs, labels=labels, label_smoothing=0.2, use_cache=False).loss
    of_target = expected.gather(2, x.unsqueeze(2)).squeeze(2)
    smoothed = -0.8 * of_target - 0.2 / (V - 1) * (expected.sum(2) - of_target)
    torch.testing.assert_close(loss, smoothed[x_mask.bool()].sum(), rtol=1e-5, atol=1e-4)
    loss.backward()
    assert veco.lm_head.decoder.bias.grad[V] == 0 and veco.lm_head.decoder.bias.grad[:V].abs().min() > 0


@pytest.mark.parametrize("others", [[], ["<mask>"]])
def test_existing_mask_adds_no_row(reference, tmp_path: Path, others: list[str]) -> None:
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())
    dictionary = write_dictionary(tmp_path / "dict.txt", V - 5, *others)
    assert from_fairseq(path, dictionary).config.vocab_size == V


TAGGED = "translation_from_pretrained_veco"


@pytest.mark.parametrize(
    ("task", "others", "form"),
    [
        ("translation", [], (2, [], [2], [2])),
        ("translation", None, (2, [], [2], [2])),
        (TAGGED, ["[en]", "[de]"], (V - 1, [], [2, V - 2], [2, V - 1])),
        ("translation_from_pretrained_bart", ["[de]", "[en]"], (V - 2, [], [2, V - 1], [2, V - 2])),
        (TAGGED, [], (3, [], [2, 3], [2, 3])),  # fairseq uses <unk> for tags that are not in the dictionary
        (TAGGED, ["[en]"], (3, [], [2, V - 1], [2, 3])),
        (TAGGED, None, (None, None, None, None)),
        ("translation_from_pretrained_xlm", [], (None, None, None, None)),  # no tags there, but other special ids
        (None, [], (None, None, None, None)),
    ],
)
def test_form_of_sentences(
    tmp_path: Path, task: str | None, others: list[str] | None, form: tuple[int | list[int] | None, ...]
) -> None:
    torch.manual_seed(5)
    path = save(tmp_path / "model.pt", Reference(1, scaled=True).fairseq_weights(), veco_args(task=task))
    dictionary = None
    if others is not None:
        dictionary = write_dictionary(tmp_path / "dict.txt", V - 4 - len(others), *others)
    conversion = convert(path, dictionary, {})
    config, generation = conversion.model.config, conversion.model.generation_config
    frame = (config.source_prefix_ids, config.source_suffix_ids, config.target_suffix_ids)
    assert (config.decoder_start_token_id, *frame) == form
    assert generation.decoder_start_token_id == form[0]
    assert generation.eos_token_id == (2 if form[3] is None else form[3][-1])
    assert any("the special tokens around sentences are not known" in note for note in conversion.notes) == (
        form[0] is None
    )


@pytest.mark.parametrize(
    ("task", "languages"), [("translation", {}), ("translation", {"target_lang": "ja"}), (TAGGED, {})]
)
def test_languages_go_into_the_configuration(tmp_path: Path, task: str, languages: dict[str, str]) -> None:
    told = {"source_lang": None, "target_lang": None, **languages} if task == "translation" else {}
    path = save(tmp_path / "model.pt", Reference(1, scaled=True).fairseq_weights(), veco_args(task=task, **told))
    config = from_fairseq(path, write_dictionary(tmp_path / "dict.txt", V - 4)).config
    expected = ("en", "de") if task == TAGGED else (None, languages.get("target_lang"))
    assert (config.source_language, config.target_language) == expected


@pytest.mark.parametrize("told", [{}, {"source_lang": None, "target_lang": None}], ids=["absent", "none"])
def test_tags_need_languages(tmp_path: Path, told: dict[str, None]) -> None:
    torch.save(Reference(1, scaled=True).fairseq_weights(), tmp_path / "bare.pt")
    dictionary = write_dictionary(tmp_path / "dict.txt", V - 4)
    shape = {"encoder_attention_heads": HEADS, "activation_fn": "gelu", "no_scale_embedding": False}
    settings = {**shape, "task": TAGGED, **told}
    message = r"bare\.pt: lacks the settings source_lang, target_lang; .* --set source_lang=en target_lang=de$"
    with pytest.raises(ValueError, match=message):
        from_fairseq(tmp_path / "bare.pt", dictionary, settings)
    with pytest.raises(ValueError, match="lacks the settings target_lang; .* --set target_lang=de$"):
        from_fairseq(tmp_path / "bare.pt", dictionary, {**settings, "source_lang": "en"})
    with pytest.raises(ValueError, match="lacks the settings activation_fn; .* --set activation_fn=gelu$"):
        from_fairseq(tmp_path / "bare.pt", dictionary, {**settings, "activation_fn": None})


@pytest.mark.parametrize(
    ("task", "has_dictionary", "expected"),
    [
        (TAGGED, False, ["are in the dictionary; convert again with --dictionary dict.txt, or set decoder_start"]),
        (
            None,
            True,
            ["its task is not known, expected one of translation, ", "again with --set task=… source_lang=… t"],
        ),
        ("denoising", False, ["its task is denoising, expected", "again with --dictionary dict.txt --set task=… "]),
    ],
)
def test_note_names_what_an_unknown_form_needs(
    tmp_path: Path, task: str | None, has_dictionary: bool, expected: list[str]
) -> None:
    path = save(tmp_path / "model.pt", Reference(1, scaled=True).fairseq_weights(), veco_args(task=task))
    dictionary = write_dictionary(tmp_path / "dict.txt", V - 4) if has_dictionary else None
    note = convert(path, dictionary, {}).notes[-1]
    assert all(part in note for part in expected) and ("--dictionary" in note) != has_dictionary


def test_targets_that_begin_with_bos_are_refused(tmp_path: Path) -> None:
    args = veco_args(task="translation_from_pretrained_bart", prepend_bos=True)
    path = save(tmp_path / "model.pt", Reference(1, scaled=True).fairseq_weights(), args)
    dictionary = write_dictionary(tmp_path / "dict.txt", V - 4)
    with pytest.raises(ValueError, match="trained with --prepend-bos, so targets begin with <s>"):
        from_fairseq(path, dictionary)
    assert from_fairseq(path, dictionary, {"prepend_bos": False}).config.source_suffix_ids == [2, 3]


@pytest.mark.parametrize("form", ["0.12", "averaged", "half", "joined"])
def test_finetuned_checkpoints_of_all_kinds_convert(padded_batch, pair_batch, tmp_path: Path, form: str) -> None:
    """With stale copies of fairseq 0.12; averaged by its script, which also averages them; in half precision."""
    torch.manual_seed(6)
    reference = Reference(2, scaled=True).eval()
    weights = reference.fairseq_weights()
    tolerance = TOLERANCE
    if form == "joined":
        weights = with_joined_projections(weights)
    elif form == "averaged":
        others = [{name: weight + 0.1 * i for name, weight in weights.items()} for i in (-1, 1)]
        parts = [with_stale_copies(one) for one in (weights, *others)]
        weights = {name: sum(part[name] for part in parts) / 3 for name in parts[0]}
        tolerance = 1e-4
    else:
        weights = with_stale_copies(weights)
    if form == "half":
        weights, tolerance = {name: weight.half() for name, weight in weights.items()}, 0.02
    veco = from_fairseq(save(tmp_path / "model.pt", weights, veco_args())).eval()
    assert veco.dtype == torch.float32
    (x, x_mask), (y, y_mask) = padded_batch, pair_batch
    ours = veco(y, y_mask, decoder_input_ids=x).logits
    expected = reference.decode(x, reference.encode(y), y, is_causal=True)
    torch.testing.assert_close(ours[x_mask.bool()], expected[x_mask.bool()], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1", "b 1", "c 1"], "60 rows of embeddings, but the dictionary has 3 lines: expected 7, or 8 with <mask>"),
        (["<mask> 1", "a 1"], "dict.txt: line 1: expected <mask> in the last line or nowhere"),
        (["a 1", "b"], "dict.txt: line 2: expected `piece count`, found 'b'"),
    ],
)
def test_dictionary_that_does_not_fit(reference, tmp_path: Path, lines: list[str], message: str) -> None:
    path = save(tmp_path / "model.pt", reference.fairseq_weights(), veco_args())
    (tmp_path / "dict.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        from_fairseq(path, tmp_path / "dict.txt")


def test_settings_replace_and_complete_the_files(reference, padded_batch, tmp_path: Path) -> None:
    """A bare state dict has no number of heads."""
    torch.save(reference.fairseq_weights(), tmp_path / "bare.pt")
    with pytest.raises(
        ValueError, match="lacks the settings encoder_attention_heads, activation_fn, no_scale_embedding"
    ):
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
        ({"encoder.extra": torch.ones(1)}, "has weights that VECO does not have: encoder.extra"),
        ({"classification_heads.x": torch.ones(1)}, "does not have: classification_heads.x"),
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
