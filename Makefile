# Everything a developer types. `make demo` and `make test` set up all they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test nightly lint check bench bench-estimate bench-borrowed bench-full models golden docs clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: pyproject.toml tools/setup.sh
	@PYTHON=$(PYTHON) sh tools/setup.sh $(VENV)

demo: $(VENV)/.ready ## install, build the emulated Pi, measure a model on it, render the report
	@sh tools/setup.sh --host-packages emulation
	@$(BIN)/pytest suites/ --device rpi4

test: $(VENV)/.ready ## all tests, with the emulated device and the browser; two at a time
	@sh tools/setup.sh --host-packages emulation tests
	@$(BIN)/pytest tests -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder

nightly: $(VENV)/.ready ## a compressed 72-hour soak of a demo model on the emulated Pi, then the gate
	@sh tools/setup.sh --host-packages emulation
	@$(BIN)/pytest suites/ --device rpi4 --plan suites/nightly.toml --soak 72h
	@$(BIN)/harness gate reports/latest

lint: $(VENV)/.ready ## ruff and strict mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@MYPYPATH=examples/harness-ncnn $(BIN)/mypy --package harness_ncnn

check: lint ## lint, unit tests, local contracts and goldens: no device, under two minutes
	@$(BIN)/pytest tests -m "not device and not browser" -q --ignore=tests/plugin

bench: $(VENV)/.ready ## the measured claims, as ratios
	@sh tools/setup.sh --host-packages emulation tests
	@$(BIN)/pip install --quiet --editable '.[bench]'
	@$(BIN)/python -m benchmarks

bench-estimate: $(VENV)/.ready ## estimated milliseconds against published ones, and what each term gives
	@$(BIN)/python -m benchmarks estimate
	@$(BIN)/python -m benchmarks.estimate show
	@$(BIN)/python -m benchmarks.estimate_borrowed show

bench-borrowed: $(VENV)/.ready .venv-models/.ready ## LiteRT's MobileNets, made and counted anew, against published figures
	@sh tools/setup.sh --host-packages emulation
	@.venv-models/bin/python benchmarks/estimate_borrowed_models.py --out build/mobilenets
	@$(BIN)/python -m benchmarks.estimate_borrowed count --models build/mobilenets

bench-full: $(VENV)/.ready ## the same with the whole detection table; goes on where it was interrupted
	@sh tools/setup.sh --host-packages emulation tests
	@$(BIN)/pip install --quiet --editable '.[bench]'
	@$(BIN)/python -m benchmarks --full --docs

.venv-models/.ready: tools/models-requirements.txt
	@$(PYTHON) -m venv .venv-models
	@.venv-models/bin/pip install --quiet -r tools/models-requirements.txt
	@touch $@

models: .venv-models/.ready ## train the demo models again (needs TensorFlow, in an environment of its own)
	@.venv-models/bin/python tools/make_models.py --out models

golden: $(VENV)/.ready ## accept the tests' actual output as golden
	@$(BIN)/pytest tests/golden --update-golden -q

clean: ## remove what the targets made in this folder (not the cache)
	rm -rf $(VENV) .venv-models build *.egg-info .mypy_cache .ruff_cache .pytest_cache
