# A fresh machine needs Python 3.11 or later with venv, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup demo test test-all test-lowest lint format docs pictures dist benchmark clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

setup: $(VENV)/.installed ## Make the virtual environment

demo: setup ## Do the main job once on real images
	$(BIN)/nasnet-zoo demo

test: setup ## Run the tests, on the TensorFlow and the JAX backend
	$(BIN)/python -m pytest -n 2
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m 'not slow and not tensorflow' tests/cells

test-all: setup ## Run the slow tests too, and those of the PyTorch backend
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs,hub,torch]'
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -n 2 -m '' tests/search
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -n 2 -m '' --ignore tests/search
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m 'not tensorflow' tests/cells tests/nasnet_zoo

test-lowest: ## Run the tests with the oldest versions that setup.cfg allows
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet -c constraints-lowest.txt -e '.[dev]'
	.venv-lowest/bin/python -m pytest -n 2

lint: setup ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/lint
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/lint .
	cp pyproject.toml build/lint
	cd build/lint && ../../$(BIN)/mypy -p nasnet_zoo && ../../$(BIN)/lint-imports

format: setup ## Put the code into the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Rewrite the table of models and build the site, build/site
	$(BIN)/nasnet-zoo models --markdown docs/models.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	rm -rf build/package
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/package .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: setup ## Draw the pictures of README and docs
	$(BIN)/python docs/pictures.py

dist: setup ## Build the wheel and the sdist, into dist
	rm -rf build dist
	$(BIN)/python -m build

benchmark: setup ## Compare with Keras's own NASNet
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/input.py --recipe digits --data digits

clean: ## Remove what the other targets made
	rm -rf $(VENV) .venv-lowest build dist demo-out *.egg-info
