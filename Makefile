# Every target does its own set-up: a virtual environment in .venv with exactly what locks/dev.txt names.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTHON ?= python3

.PHONY: bench benchmark benchmark-seal check clean docs fuzz help lock models prove-no-images setup test test-tflite

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
	@[ $(BROKER) != mosquitto ] || PATH=$$PATH:/usr/sbin command -v mosquitto >/dev/null || sh tests/system-packages.sh mosquitto
	$(VENV)/bin/hw-sim bench --vehicles $(VEHICLES) --broker $(BROKER) $(if $(FRAMES),--frames "$(FRAMES)")

PLATES ?= $(SEALANE_PLATES)

benchmark: $(STAMP) $(VENV)-peer/.installed ## the reader beside PP-OCRv4, on PLATES=folder or on rendered scenes
	$(PY) -m models.benchmark --peer $(VENV)-peer/bin/python $(if $(PLATES),--plates "$(PLATES)")

$(VENV)-peer/.installed: locks/peer.txt
	$(PYTHON) -m venv $(VENV)-peer
	$(VENV)-peer/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

models: $(VENV)-train/.installed ## train both networks again (hours; PLATES=folder adds photographs; goes on where it was)
	$(VENV)-train/bin/python -m models.train all $(if $(PLATES),--plates "$(PLATES)") $(if $(SCALE),--scale $(SCALE))

$(VENV)-train/.installed: locks/train.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-train
	$(VENV)-train/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(VENV)-train/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

check: $(STAMP) ## ruff, mypy --strict, import-linter and the fast tests: under a minute
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m pytest tests/unit tests/vectors

docs: $(STAMP) ## write docs/errors.md again
	$(PY) -m edge.errors > docs/errors.md

test: check test-tflite $(VENV)-cwt/.installed $(VENV)-fuzz/.installed ## everything: check, the reader on tflite-runtime, then the tests with real peers
	sh tests/system-packages.sh
	$(PY) -m pytest tests/contract tests/integration
	$(PY) -m tests.campaign.prove_no_images

prove-no-images: $(STAMP) ## as root: watch a running daemon keep no image, and leaking builds be caught
	sh tests/system-packages.sh
	$(PY) -m tests.campaign.prove_no_images

# tflite-runtime ends at Python 3.11; elsewhere its tests can't run and say so.
PYTHON311 := $(shell for p in $(PYTHON) python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)

test-tflite: $(if $(PYTHON311),$(VENV)-tflite/.installed) ## the reader's tests on tflite-runtime (needs Python 3.11)
ifdef PYTHON311
	$(VENV)-tflite/bin/python -m pytest --noconftest tests/unit/test_reading_*.py tests/contract/test_reading_runtime.py \
	  tests/integration/test_read_*.py
else
	@echo "no Python 3.11 here: the reader's tests on tflite-runtime are left out"
endif

$(VENV)-tflite/.installed: locks/tflite.txt pyproject.toml
	$(PYTHON311) -m venv $(VENV)-tflite
	$(VENV)-tflite/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/tflite.txt
	$(VENV)-tflite/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

benchmark-seal: $(STAMP) ## bytes and milliseconds of sealing, verifying, opening and storing
	$(PY) -m tests.campaign.seal_figures

SECONDS ?= 10
TARGETS ?=
JOBS ?= 1
KEEP ?=

fuzz: $(VENV)-fuzz/.installed ## coverage-guided fuzzing of every parser that meets outside bytes: SECONDS each, JOBS at a time; KEEP=1 keeps what it finds
	$(VENV)-fuzz/bin/python -m tests.campaign.fuzz $(TARGETS) --seconds $(SECONDS) --jobs $(JOBS) $(if $(KEEP),--keep)

$(VENV)-fuzz/.installed: locks/fuzz.txt
	$(PYTHON) -m venv $(VENV)-fuzz
	$(VENV)-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)-cwt/.installed: locks/cwt.txt
	$(PYTHON) -m venv $(VENV)-cwt
	$(VENV)-cwt/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

clean: ## remove what was built here
	rm -rf $(VENV) $(VENV)-* build dist

lock: ## make the lock files again (needs uv)
	for name in dev train tflite fuzz cwt peer lane lane-tflite central hsm; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	    --no-emit-package sealane --no-emit-package sealane-hw-sim $$([ $$name != peer ] || echo --no-emit-package opencv-python) \
	    locks/$$name.in -o locks/$$name.txt || exit; \
	done
