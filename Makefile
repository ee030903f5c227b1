# Every target sets up its own virtual environment when there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The peers live in an environment of their own.
BENCH_VENV ?= .venv-bench
BENCH := $(BENCH_VENV)/bin/python
BENCH_READY := $(BENCH_VENV)/.ready
TASK ?= efflite0
PEER ?= nncf
ARGS ?=

.PHONY: demo test test-all check format bench bench-scale clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

demo: $(READY)  ## the whole flow on the bundled model, no network needed
	$(BIN)/maxdrop demo

test: $(READY)  ## all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)  ## all tests
	$(BIN)/python -m pytest

check: $(READY)  ## what has to pass before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BENCH_READY): pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH) -m pip install --quiet --upgrade pip
	$(BENCH) -m pip install --quiet torch==2.13.0
	$(BENCH) -m pip install --quiet --no-deps rapidocr-onnxruntime==1.4.4
	$(BENCH) -m pip install --quiet --editable '.[bench]'
	touch $(BENCH_READY)

bench: $(BENCH_READY)  ## one task against one peer: TASK=... PEER=... ARGS="--mode control --max-drop 0.005"
	$(BENCH) -m benchmarks run $(TASK) --peer $(PEER) $(ARGS)

bench-scale: $(BENCH_READY)  ## cost against number of ops and model size
	$(BENCH) -m benchmarks scale --peer $(PEER) --axis ops $(ARGS)
	$(BENCH) -m benchmarks scale --peer $(PEER) --axis mb $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH_VENV) .pytest_cache .mypy_cache .ruff_cache out
