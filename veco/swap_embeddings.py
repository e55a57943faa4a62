"""Put the token embeddings of one model into another: `python -m veco.swap_embeddings --help`.

The last step of MonoTrans (Artetxe et al., ACL 2020): a body fine-tuned on a task in one language, with its embeddings
frozen, reads another language by the embeddings that this one has learned under the same frozen body.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from data_tools.cli import FlagParser, run_main
from data_tools.files.directories import atomic_directory
from veco.config import SPECIAL_IDS, VecoConfig
from veco.tokenizer import has_tokenizer, open_tokenizer, save_tokenizer
from veco.vocabulary.model_directory import open_model, save_model
from veco.vocabulary.rows import set_rows, vocabulary_parameters

Model = TypeVar("Model", bound=PreTrainedModel)


def swap_embeddings(model: Model, other: PreTrainedModel) -> Model:
    """Replace the token embeddings of `model`, in place, and its output projection and bias, by those of `other`.

    Positions, embedding LayerNorm, layers and adapters stay. The vocabulary becomes the other's. Raises ValueError for
    models that do not fit each other, an `other` without output bias where `model` has one, and translation models.
    """
    check_fit(model.config, other.config)
    theirs = {kind_of(layer, name): layer.get_parameter(name) for layer, name in vocabulary_parameters(other)}
    ours = [kind_of(layer, name) for layer, name in vocabulary_parameters(model)]
    if absent := [kind for kind in ours if kind not in theirs]:
        raise ValueError(f"the model with the embeddings has no {absent[0]}; expected one with its language-model head")
    copies = {weight: weight.detach().to(model.dtype).clone() for weight in theirs.values()}
    set_rows(model, lambda layer, name: copies[theirs[kind_of(layer, name)]], other.config.vocab_size)
    return model


def kind_of(layer: nn.Module, name: str) -> str:
    """What a parameter with a row for each id is, in words."""
    return "token embedding" if isinstance(layer, nn.Embedding) else f"output {name}"


def check_fit(body: VecoConfig, embeddings: VecoConfig) -> None:
    """Raise ValueError unless the embeddings of one model can be those of the other."""
    for name in ("hidden_size", "scale_embedding", "tie_word_embeddings", *SPECIAL_IDS):
        one, other = vars(body)[name], vars(embeddings)[name]
        if one != other:
            raise ValueError(f"{name} is {one} in the body and {other} where the embeddings are; expected the same")
    if body.decoder_start_token_id is not None or body.has_frame:
        raise ValueError("the body is a translation model, whose language tags are ids of its own vocabulary")


DESCRIPTION = """\
Put the token embeddings of one VECO, with its vocabulary and tokenizer, into another, of any class.

  BODY        the model whose layers, positions and head of a task stay: fine-tuned with --freeze embeddings, say
  EMBEDDINGS  the model that gives its token embeddings and, if BODY has a language-modelling head, its output bias

Transfer to a language that BODY has never seen (MonoTrans):

  deepspeed pretrain/train.py --init_from VECO --trains embeddings --data FI_DATA --output runs/fi …
  deepspeed finetune/understanding/train.py --init_from VECO --freeze embeddings --task TASK --output runs/task …
  python -m veco.swap_embeddings runs/task/best runs/fi/last task-fi

Where the new language has a vocabulary of its own, the first step starts from a VECO that was given it, by
veco.vocabulary.
"""


def main() -> None:
    """Run the command line."""
    parser = FlagParser(
        prog="python -m veco.swap_embeddings",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("body", type=Path, metavar="BODY", help="directory of the model that stays")
    parser.add_argument("embeddings", type=Path, metavar="EMBEDDINGS", help="directory of the model that gives them")
    parser.add_argument("destination", type=Path, metavar="DST", help="model directory to write")
    arguments = parser.parse_args()
    with atomic_directory(arguments.destination) as directory:
        if not has_tokenizer(arguments.embeddings):
            raise ValueError(f"{arguments.embeddings}: has no tokenizer, which belongs to its embeddings")
        model = open_model(arguments.body)
        before = model.config.vocab_size
        swap_embeddings(model, open_model(arguments.embeddings))
        tokenizer = open_tokenizer(arguments.embeddings)
        save_tokenizer(tokenizer, arguments.embeddings, directory, max_tokens=model.config.max_tokens)
        save_model(model, arguments.body, directory)
    print(
        f"{arguments.destination}: {type(model).__name__} of {arguments.body} with the embeddings of "
        f"{arguments.embeddings}, {before:,} ids -> {model.config.vocab_size:,}"
    )


if __name__ == "__main__":
    run_main(main)
