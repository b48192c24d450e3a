# `make demo` and `make test` are all a new machine needs (Python 3.11+, pip, make).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export MYPYPATH = .pkg

.PHONY: setup demo unit test slow check format lint layers types bench reference campaign clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt "setuptools>=77"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[fast,plot,heif,raw,bench,onnx,dev]"
	# Not made for every system and every new Python: without it the network runs in torch.
	-$(BIN)/python -m pip install --quiet --only-binary :all: -c constraints.txt openvino
	# Likewise: without it a scene with depth needs poses of its own.
	-$(BIN)/python -m pip install --quiet --only-binary :all: -c constraints.txt pycolmap
	mkdir -p .pkg && ln -sfn .. .pkg/freezeframe
	touch $@

demo: setup
	$(BIN)/freezeframe demo $(if $(CLIP),--clip "$(CLIP)") --out out/demo

# Under a minute: no media, no whole commands, no training.
unit: setup
	$(BIN)/python -m pytest -m unit -n auto --maxprocesses 8 --dist worksteal

# Several tests at a time, each on one core (tests/conftest.py); the slow ones have all cores to themselves.
test: setup
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --maxprocesses 8 --dist worksteal

slow: setup
	$(BIN)/python -m pytest -m "slow and not gpu"

check: format lint layers types test slow

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

layers: setup
	PYTHONPATH=.pkg $(BIN)/lint-imports

types: setup
	$(BIN)/mypy -p freezeframe

bench: setup
	$(BIN)/python -m benchmarks.run

# docs/reference/config.md, json.md and schemas/, from the dataclasses; a test says that they are current.
reference: setup
	$(BIN)/python -m benchmarks.release.reference

# Hours: harmed files, kills, races, full disks. The slow tests hold a small part of it.
campaign: setup
	$(BIN)/python -m tests.campaigns.run --out docs/results/campaigns.md

clean:
	rm -rf build dist out .pkg .mypy_cache .pytest_cache .ruff_cache *.egg-info
