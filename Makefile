# `make` prints the targets. PYTHON chooses the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV ?= .venv
FUZZ ?= 4000
KILLS ?= 300
RUNS ?= 200
# The whole suite runs in processes side by side, a file in one of them: NPROC=0 for one process.
NPROC ?= auto
BESIDE := -n $(NPROC) --maxprocesses 4 --dist loadfile
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What a change of a dependency can break: the command, the models, both adapters, the graph. SHORT: a run of each.
ADAPTERS := tests/cli tests/models tests/values tests/graph tests/langchain tests/dspy $(wildcard tests/test_*.py)
SHORT := tests/cli tests/models tests/graph/test_runs.py tests/langchain/test_standard.py \
	tests/dspy/test_rlm_module.py tests/test_examples.py tests/test_readme.py tests/test_architecture.py

.DEFAULT_GOAL := help
.PHONY: help install demo test test-lowest test-newest test-short-lowest test-short-newest test-short-ray test-postgres chaos workers test-server test-aegra test-browser test-tracers test-notebook test-ray pictures docs serve lint lock \
	lock-upgrade prices security fuzz bench bench-peers bench-peers-quick bench-floor model-table clean

help:  ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes --requirement requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

install: $(VENV)/.installed  ## make the virtual environment with everything for development, from the lock

demo: $(VENV)/.installed  ## run the engine on 10 MB of source code, with a scripted model if no key is set
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed lint  ## lint, type check and run the tests, in a process for each core (NPROC=0: in one)
	$(BIN)/python -m pytest $(BESIDE)

test-postgres: $(VENV)/.installed  ## suspended runs, leases and workers in PostgreSQL (starts a server of its own; needs its programs)
	$(BIN)/python -m pytest -m postgres tests/langchain tests/graph tests/workers tests/chaos

$(VENV)-tracers/.installed: $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-tracers
	$(BIN)/uv pip install --quiet --python $(VENV)-tracers --editable '.[dev]' 'mlflow>=3.10' 'opentelemetry-sdk>=1.30' \
		'opentelemetry-exporter-otlp-proto-http>=1.30' 'openinference-instrumentation-langchain>=0.1.60' \
		'openinference-instrumentation-dspy>=0.1.30' 'langchain-community>=0.4'
	@touch $@

test-tracers: $(VENV)-tracers/.installed  ## LangSmith, OpenTelemetry (OpenInference) and MLflow, each beside a collector of its own
	$(VENV)-tracers/bin/python -m pytest tests/tracers -m "tracers or not tracers"

$(VENV)-docs/.installed: $(VENV)/.installed pyproject.toml
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-docs
	$(BIN)/uv pip install --quiet --python $(VENV)-docs --editable '.[docs]'
	@touch $@

docs: $(VENV)-docs/.installed  ## build the documentation site into build/site, with warnings as errors and links checked
	$(VENV)-docs/bin/python tools/site.py

$(VENV)-notebook/.installed: $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-notebook
	$(BIN)/uv pip install --quiet --python $(VENV)-notebook --editable '.[dev]' 'nbclient>=0.10' 'ipykernel>=6.29' \
		'deepagents>=0.7'
	@touch $@

test-notebook: $(VENV)-notebook/.installed  ## what a Jupyter kernel shows of runs and graphs; the example notebooks; a deep agent
	$(VENV)-notebook/bin/python -m pytest -m notebook tests/notebook

$(VENV)-ray/.installed: $(VENV)/.installed pyproject.toml
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-ray
	$(BIN)/uv pip install --quiet --python $(VENV)-ray --editable '.[dev,ray]'
	@touch $@

test-ray: $(VENV)-ray/.installed  ## sandboxes and data sets on a Ray cluster of three nodes of its own, RUNS runs while a node is killed
	RAY_RUNS=$(RUNS) $(VENV)-ray/bin/python -m pytest -m ray tests/cluster

test-short-ray: $(VENV)-ray/.installed
	RAY_RUNS=24 $(VENV)-ray/bin/python -m pytest -m 'ray and not slow' tests/cluster

pictures: $(VENV)-notebook/.installed  ## make the pictures of docs/seeing-a-run.md anew (needs chromium)
	$(BIN)/uv pip install --quiet --python $(VENV)-notebook 'nbconvert>=7.16' 'pillow>=11'
	$(VENV)-notebook/bin/python tools/pictures.py

