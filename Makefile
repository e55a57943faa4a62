# `make demo` and `make test` each work on their own in a fresh clone: they set up the environment first.
PYTHON ?= python3
VENV ?= .venv
TORCH := 2.13.0
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# torch.distributed warns about its own deprecated functions.
QUIET := PYTHONWARNINGS=ignore::FutureWarning
CPU_INDEX := https://download.pytorch.org/whl/cpu
# `make setup TORCH_INDEX=URL` takes torch from there: https://download.pytorch.org/whl/cu126 for a V100.
TORCH_INDEX ?=

.PHONY: help setup demo test test-all lint types format tables figures clean

help:
	@echo "make demo      the whole pipeline on the embedded corpus in about 10 minutes: text to BLEU"
	@echo "make test      the test suite (make test-all adds the slow tests)"
	@echo "make lint      ruff (make types: mypy; make format: reformat with ruff)"
	@echo "make tables    rewrite the tables of docs/tasks.md and objectives.md (make figures: redraw the figures of docs/)"
	@echo "make clean     remove the environment and build files; runs/ is kept"

setup: $(READY)

# From TORCH_INDEX if it is given. Without a GPU, a CPU build of torch: from pip's configured index if it has one, otherwise from PyTorch's.
$(READY): setup.py pyproject.toml constraints.txt finetune/commands.py
	@echo "Setting up $(VENV): PyTorch, DeepSpeed, transformers, libraries that read and prepare text, and the test tools."
	@echo "130 packages, 0.8 GB to download, 2.6 GB on disk (several GB more with a GPU: the CUDA libraries)."
	@echo "About 3 minutes on a fast connection; packages that are already installed are kept."
	@echo "[1/3] create the environment (5 s)"
	@$(PYTHON) -m venv $(VENV)
	@date +%s > $(VENV)/.begun
	@echo "[2/3] PyTorch $(TORCH) (1 minute)"
	@if [ -n "$(TORCH_INDEX)" ]; then \
		$(RUN) -m pip install --quiet "torch==$(TORCH)" --index-url "$(TORCH_INDEX)"; \
	elif command -v nvidia-smi >/dev/null 2>&1; then \
		$(RUN) -m pip install --quiet "torch==$(TORCH)"; \
	else \
		$(RUN) -m pip install --quiet "torch==$(TORCH)+cpu" 2>/dev/null \
		|| $(RUN) -m pip install --quiet "torch==$(TORCH)" --index-url $(CPU_INDEX); \
	fi
	@echo "[3/3] the other packages (2 minutes)"
	@$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[test,dev]"
	@echo "Ready after $$(( $$(date +%s) - $$(cat $(VENV)/.begun) )) s."
	@echo "make demo pre-trains a small VECO and translates with it in about 10 minutes, and prints the time left;"
	@echo "make test runs the test suite, about 10 minutes."
	@rm $(VENV)/.begun
	@touch $(READY)

demo: setup
	$(QUIET) $(RUN) -m finetune.demo --output runs/demo

# Two processes, each of which has whole modules, since their tests share what is slow to make, in the order of files,
# so that the longest do not come last.
test: setup
	$(QUIET) $(RUN) -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m "not slow and not gpu"

test-all: setup
	$(QUIET) $(RUN) -m pytest -m "not gpu"

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: setup
	$(VENV)/bin/mypy

tables: setup
	$(RUN) docs/list_catalogues.py
	$(RUN) docs/list_objectives.py

figures: setup
	$(RUN) docs/draw_flow.py
	$(RUN) docs/draw_model.py
	$(RUN) docs/draw_architecture.py

clean:
	rm -rf $(VENV) build *.egg-info
