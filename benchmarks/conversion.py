"""Compare encoders of transformers with the VECO they are converted to, and with what that is converted back to.

    python benchmarks/conversion.py [--encoders bert roberta …] [--dtype float64] [--large]

Models have the published shape and vocabulary of each family and random weights, biases and norms included. What is
printed is the largest absolute difference of the states of all layers, and of the logits, over the tokens of a padded
batch. In float64 nothing is left but the sum of token type and position, which the converted model has in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from data_tools.cli import FlagParser, run_main
from veco.convert import from_encoder, to_encoder
from veco.convert.families import FAMILIES

ROWS, TOKENS = 8, 128
# As published: xlm-roberta-base, bert-base-multilingual-cased, roberta-base, camembert-base, distilbert-base.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "xlm-roberta": {
        "vocab_size": 250_002,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "bert": {"vocab_size": 119_547},
    "roberta": {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "camembert": {
        "vocab_size": 32_005,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 5,
        "eos_token_id": 6,
    },
    "distilbert": {"vocab_size": 30_522},
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def random_encoder(model_type: str, is_large: bool) -> PreTrainedModel:
    """A model of the published shape with random weights, biases and norms."""
    family = FAMILIES[model_type]
    size = {family.field_name(name): value for name, value in LARGE.items()} if is_large else {}
    model = family.masked_lm(family.masked_lm.config_class(**PUBLISHED[model_type], **size)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name.lower():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def padded_batch(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Random ids (ROWS, TOKENS), the first row full and the others ever shorter, and their mask."""
    pad = model.config.pad_token_id
    ids = torch.randint(pad + 1, model.config.vocab_size, (ROWS, TOKENS))
    lengths = torch.linspace(TOKENS, 2, ROWS).long()
    is_token = torch.arange(TOKENS) < lengths[:, None]
    return ids.masked_fill(~is_token, pad), is_token.long()


def outputs(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(states of all layers, logits) of the batch's tokens."""
    with torch.no_grad():
        found = model(ids, attention_mask=mask, output_hidden_states=True)
    real = mask.bool()
    return torch.stack([states[real] for states in found.hidden_states]), found.logits[real]


def differences(model: PreTrainedModel, expected: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor]) -> str:
    """The largest difference of states and of logits, in columns."""
    pairs = zip(outputs(model, *batch), expected, strict=True)
    return "".join(f"{float((ours - theirs).abs().max()):>12.1e}" for ours, theirs in pairs)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", choices=PUBLISHED, default=[*PUBLISHED], help="(all)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(float32)")
    parser.add_argument("--large", action="store_true", help="24 layers of 1024 instead of the base size")
    arguments = parser.parse_args()
    dtype = DTYPES[arguments.dtype]
    print(f"{'':<12}{'parameters':>12}  {'veco: states':>12}{'logits':>12}{'back: states':>14}{'logits':>12}")
    for model_type in arguments.encoders:
        torch.manual_seed(1)
        encoder = random_encoder(model_type, arguments.large)
        veco = from_encoder(encoder).eval()
        back = to_encoder(veco, model_type).eval()
        batch = padded_batch(encoder)
        expected = outputs(encoder.to(dtype), *batch)
        found = [differences(model.to(dtype), expected, batch) for model in (veco, back)]
        print(f"{model_type:<12}{encoder.num_parameters() / 1e6:>11.1f}M  {found[0]}  {found[1]}", flush=True)


if __name__ == "__main__":
    run_main(main)