test-browser: $(VENV)/.installed  ## reports in a real browser (needs chromium)
	$(BIN)/python -m pytest -m browser tests/views

chaos: $(VENV)/.installed  ## kill KILLS processes at random moments, on SQLite and a PostgreSQL of its own, and count what was lost
	$(BIN)/python -m tests.chaos --kills $(KILLS)

workers: $(VENV)/.installed  ## two workers on a PostgreSQL of its own, 50 runs, one worker killed in the middle
	$(BIN)/python -m tests.workers

$(VENV)-server/.installed $(VENV)-aegra/.installed: $(VENV)-%/.installed: $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$*
	$(BIN)/uv pip install --quiet --python $(VENV)-$* --editable '.[openai,$*]'
	@touch $@

serve: $(VENV)-server/.installed  ## serve the graphs on LangGraph's own server, for Studio (models from the environment)
	$(VENV)-server/bin/langgraph dev

test-server: $(VENV)-server/.installed  ## the graphs on LangGraph's own server
	LANGGRAPH_PROGRAM=$(CURDIR)/$(VENV)-server/bin/langgraph $(BIN)/python -m pytest -m server tests/served

test-aegra: $(VENV)-aegra/.installed  ## the graphs on the open server Aegra, with a PostgreSQL of its own (needs its programs)
	AEGRA_PROGRAM=$(CURDIR)/$(VENV)-aegra/bin/aegra $(BIN)/python -m pytest -m server tests/served

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/.installed  ## write requirements/dev.txt anew where pyproject.toml has changed
	$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' --output-file requirements/dev.txt $(UPGRADE)

prices: $(VENV)/.installed  ## take the installed litellm's prices of common models into the bundled price list
	$(BIN)/python tools/prices.py

lock-upgrade:  ## take the newest version of every dependency into the lock
	$(MAKE) lock UPGRADE=--upgrade

# The versions that pyproject.toml allows, each in a virtual environment of its own.
$(VENV)-lowest/.installed $(VENV)-newest/.installed: $(VENV)-%/.installed: $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$*
	$(BIN)/uv pip install --quiet --python $(VENV)-$* --editable '.[dev]' \
		--resolution $(if $(filter lowest,$*),lowest-direct,highest)
	@touch $@

test-lowest: $(VENV)-lowest/.installed  ## the command and the adapters with the lowest versions that are allowed
	$(VENV)-lowest/bin/python -m pytest $(BESIDE) $(ADAPTERS)

test-newest: $(VENV)-newest/.installed  ## the command and the adapters with today's newest versions
	$(VENV)-newest/bin/python -m pytest $(BESIDE) $(ADAPTERS)

test-short-lowest test-short-newest: test-short-%: $(VENV)-%/.installed
	$(VENV)-$*/bin/python -m pytest $(BESIDE) $(SHORT)

security: $(VENV)/.installed  ## cells run, attacks stopped, fuzzing, leaks
	$(BIN)/python -m benchmarks.security

fuzz: $(VENV)/.installed  ## the long property tests, FUZZ programs each
	FUZZ=$(FUZZ) $(BIN)/python -m pytest tests -k "fuzz or thousand or endless"

bench: $(VENV)/.installed  ## ratios against baselines in the same run
	$(BIN)/python -m benchmarks

$(VENV)-bench/.installed: $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-bench
	$(BIN)/uv pip install --quiet --python $(VENV)-bench --editable '.[dev]' 'matplotlib>=3.9'
	@touch $@

bench-peers: $(VENV)-bench/.installed  ## this package beside others: writes docs/benchmarks.md (hours; started again, it goes on)
	$(VENV)-bench/bin/python -m benchmarks.peers

bench-peers-quick: $(VENV)/.installed  ## a short form of it, for a terminal
	$(BIN)/python -m benchmarks.peers --quick

bench-floor: $(VENV)/.installed  ## the front doors beside a bare client with exec(), in two minutes
	$(BIN)/python -m benchmarks.floor

model-table: $(VENV)/.installed  ## evaluate MODELS (ROOT or ROOT=SUB, with commas), write docs/models.md; keys from the environment
	$(BIN)/python tools/model_table.py $(MODELS) $(OPTIONS)

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest $(VENV)-server $(VENV)-aegra $(VENV)-tracers $(VENV)-notebook $(VENV)-ray $(VENV)-docs $(VENV)-bench $(VENV)-peers build .mypy_cache .ruff_cache .pytest_cache .hypothesis
