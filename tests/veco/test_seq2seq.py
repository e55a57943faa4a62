from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, BertConfig, XLMRobertaConfig, XLMRobertaForMaskedLM

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM

TAG = 58
SHARED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "initializer_range",
    "layer_norm_eps",
)


@pytest.fixture
def pretrained(config: VecoConfig) -> VecoForMaskedLM:
    torch.manual_seed(1)
    return VecoForMaskedLM(config).eval()


@pytest.fixture
def model(pretrained) -> VecoForConditionalGeneration:
    return VecoForConditionalGeneration.from_veco(pretrained, decoder_layers=2, decoder_start_token_id=TAG).eval()


@pytest.mark.parametrize(("which", "first"), [("last", 1), ("first", 0)])
def test_decoder_takes_the_last_or_first_layers(pretrained, which: str, first: int) -> None:
    model = VecoForConditionalGeneration.from_veco(pretrained, 2, which)
    assert len(model.decoder.layers) == 2
    for number, layer in enumerate(model.decoder.layers):
        expected = pretrained.veco.layers[first + number].state_dict()
        assert set(layer.state_dict()) == set(expected)
        for name, weight in layer.state_dict().items():
            assert torch.equal(weight, expected[name]), name
            assert weight.data_ptr() != expected[name].data_ptr(), "a copy, not a view"


def test_encoder_is_path_h_and_head_is_kept(pretrained, model, padded_batch) -> None:
    ids, mask = padded_batch
    expected = pretrained.veco(ids, mask).last_hidden_state
    encoded = model.get_encoder()(ids, mask).last_hidden_state
    torch.testing.assert_close(encoded[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-5)
    assert torch.equal(model.lm_head.dense.weight, pretrained.lm_head.dense.weight)
    assert model.lm_head.decoder.weight is model.veco.embeddings.word_embeddings.weight


def test_decoder_is_causal_and_depends_on_the_source(model, padded_batch) -> None:
    ids, mask = padded_batch
    target = torch.randint(4, 58, (3, 6))
    logits = model(ids, mask, decoder_input_ids=target).logits
    changed = target.clone()
    changed[:, 4] = (changed[:, 4] - 4 + 7) % 50 + 4
    other = model(ids, mask, decoder_input_ids=changed).logits
    torch.testing.assert_close(other[:, :4], logits[:, :4], rtol=0, atol=1e-6)
    assert (other[:, 4:] - logits[:, 4:]).abs().max() > 1e-3
    assert (model(ids.flip(0), mask.flip(0), decoder_input_ids=target).logits - logits).abs().max() > 1e-3


def test_cache_gives_the_logits_of_the_full_pass(model, padded_batch) -> None:
    ids, mask = padded_batch
    target = torch.randint(4, 58, (3, 6))
    full = model(ids, mask, decoder_input_ids=target, use_cache=False).logits
    cache, parts = None, []
    for start, stop in ((0, 1), (1, 2), (2, 5), (5, 6)):  # also several new tokens behind earlier ones
        output = model(ids, mask, decoder_input_ids=target[:, start:stop], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, 1), full, rtol=0, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 4])
def test_generate_with_and_without_cache_and_padding_agree(model, padded_batch, beams: int) -> None:
    ids, mask = padded_batch
    options = {"num_beams": beams, "max_new_tokens": 8, "do_sample": False}
    together = model.generate(ids, attention_mask=mask, **options)
    assert (together[:, 0] == TAG).all()
    assert torch.equal(together, model.generate(ids, attention_mask=mask, use_cache=False, **options))
    for row, length in enumerate((12, 7, 3)):
        alone = model.generate(ids[row : row + 1, :length], **options)[0]
        assert torch.equal(together[row, : len(alone)], alone)


@pytest.mark.parametrize("beams", [1, 3])
def test_source_is_projected_once_for_all_beams_and_steps(model, padded_batch, beams: int) -> None:
    ids, mask = padded_batch
    projected, steps = [], []
    cross, own = (getattr(model.decoder.layers[0], name).k_proj for name in ("cross_attention", "self_attention"))
    cross.register_forward_hook(lambda _, __, output: projected.append(output.shape[:2]))
    own.register_forward_hook(lambda _, __, output: steps.append(output.shape[:2]))
    found = model.generate(
        ids, attention_mask=mask, num_beams=beams, min_new_tokens=5, max_new_tokens=5, return_dict_in_generate=True
    )
    assert projected == [(3, 12)], "one row for each sentence, not for each beam"
    assert steps == [(3 * beams, 1)] * 5
    cache = found.past_key_values
    assert cache.cross_attention_cache.layers[0].keys.shape[0] == 3
    assert cache.self_attention_cache.layers[0].keys.shape[0] == 3 * beams


