"""XLM-R by its own name: the same as any other encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from random_encoders import padded_ids, random_encoder
from transformers import XLMRobertaModel, XLMRobertaXLConfig, XLMRobertaXLForMaskedLM

from veco.adapter_config import AdapterConfig
from veco.adapters import activate_adapters, attach_adapter
from veco.convert import from_xlm_roberta, to_xlm_roberta, xlm_roberta_names


def test_there_and_back() -> None:
    xlm_roberta = random_encoder("xlm-roberta")
    veco = from_xlm_roberta(xlm_roberta)
    again = to_xlm_roberta(veco)
    ids, mask = padded_ids(1)
    expected = xlm_roberta(ids, attention_mask=mask).logits[mask.bool()]
    for model in (veco, again):
        torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask.bool()], expected, rtol=0, atol=1e-5)
    parameters = {name for name, _ in veco.named_parameters() if ".cross_attention" not in name}
    assert set(xlm_roberta_names(3)) == parameters | {"lm_head.decoder.bias"}


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an xlm-roberta, found a roberta"):
        from_xlm_roberta(random_encoder("roberta"))
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    model = XLMRobertaXLForMaskedLM(XLMRobertaXLConfig(vocab_size=20, max_position_embeddings=10, **shape))
    with pytest.raises(ValueError, match="XL and XXL are pre-LayerNorm models, VECO is post-LayerNorm"):
        from_xlm_roberta(model)
    XLMRobertaModel(random_encoder("xlm-roberta").config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks weights of XLMRobertaForMaskedLM: lm_head\.bias"):
        from_xlm_roberta(tmp_path)


def test_adapters_are_no_part_of_an_xlm_roberta() -> None:
    veco = from_xlm_roberta(random_encoder("xlm-roberta")).eval()
    attach_adapter(veco, "sw", AdapterConfig(invertible=True))
    with pytest.raises(ValueError, match=r"adapters \(sw\), for which .* has no place: .* cannot be merged"):
        to_xlm_roberta(veco)
    activate_adapters(veco, [])
    ids, mask = padded_ids(1)
    theirs = to_xlm_roberta(veco).eval()(ids, attention_mask=mask).logits
    torch.testing.assert_close(theirs[mask.bool()], veco(ids, mask).logits[mask.bool()], rtol=0, atol=1e-5)
