# Two commands: `make demo` shows the loop on real imagery, `make test` tests it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(BIN)/uv
TEST_PROCESSES ?= 2
LOCKS := requirements-uv.lock requirements.lock requirements-demo.lock
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$each && break; done)

.PHONY: help install demo app test test-all check format docs lock browser

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install everything, pinned and hashed; does nothing when nothing changed

$(STAMP): pyproject.toml $(LOCKS)
	@if [ -z "$(PYTHON)" ]; then \
		echo "Tilehawk needs Python 3.11, 3.12 or 3.13; found: $$(python3 --version 2>&1 || true)." >&2; \
		echo "Install one of them, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "Could not make a virtual environment (on Debian: apt-get install python3-venv)." >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-uv.lock requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-demo.lock
	@touch $@

demo: install  ## the whole loop on real aerial imagery: ingest, pre-train, three rounds, export, detect, GeoPackage
	$(BIN)/tilehawk demo

app: install  ## the app in the browser, on this machine only; its workspace is ./workspace, made where missing
	$(BIN)/tilehawk init workspace
	$(BIN)/tilehawk app --workspace workspace

test: install browser  ## the quick honest suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not nightly"

test-all: install browser  ## the nightly tier too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

check: install  ## format, lint, types, layers, generated docs
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m app.cli.reference --check

format: install  ## let ruff rewrite what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: install  ## write the generated pages docs/cli.md and docs/configuration.md
	$(BIN)/python -m app.cli.reference

lock: install  ## resolve the dependencies anew into the lock files
	$(UV) pip compile pyproject.toml --group dev --extra oracle --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header -o requirements.lock
	echo 'uv' | $(UV) pip compile - --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header -o requirements-uv.lock

browser:  # Chromium for the browser tests, where we may install it; without it they are skipped
	@if command -v chromium >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null \
			|| echo "Chromium could not be installed: the browser tests will be skipped" >&2; \
	else echo "No Chromium here, and no right to install it: the browser tests will be skipped" >&2; fi
