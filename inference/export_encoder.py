"""Export the encoder of a model to CTranslate2 or ONNX Runtime, which compute sentences several times as fast on CPUs.

    python -m inference.export_encoder MODEL --to ct2 --int8 --output DIR [--layer K] [--pooling cls]

MODEL is a run, a checkpoint or a model: a VECO, whose cross-attention is left out, or an XLM-R. It is cut at layer K,
by default the one that it records for sentences, or else that of 0.6 of the depth, as XTREME chooses it: the layers
above, and all heads, stay outside. The states are those of layer K, transformers' hidden_states[K], and DIR records
how a sentence's vector is made of them, too.

DIR is used in the place of a model by inference.SentenceEncoder, finetune.understanding.predict (retrieval) and the
commands of analysis. It has the tokenizer, encoder.json (layer, pooling, longest sentence, precision, SHA-256 of the
weights that it was made of, sizes of files) and the engine's files, and no pickle. For ONNX the weights are in a file
beside the graph, of any size: a file of protobuf would end at 2 GiB.

int8 takes a quarter of the memory. How near its vectors are to those in float32 depends on the model; see
docs/inference.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import sha256_of
from data_tools.files.directories import atomic_directory
from finetune.encoders import Encoder, open_encoder
from finetune.exported.settings import EngineName, ExportedSettings, Pooling, sizes_of
from finetune.model_directory import model_directory
from finetune.understanding.flags import ENCODERS
from finetune.understanding.retrieval.embeddings import checked_length, encoder_alone
from finetune.understanding.rows.encoding import text_encoder
from inference.exporting.ct2_files import check_ct2, write_ct2
from inference.exporting.onnx_files import check_onnx, write_onnx
from training.launch import quiet_libraries
from veco import VecoConfig
from veco.adapters.attach import check_without_adapters
from veco.convert.families import family_of, how_to_convert
from veco.sentence_transformers_files import settings_with_recorded, usual_layer
from veco.tokenizer import save_tokenizer

WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class ExportOptions:
    """What an exported encoder is to compute, and with what; `precision` is float32 or int8.

    `layer` and `pooling` None are those that the directory records for sentences, or else the usual one and the mean,
    `max_length` None the most that the model takes. `normalise` says whether a sentence's vector has length 1.
    """

    engine: EngineName
    precision: str = "float32"
    layer: int | None = None
    pooling: Pooling | None = None
    normalise: bool = True
    max_length: int | None = None


def export_encoder(directory: Path, output: Path, options: ExportOptions) -> ExportedSettings:
    """Write the encoder in a model directory, cut at a layer, to the directory `output`; return what it computes.

    Raises ValueError for models that cannot be exported, for a layer or a length that the model does not have,
    where the engine's library is not installed, and if `output` is not empty.
    """
    encoder = open_encoder(directory, "model")
    check_exportable(encoder)
    num_layers = int(encoder.config.num_hidden_layers)
    layer, pooling, max_length = settings_with_recorded(directory, options.layer, options.pooling, options.max_length)
    if layer is None:
        layer = usual_layer(num_layers)
    if not 1 <= layer <= num_layers:
        raise ValueError(f"--layer {layer}: {directory} has layers 1 to {num_layers}")
    max_length = checked_length(max_length, text_encoder(encoder), encoder.max_tokens)
    if options.engine is EngineName.CTRANSLATE2:
        check_ct2(encoder.config)
    else:
        check_onnx()
    with atomic_directory(output, made_by="inference.export_encoder") as temporary:
        model = encoder_alone(encoder, layer, torch.float32).eval()
        if options.engine is EngineName.CTRANSLATE2:
            write_ct2(model, encoder.tokenizer, temporary, options.precision)
        else:
            write_onnx(model, temporary, options.precision)
        files = sizes_of(temporary)
        save_tokenizer(encoder.tokenizer, directory, temporary, max_tokens=max_length)
        settings = ExportedSettings(
            engine=options.engine,
            precision=options.precision,
            layer=layer,
            hidden_size=int(encoder.config.hidden_size),
            max_length=max_length,
            pooling=Pooling(pooling or Pooling.MEAN),
            normalise=options.normalise,
            source=directory.resolve().name,
            source_num_layers=num_layers,
            source_sha256={path.name: sha256_of(path) for path in sorted(directory.glob(WEIGHTS))},
            files=files,
        )
        settings.write(temporary)
    return settings


def check_exportable(encoder: Encoder) -> None:
    """Raise ValueError for an encoder that is no VECO, nor an XLM-R, and for one with adapters."""
    if not isinstance(encoder.config, VecoConfig):
        kind = encoder.config.model_type
        family_of(kind)  # says why a kind cannot be converted
        raise ValueError(f"{encoder.directory}: expected a veco or xlm-roberta, found a {kind}{how_to_convert(kind)}")
    check_without_adapters(encoder.config, "an exported encoder")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m inference.export_encoder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="run, checkpoint or model: a VECO or an XLM-R")
    parser.add_argument("--to", choices=[name.value for name in EngineName], required=True, help="the engine")
    parser.add_argument("--int8", action="store_true", help="weights and products in 8 bits (default: float32)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write")
    parser.add_argument("--layer", type=int, metavar="K", help="layer to cut at (default: as recorded, or 0.6 of all)")
    parser.add_argument(
        "--pooling",
        choices=[pooling.value for pooling in Pooling],
        help="a sentence's vector: the mean over its tokens, or the state of the first (default: as recorded, or mean)",
    )
    parser.add_argument(
        "--no-normalise", action="store_true", help="leave vectors their lengths (default: each has length 1)"
    )
    parser.add_argument("--max-length", type=int, help="longest sentence in tokens (default: the model's)")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    model = model_directory(options.model, ENCODERS)
    wanted = ExportOptions(
        engine=EngineName(options.to),
        precision="int8" if options.int8 else "float32",
        layer=options.layer,
        pooling=options.pooling and Pooling(options.pooling),
        normalise=not options.no_normalise,
        max_length=options.max_length,
    )
    settings = export_encoder(model, options.output, wanted)
    size = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    print(
        f"{options.output}: layer {settings.layer} of {settings.source_num_layers} for {settings.engine}, "
        f"{settings.precision}, {size / 1e6:,.1f} MB"
    )


if __name__ == "__main__":
    run_main(main)
