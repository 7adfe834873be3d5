# Everything runs in one environment, .venv, that `make setup` makes. TORCH_INDEX names a package index of CPU builds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHARED := $(abspath ../shared/data)
ifneq ($(wildcard $(SHARED)),)
export PENSTOCK_DATA ?= $(SHARED)
endif
export ORT_DISABLE_TELEMETRY := 1
# make chaos SEEDS=1-20 CHAOS='--requests 100000 --rate 4000 --out runs.jsonl' goes on where it was ended.
SEEDS ?= 1-6
CHAOS ?=
TORCH_SOURCE = $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),)

.PHONY: setup demo demo-kafka test check bench bench-serving chaos hazards docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt $(TORCH_SOURCE) torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/penstock demo --out demo

demo-kafka: setup
	test -d demo/artifact || $(BIN)/penstock demo --out demo
	$(BIN)/python -m bench.demo_kafka --demo demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m bench.decide
	$(BIN)/python -m bench.estimates
	$(BIN)/python -m bench.coverage
	$(BIN)/python -m bench.hydrothermal
	$(BIN)/python -m bench.hydrothermal_decide
	$(BIN)/python -m bench.sddp

bench-serving: setup
	$(BIN)/python -m bench.serving

chaos: setup
	$(BIN)/python -m pytest -m chaos
	$(BIN)/python -m bench.chaos --seeds $(SEEDS) $(CHAOS)

hazards: setup
	$(BIN)/python -m bench.hazards

docs: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf demo dist build .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
