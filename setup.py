"""The VECO packages. What was tested together is pinned in constraints.txt."""

import runpy
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).resolve().parent
TOP = ("veco", "data_tools", "training", "pretrain", "finetune", "inference", "analysis")
# The table of commands, of a file that imports nothing but the standard library.
COMMANDS = runpy.run_path(str(ROOT / "finetune" / "commands.py"))["COMMANDS"]

setup(
    name="veco",
    version="0.3.0",
    description="VECO cross-lingual pre-training, from raw text to translation and XTREME",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # Namespace packages: recipes, lexicons and DeepSpeed's settings lie in folders without code, found like the rest.
    packages=find_namespace_packages(include=[*TOP, *(f"{package}.*" for package in TOP), "ds_configs"]),
    package_data={"": ["*.yaml", "*.tsv", "*.json", "*.jinja"]},
    entry_points={
        "console_scripts": [
            "veco = finetune.commands:main",
            *(f"veco-{name} = finetune.commands:main" for name in COMMANDS),
        ]
    },
    install_requires=[
        "torch>=2.6",  # the model and its training
        "transformers>=5.0",  # configuration, generate(), Auto classes and the XLM-R we convert from
        "accelerate>=1.0",  # transformers needs it to load models under DeepSpeed's ZeRO-3
        "deepspeed>=0.17",  # the launcher and ZeRO; imported in training/engine/deepspeed_engine.py alone
        "safetensors>=0.5",  # weights on disk, without pickle
        "sentencepiece>=0.2.2",  # trains the tokenizer and encodes ten times faster than the alternatives
        "tokenizers>=0.22",  # encodes with every other kind of tokenizer, and trains WordPiece and byte-level BPE
        "protobuf>=4",  # transformers reads SentencePiece models through it
        "numpy>=1.26",  # memory-mapped shards and vectorised sampling
        "scipy>=1.12",  # sparse counts of which pieces translate each other; matching of words, spanning trees, ranks
        "pyyaml>=6",  # CORPUS.yaml and recipes
        "datatrove>=0.10",  # the stages of data preparation on one machine, Slurm or Ray; MinHash
        "fsspec[http]>=2024.2",  # text from anywhere: s3://, hf://, https://, …
        "zstandard>=0.22",  # .zst input
        "pyarrow>=15",  # Parquet input
        "datasets>=4",  # text from the hub, streamed
        "huggingface_hub>=1",  # the commit of a data set, so that all tasks read the same
        "sentencex>=1",  # sentence splitting for running text in all languages of XLM-R
        "langcodes>=3.4",  # what languages and scripts are called, and which belong together
        "fonttools>=4.50",  # the script of every Unicode character
        "fasttext-numpy2-wheel>=0.9.2",  # language identification with the user's fastText or GlotLID model
        "psutil>=5.9",  # whether other programs use the cores; in tests, the processes of a launcher
        "rich>=13",  # tables
        "tqdm>=4.66",  # progress bars
        "tensorboard>=2.16",  # curves while a run goes on
        "matplotlib>=3.8",  # curves as PNG at its end; figures of analysis/
        "jinja2>=3.1",  # the page of analysis.report, whose template escapes all texts
        "sacrebleu>=2.4",  # BLEU, chrF and TER with signatures, paired bootstrap
        "seqeval>=1.2.2",  # F1 of tagged text, with which XTREME scores POS and NER
        "scikit-learn>=1.3",  # F1, correlations of labels, nDCG and average precision; benchmarks: weighted n-grams
        "sacremoses>=0.2",  # Moses tokenisation for tokenised BLEU as published
        "regex>=2023.6",  # Unicode's properties of characters as Perl has them, by which Moses cuts
    ],
    extras_require={
        "test": [
            "pytest>=8",  # the suite
            "pytest-xdist",  # two processes run it: most tests are single processes that import much
            "hypothesis>=6",  # properties of shards, batches and sampling
            "megatron-core>=0.12",  # reads our shards, and writes the same bytes
            "ray>=2.40",  # prepare --executor ray
            "ctranslate2>=4.8",  # export_ct2, generate --engine ct2
            "peft>=0.21",  # fine-tuning with lora_rank; the contract of models: LoRA, IA3 and prompts of every kind
            "optimum-quanto>=0.2.7",  # the contract of models: weights in 8 bits
            "onnx>=1.20",  # export_encoder --to onnx; the contract of models: what torch.onnx.export writes
            "onnxscript>=0.7",  # torch.onnx.export translates with it
            "onnxruntime>=1.24",  # runs what was exported
            "fastapi>=0.115",  # inference.serve
            "uvicorn>=0.30",  # inference.serve
            "prometheus-client>=0.20",  # inference.serve
            "faiss-cpu>=1.9",  # inference.SentenceIndex, which finds the same without it
            "mteb>=2",  # its evaluation of inference.mteb_encoder on a stand-in task
            "sentence-transformers>=6",  # pretrain.export's directories, opened by SentenceTransformer
        ],
        "dev": [
            "ruff>=0.8",  # lint and format
            "mypy>=1.13",  # types
            "types-PyYAML",  # stubs for mypy
            "types-tqdm",  # stubs for mypy
        ],
        "ct2": [
            "ctranslate2>=4.8",  # fast decoding and encoders: export_ct2, generate --engine ct2, export_encoder
            # Its wheel calls libcublas.so.12 on a card; torch's wheels have brought that of CUDA 13 since 2.11.
            "nvidia-cublas-cu12>=12.1,<13; platform_system == 'Linux' and platform_machine == 'x86_64'",
        ],
        "onnx": [
            "onnx>=1.20",  # inference.export_encoder --to onnx
            "onnxscript>=0.7",  # torch.onnx.export translates with it
            "onnxruntime>=1.24",  # computes with what was exported, on CPUs of any kind
        ],
        "serve": [
            "fastapi>=0.115",  # inference.serve: requests checked against types, and their description (OpenAPI)
            "pydantic>=2.8",  # fail_fast: one error for a list of wrong texts, not one for each
            "uvicorn>=0.30",  # speaks HTTP, and answers what it has received before it stops
            "prometheus-client>=0.20",  # /metrics as Prometheus reads it
        ],
        "search": [
            "faiss-cpu>=1.9",  # inference.SentenceIndex among many sentences
        ],
        "mteb": [
            "mteb>=2",  # its tasks for inference.mteb_encoder
        ],
        "ray": [
            "ray>=2.40",  # prepare --executor ray
        ],
        "peft": [
            "peft>=0.21",  # finetune/understanding with lora_rank
        ],
        "umap": [
            "umap-learn>=0.5.7",  # analysis.similarity: the map of sentences, which is by t-SNE without it
        ],
        "gpu": [
            "ninja>=1.11",  # DeepSpeed compiles its Adam in host memory with it, where the optimizer is offloaded
        ],
    },
)
