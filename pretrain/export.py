"""Turn checkpoints into a directory that transformers opens: `python -m pretrain.export RUN --output MODEL`.

Its format is VECO's, which needs `import veco`, or XLM-R's (`--format xlm-roberta`): without the cross-attention, and
so as VECO plugged out, it opens with whatever opens XLM-R. sentence-transformers opens both.

Of a run with adapters the model has them, and they work: bottlenecks as modules of their own, LoRA merged into the
weights. With --adapter they are written alone, to be put into the model that the run started from.

The weights go from file to file piece by piece, whatever ZeRO stage and number of ranks wrote them, so that a model can
be exported on a machine that could not hold it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from data_tools.cli import FlagParser, refuse_unread, run_main
from data_tools.files.directories import atomic_directory
from pretrain.exporting.adapter import export_adapter
from pretrain.exporting.checkpoints import chosen_checkpoints, run_and_step, weights_of_model
from pretrain.exporting.merging import merged
from pretrain.recipe import PretrainRecipe
from pretrain.stages import STEPS
from training.checkpoints.averaging import MAX_FILE_BYTES, Source, write_weights
from training.checkpoints.finding import RECIPE_FILE, read_state
from training.checkpoints.stored_tensors import StoredTensor, Zeros
from training.launch import tell
from training.meters import read_metrics
from training.recipe.parsing import read_yaml
from training.run_directory.resuming import recipe_of
from veco import VecoConfig, VecoForMaskedLM
from veco.convert.encoders import encoder_config
from veco.convert.xlm_roberta import XLM_ROBERTA
from veco.masked_lm import TIED_HEAD
from veco.sentence_transformers_files import USUAL_DEPTH, write_sentence_files
from veco.tokenizer import note_max_tokens, without_token_types

VECO = VecoConfig.model_type
STAGE = "stage"  # in place of a number of checkpoints: those of the stage
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Form:
    """The form in which a model is written: VECO's, or XLM-R's without the cross-attention, and its files.

    `layer` is the one whose states represent sentences; None: the usual one.
    """

    model_format: str = VECO
    dtype: str = "bfloat16"
    max_file_bytes: int = MAX_FILE_BYTES
    layer: int | None = None


USUAL_FORM = Form()


def export(
    run_dir: Path, output: Path, step: int | None = None, average: int | str = 1, form: Form = USUAL_FORM
) -> Path:
    """Write config.json, safetensors, the tokenizer and a model card to `output`, and return it.

    The weights are those of checkpoint `step` (None: the newest). With `average` they are the mean of so many
    checkpoints, that one and those before it, or with "stage" of all of its stage. Raises ValueError when there are no
    such checkpoints, weights are missing or empty, there is no such layer, or `output` exists.
    """
    chosen = chosen_checkpoints(run_dir, step, average)
    newest = chosen[max(chosen)]
    config = VecoConfig.from_pretrained(newest)
    sources = [merged_weights(path) for path in chosen.values()]
    for source in sources:
        check_complete(source, config)
    written: PreTrainedConfig = config
    model_class = VecoForMaskedLM.__name__
    if form.model_format == XLM_ROBERTA.model_type:
        written, model_class = encoder_config(config, XLM_ROBERTA), XLM_ROBERTA.masked_lm.__name__
        sources = [as_xlm_roberta(source, config) for source in sources]
    written.architectures, written.dtype = [model_class], form.dtype
    with atomic_directory(output) as temporary:
        layer = write_sentence_files(temporary, config, form.layer)
        written.save_pretrained(temporary)
        write_weights(temporary, sources, DTYPES[form.dtype], form.max_file_bytes)
        shutil.copytree(run_dir / "tokenizer", temporary, dirs_exist_ok=True)
        note_max_tokens(temporary, config.max_tokens)
        without_token_types(temporary)
        usage = usage_of(form.model_format, config, layer)
        (temporary / "README.md").write_text(model_card(run_dir, chosen, config, form.dtype, usage), encoding="utf-8")
    return output


def number_or_stage(text: str) -> int | str:
    """The value of --average. Raises ValueError for another word."""
    return STAGE if text == STAGE else int(text)


def merged_weights(checkpoint: Path) -> Source:
    """The weights of a checkpoint's model, with LoRA's matrices, if it has some, merged into them."""
    source, recipe = weights_of_model(checkpoint), recipe_of(checkpoint, PretrainRecipe)
    if not recipe["lora_rank"]:
        return source
    return Source(checkpoint, merged(source.weights, recipe["lora_alpha"] / recipe["lora_rank"]))


def check_complete(source: Source, config: VecoConfig) -> None:
    """Raise ValueError when weights are not those of a model of that configuration, names and shapes."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in VecoForMaskedLM(config).state_dict().items()}
    if config.tie_word_embeddings:
        for tied in TIED_HEAD:
            del expected[tied]
    found = {name: tensor.shape for name, tensor in source.weights.items()}
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has shape {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        raise ValueError(f"{source.path}: {'; '.join(sorted(problems)[:3])} ({len(problems)} in all)")


def as_xlm_roberta(source: Source, config: VecoConfig) -> Source:
    """The weights that XLM-R has, under its names; its token type, which VECO lacks, is zero.

    Raises ValueError for a VECO whose head has another matrix than its embeddings, which XLM-R's has not.
    """
    if not config.tie_word_embeddings:
        raise ValueError(
            f"{source.path}: its head is not tied to its embeddings, as XLM-R's is; expected --format veco"
        )
    names = XLM_ROBERTA.weight_names(config.num_hidden_layers)
    weights = {theirs: source.weights[ours] for ours, theirs in names.items()}
    dtype = source.weights[next(iter(names))].dtype
    weights[XLM_ROBERTA.token_types] = StoredTensor(
        (1, config.hidden_size), (Zeros(source.path, 0, dtype, config.hidden_size),)
    )
    return Source(source.path, weights)


def usage_of(model_format: str, config: VecoConfig, layer: int) -> list[str]:
    """The lines of a card that say how to open the model."""
    needs = [
        "An XLM-R, equal to VECO plugged out; the cross-attention stayed behind. It needs no package but transformers.",
    ]
    imports: list[str] = []
    if model_format == VECO:
        needs = [
            "transformers does not know the model type `veco` by itself: install the package `veco` and import it",
            "before opening this. What has to open elsewhere is exported with `--format xlm-roberta`, plugged out.",
        ]
        imports = ["import veco  # registers the model with transformers"]
    return [
        *needs,
        "",
        "```python",
        *imports,
        "from transformers import AutoModelForMaskedLM, AutoTokenizer",
        "",
        'model = AutoModelForMaskedLM.from_pretrained("DIRECTORY")',
        f'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")  # truncation=True cuts at {config.max_tokens} tokens',
        "```",
        "",
        f"Sentences as vectors: the mean over all tokens of layer {layer} of {config.num_hidden_layers}, as recorded "
        "for sentence-transformers.",
        "",
        "```python",
        *imports,
        "from sentence_transformers import SentenceTransformer",
        "",
        'vectors = SentenceTransformer("DIRECTORY").encode(["Das Haus ist rot.", "The house is red."])',
        "```",
    ]


def model_card(run_dir: Path, chosen: dict[int, Path], config: VecoConfig, dtype: str, usage: list[str]) -> str:
    """README.md of a model: what the run's own files say about it, and how to open it."""
    step = max(chosen)
    state = read_state(chosen[step])
    recipe = read_yaml(chosen[step] / RECIPE_FILE)
    losses: dict[str, tuple[float, float]] = {}
    for line in read_metrics(run_dir):
        if line["step"] <= step:
            losses |= {name: (value, line["step"]) for name, value in line.items() if "/" in name}
    steps = ", ".join(map(str, chosen))
    weights = f"update {steps}" if len(chosen) == 1 else f"the mean of the checkpoints after updates {steps}"
    of_stages = [stage[STEPS] for stage in recipe.get("stages", ())]
    total = sum(of_stages) if of_stages else recipe["cross_attention_steps"] + recipe["steps"]
    facts = {
        "weights": f"{weights} of {total}, {dtype}",
        "shape": f"{config.num_hidden_layers} layers, width {config.hidden_size}, feed-forward "
        f"{config.intermediate_size}, {config.num_attention_heads} heads, vocabulary {config.vocab_size:,}",
        "started from": recipe["init_from"] or "random weights",
    }
    if config.active_adapters:
        facts["adapters"] = ", ".join(config.active_adapters)
    facts |= {name.replace("_", " "): state[name] for name in ("data_fingerprint", "layout", "versions")}
    table = [f"| {name} | {value:.4f} | {at} |" for name, (value, at) in sorted(losses.items())]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [veco, fill-mask]",
            "---",
            f"# VECO, {step:,} updates",
            "",
            *(f"- {name}: {json.dumps(value) if isinstance(value, dict) else value}" for name, value in facts.items()),
            "",
            *usage,
            "",
            "## Losses",
            "Means since the line before in metrics.jsonl, in nats for each predicted token.",
            "",
            "| loss | value | update |",
            "|---|---|---|",
            *table,
            "",
            "## Recipe",
            "```yaml",
            *(chosen[step] / RECIPE_FILE).read_text(encoding="utf-8").splitlines(),
            "```",
            "",
        ]
    )


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a pre-training run, or one of its checkpoints")
    parser.add_argument(
        "--output", type=Path, required=True, help="directory to make; AutoModel.from_pretrained opens it"
    )
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="write a run's adapters alone, a few MB in float32: adapter_config.json and adapter.safetensors, or "
        "LoRA's matrices as peft opens them",
    )
    parser.add_argument("--step", type=int, help="checkpoint to export (the newest by default)")
    parser.add_argument(
        "--average",
        type=number_or_stage,
        metavar="N",
        default=1,
        help="checkpoints to average: that one and those before it (%(default)s), or stage: all of its stage",
    )
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bfloat16", help="type of the weights (%(default)s)")
    parser.add_argument(
        "--max_file_gb", type=float, default=MAX_FILE_BYTES / 1e9, help="weights in one file, in GB (%(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=(VECO, XLM_ROBERTA.model_type),
        default=VECO,
        help="xlm-roberta: without the cross-attention, for what does not know VECO (%(default)s)",
    )
    parser.add_argument(
        "--layer", type=int, help=f"whose states sentence-transformers takes (default: at {USUAL_DEPTH} of all layers)"
    )
    arguments = parser.parse_args()
    if arguments.adapter:
        refuse_unread(parser, arguments, dict.fromkeys(("format", "dtype", "layer", "max_file_gb"), "a whole model"))
    if arguments.max_file_gb <= 0:
        raise ValueError(f"--max_file_gb must be above 0, found {arguments.max_file_gb}")
    run_dir, step = run_and_step(arguments.run, arguments.step)
    steps = chosen_checkpoints(run_dir, step, arguments.average)
    tell(f"{run_dir}: exporting update {', '.join(map(str, steps))}")
    if arguments.adapter:
        print(export_adapter(run_dir, arguments.output, max(steps), arguments.average))
        return
    form = Form(arguments.format, arguments.dtype, int(arguments.max_file_gb * 1e9), arguments.layer)
    print(export(run_dir, arguments.output, max(steps), arguments.average, form))


if __name__ == "__main__":
    run_main(main)