def test_targets_that_share_a_source_get_the_logits_of_separate_sources(model, padded_batch) -> None:
    ids, mask = padded_batch
    targets = torch.randint(4, 58, (6, 5))
    expected = model(ids.repeat_interleave(2, 0), mask.repeat_interleave(2, 0), decoder_input_ids=targets).logits
    torch.testing.assert_close(model(ids, mask, decoder_input_ids=targets).logits, expected, rtol=0, atol=1e-5)
    with pytest.raises(
        ValueError, match="the decoder's inputs have 5 rows, expected as many as the source, 3, or a mult"
    ):
        model(ids, mask, decoder_input_ids=targets[:5])


@pytest.mark.parametrize("beams", [1, 4])
def test_each_sentence_has_its_own_tag(model, padded_batch, beams: int) -> None:
    """Several directions in one batch: each row equals its translation alone with its tag."""
    ids, mask = padded_batch
    tags = [TAG, TAG - 1, TAG - 2]
    options = {"num_beams": beams, "max_new_tokens": 6}
    together = model.generate(ids, attention_mask=mask, decoder_start_token_id=tags, **options)
    assert together[:, 0].tolist() == tags
    for row, tag in enumerate(tags):
        one = slice(row, row + 1)
        alone = model.generate(ids[one], attention_mask=mask[one], decoder_start_token_id=tag, **options)[0]
        assert torch.equal(together[row, : len(alone)], alone)


def test_sampled_translations_share_a_source_too(model, padded_batch) -> None:
    ids, mask = padded_batch
    found = model.generate(ids, attention_mask=mask, do_sample=True, num_return_sequences=4, max_new_tokens=5)
    assert found.shape == (12, 6)


@pytest.mark.parametrize("beams", [1, 3])
def test_static_cache_gives_the_same_translation(model, padded_batch, beams: int) -> None:
    ids, mask = padded_batch
    options = {"num_beams": beams, "max_new_tokens": 6, "disable_compile": True}
    static = model.generate(ids, attention_mask=mask, cache_implementation="static", **options)
    assert torch.equal(static, model.generate(ids, attention_mask=mask, **options))


@pytest.mark.parametrize(("which", "first"), [("last", 1), ("first", 0)])
def test_tied_self_attention_is_one_set_of_weights(pretrained, padded_batch, tmp_path: Path, which, first) -> None:
    ids, mask = padded_batch
    labels = torch.randint(4, 58, (3, 5))
    free, tied = (
        VecoForConditionalGeneration.from_veco(
            pretrained, 2, which, decoder_start_token_id=TAG, tie_self_attention=tie
        ).eval()
        for tie in (False, True)
    )
    losses = [model(ids, mask, labels=labels).loss for model in (free, tied)]
    assert losses[0] == losses[1], "both start from the same weights"
    for loss in losses:
        loss.backward()
    shared = [name for name, _ in tied.decoder.layers[0].named_parameters() if name.startswith("self_attention")]
    assert len(shared) == 10  # four projections and a LayerNorm, each with its bias
    for number in range(2):
        for name in shared:
            ours = tied.veco.layers[number + first].get_parameter(name)
            assert tied.decoder.layers[number].get_parameter(name) is ours
            sides = (free.veco.layers[number + first], free.decoder.layers[number])
            torch.testing.assert_close(ours.grad, sum(side.get_parameter(name).grad for side in sides))
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (free, tied)]
    assert sizes[0] - sizes[1] == 2 * (4 * (32 * 32 + 32) + 2 * 32)

    tied.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert (
        again.decoder.layers[1].self_attention.q_proj.weight
        is again.veco.layers[first + 1].self_attention.q_proj.weight
    )
    torch.testing.assert_close(again(ids, mask, labels=labels).loss, losses[1], rtol=0, atol=0)


