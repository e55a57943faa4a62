from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM

TAG = 58


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
    torch.testing.assert_close(model.get_encoder()(ids, mask).last_hidden_state, expected, rtol=0, atol=0)
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


def test_labels_are_shifted_behind_the_tag(model, padded_batch) -> None:
    ids, mask = padded_batch
    labels = torch.tensor([[5, 6, 2], [7, 2, -100], [8, 9, 2]])
    inputs = model.prepare_decoder_input_ids_from_labels(labels)
    assert inputs.tolist() == [[TAG, 5, 6], [TAG, 7, 2], [TAG, 8, 9]]
    expected = torch.nn.functional.cross_entropy(
        model(ids, mask, decoder_input_ids=inputs).logits.flatten(0, 1), labels.flatten()
    )
    torch.testing.assert_close(model(ids, mask, labels=labels).loss, expected)


def test_saved_model_translates_alike(model, padded_batch, tmp_path: Path) -> None:
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
