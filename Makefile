# `make` prints the targets. PYTHON chooses the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV ?= .venv
FUZZ ?= 4000
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install install-postgres demo test test-postgres lint security fuzz bench clean

help:  ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## make the virtual environment with everything for development

demo: $(VENV)/.installed  ## run the engine on 10 MB of source code, with a scripted model if no key is set
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed lint  ## lint, type check and run the tests
	$(BIN)/python -m pytest

$(VENV)/.postgres: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[postgres]'
	@touch $@

install-postgres: $(VENV)/.postgres  ## install with LangGraph's PostgreSQL saver

test-postgres: $(VENV)/.postgres  ## suspended runs in PostgreSQL (starts a server of its own; needs its programs)
	$(BIN)/python -m pytest -m postgres tests/langchain

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

security: $(VENV)/.installed  ## cells run, attacks stopped, fuzzing, leaks
	$(BIN)/python -m benchmarks.security

fuzz: $(VENV)/.installed  ## the long property tests, FUZZ programs each
	FUZZ=$(FUZZ) $(BIN)/python -m pytest tests -k "fuzz or thousand or endless"

bench: $(VENV)/.installed  ## ratios against baselines in the same run
	$(BIN)/python -m benchmarks

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
