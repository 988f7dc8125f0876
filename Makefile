# Every target does its own set-up: a virtual environment in .venv with exactly what locks/dev.txt names.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTHON ?= python3

.PHONY: bench check clean docs help lock setup test

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

setup: $(STAMP) ## virtual environment with locked packages

$(STAMP): locks/dev.txt pyproject.toml hw-sim/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e hw-sim
	@touch $@

VEHICLES ?= 0
FRAMES ?=
BROKER ?= iotcore

bench: $(STAMP) ## one lane on this machine: broker, collector, simulator and the real daemon
	$(VENV)/bin/hw-sim bench --vehicles $(VEHICLES) --broker $(BROKER) $(if $(FRAMES),--frames "$(FRAMES)")

check: $(STAMP) ## ruff, mypy --strict, import-linter and the fast tests: under a minute
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m pytest tests/unit tests/vectors

docs: $(STAMP) ## write docs/errors.md again
	$(PY) -m edge.errors > docs/errors.md

test: check ## everything: check, then the tests with real peers
	sh tests/system-packages.sh
	$(PY) -m pytest tests/contract tests/integration

clean: ## remove what was built here
	rm -rf $(VENV) $(VENV)-* build dist

lock: ## make the lock files again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	  --no-emit-package sealane --no-emit-package sealane-hw-sim locks/dev.in -o locks/dev.txt