def test_xlm_roberta_initialises_all_weights_but_cross_attention(config, padded_batch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fields = {name: config.to_dict()[name] for name in SHARED_FIELDS}
    xlm_roberta = XLMRobertaForMaskedLM(XLMRobertaConfig(**fields, type_vocab_size=1)).eval()
    xlm_roberta.save_pretrained(tmp_path)
    ids, mask = padded_batch
    expected = xlm_roberta.roberta(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    for source in (xlm_roberta, tmp_path):
        model = VecoForConditionalGeneration.from_veco(source, 1, decoder_start_token_id=TAG).eval()
        encoded = model.get_encoder()(ids, mask).last_hidden_state[mask.bool()]
        torch.testing.assert_close(encoded, expected, rtol=0, atol=1e-5)
        ours, theirs = model.decoder.layers[0], xlm_roberta.roberta.encoder.layer[2]
        assert torch.equal(ours.self_attention.q_proj.weight, theirs.attention.self.query.weight)
        spread = ours.cross_attention.q_proj.weight.std().item()
        assert spread == pytest.approx(config.initializer_range, rel=0.2)


def test_other_models_are_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected a veco or .* found a bert; python -m veco.convert bert makes"):
        VecoForConditionalGeneration.from_veco(tmp_path)


def test_labels_are_shifted_behind_the_tag(model, padded_batch) -> None:
    ids, mask = padded_batch
    labels = torch.tensor([[5, 6, 2], [7, 2, -100], [8, 9, 2]])
    inputs = model.prepare_decoder_input_ids_from_labels(labels)
    assert inputs.tolist() == [[TAG, 5, 6], [TAG, 7, 2], [TAG, 8, 9]]
    expected = torch.nn.functional.cross_entropy(
        model(ids, mask, decoder_input_ids=inputs).logits.flatten(0, 1), labels.flatten()
    )
    torch.testing.assert_close(model(ids, mask, labels=labels).loss, expected)
    with pytest.raises(ValueError, match="labels contain 60, expected -100 .* or 0 to 59"):
        model(ids, mask, labels=torch.tensor([[5, 6, 60], [7, 2, -100], [8, 9, 2]]))


def test_smoothed_loss_is_a_sum_over_the_labels(model, padded_batch) -> None:
    ids, mask = padded_batch
    labels = torch.tensor([[5, 6, 2], [7, 2, -100], [8, 9, 2]])
    logits = model(ids, mask, labels=labels).logits
    # torch smooths over all classes, fairseq over those that are not the label.
    num_classes = logits.shape[-1]
    expected = torch.nn.functional.cross_entropy(
        *(logits.flatten(0, 1), labels.flatten()),
        reduction="sum",
        label_smoothing=0.1 * num_classes / (num_classes - 1),
    )
    output = model(ids, mask, labels=labels, label_smoothing=0.1)
    torch.testing.assert_close(output.loss, expected)
    assert output.logits is None
    parameters = list(model.parameters())
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (output.loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    nothing = model(
        ids, mask, decoder_input_ids=labels.clamp(min=0), labels=torch.full((3, 3), -100), label_smoothing=0.0
    )
    assert nothing.loss.item() == 0.0


def test_saved_model_gives_the_same_translations(model, padded_batch, tmp_path: Path) -> None:
    ids, mask = padded_batch
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    expected = model.generate(ids, attention_mask=mask, num_beams=3, max_new_tokens=6)
    assert torch.equal(again.generate(ids, attention_mask=mask, num_beams=3, max_new_tokens=6), expected)


def test_resized_vocabulary_keeps_old_logits(model, padded_batch) -> None:
    ids, mask = padded_batch
    target = torch.randint(4, 58, (3, 4))
    before = model(ids, mask, decoder_input_ids=target).logits
    model.resize_token_embeddings(63, mean_resizing=False)
    after = model(ids, mask, decoder_input_ids=target).logits
    assert after.shape[-1] == 63
    torch.testing.assert_close(after[..., :60], before, rtol=0, atol=0)
    assert model.lm_head.decoder.weight is model.veco.embeddings.word_embeddings.weight


def test_missing_tag_is_explained(pretrained, padded_batch) -> None:
    model = VecoForConditionalGeneration.from_veco(pretrained, 1)
    with pytest.raises(ValueError, match="decoder_start_token_id is not set"):
        model(*padded_batch, labels=torch.tensor([[5], [6], [7]]))
