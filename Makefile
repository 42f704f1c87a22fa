# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow gpu-check lint ui screenshots stage-lock clean

demo: $(STAMP)
	$(BIN)/textmill run demo

ui: $(STAMP)
	$(BIN)/textmill ui

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m tests.slow

# What needs a CUDA device; each test skips itself, with its reason, where there is none.
gpu-check: $(STAMP)
	$(BIN)/python -m pytest -o addopts= -rs -v -m gpu

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

screenshots: $(STAMP)
	$(BIN)/python -m tests.screenshots

# After a change that leaves what the stages make as it was; otherwise raise the stage's version.
stage-lock: $(STAMP)
	$(BIN)/python -m tests.stage_lock

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Textmill needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .textmill .pytest_cache .mypy_cache .ruff_cache build *.egg-info
