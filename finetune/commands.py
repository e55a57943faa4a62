"""The commands of an installation: `veco-prepare …`, or `veco prepare …`, is `python -m data_tools.prepare …`."""

from __future__ import annotations

import importlib.metadata
import runpy
import sys
from pathlib import Path

PACKAGE = "veco"
# Name after `veco-` -> module, in the order of the workflow. setup.py reads this table.
COMMANDS = {
    "toy-corpus": "data_tools.toy_corpus",
    "train-tokenizer": "data_tools.train_tokenizer",
    "import-tokenizer": "data_tools.import_tokenizer",
    "prepare": "data_tools.prepare",
    "describe": "data_tools.describe",
    "plan": "pretrain.plan",
    "pretrain": "pretrain.train",
    "plot": "training.plot",
    "export": "pretrain.export",
    "convert": "veco.convert",
    "vocabulary": "veco.vocabulary",
    "swap-embeddings": "veco.swap_embeddings",
    "random-model": "finetune.random_model",
    "mt-train": "finetune.mt.train",
    "average": "finetune.mt.average",
    "generate": "finetune.mt.generate",
    "score": "finetune.mt.score",
    "back-translate": "finetune.mt.back_translate",
    "mt-distil": "finetune.mt.distil",
    "export-ct2": "finetune.mt.export_ct2",
    "mt-compare": "finetune.mt.compare",
    "understanding-train": "finetune.understanding.train",
    "understanding-search": "finetune.understanding.search",
    "understanding-predict": "finetune.understanding.predict",
    "understanding-layers": "finetune.understanding.layers",
    "understanding-label": "finetune.understanding.label",
    "understanding-translate": "finetune.understanding.translate",
    "understanding-evaluate": "finetune.understanding.evaluate",
    "understanding-compare": "finetune.understanding.compare",
    "study": "finetune.study",
    "export-encoder": "inference.export_encoder",
    "serve": "inference.serve",
    "attention": "analysis.attention",
    "alignment": "analysis.alignment",
    "syntax": "analysis.syntax",
    "similarity": "analysis.similarity",
    "languages": "analysis.languages",
    "forgetting": "analysis.forgetting",
    "bias": "analysis.bias",
    "report": "analysis.report",
    "demo": "finetune.demo",
}
EXIT_BAD_INPUT = 2


def main() -> None:
    """Run the command named by the program itself or by the first argument, as `python -m MODULE` would."""
    program, *arguments = sys.argv
    name = Path(program).stem.removeprefix(PACKAGE).removeprefix("-")
    if not name:
        name, *arguments = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"{PACKAGE} {importlib.metadata.version(PACKAGE)}")
    elif name in COMMANDS:
        sys.argv = [program, *arguments]
        runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
    else:
        sys.stderr.write(f"error: no command {name!r}; expected one of {', '.join(COMMANDS)}\n")
        sys.exit(EXIT_BAD_INPUT)


def overview() -> str:
    """The text of `veco --help`: every command and its module."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  python -m {module}" for name, module in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PACKAGE} [--version] COMMAND …, or {PACKAGE}-COMMAND …",
            "",
            "Each command runs a module, and has a --help of its own:",
            *lines,
        ]
    )


if __name__ == "__main__":
    main()
