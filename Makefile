# Everything needs python3 (3.11 or newer) and access to a Python package index; nothing else.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MONTH ?= 2021-01
export DAGSTER_HOME := $(CURDIR)
$(if $(SOURCE),$(eval export TAXI_SOURCE := $(SOURCE)))
$(if $(ROWS),$(eval export TAXI_SAMPLE_ROWS := $(ROWS)))

.DEFAULT_GOAL := help
.PHONY: help demo run summary dev stop clean-data test lint lock

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is another; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing into $(VENV) (about a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.ready-dev: requirements-dev.lock $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.ready  ## load a generated month into Postgres, a bucket directory and DuckDB, and show the result
	@TAXI_SOURCE=sample $(BIN)/python -m taxi_assets run 2021-01
	@echo; echo "Next: make dev (the asset graph in a browser), make run MONTH=2021-01 (real trips), make stop."

run: $(VENV)/.ready  ## load a real month: make run MONTH=2021-01 [SOURCE=tlc|datatalks|sample|template]
	@$(BIN)/python -m taxi_assets run $(MONTH)

summary: $(VENV)/.ready  ## show what a month holds in every sink: make summary MONTH=2021-01
	@$(BIN)/python -m taxi_assets summary $(MONTH)

dev: $(VENV)/.ready  ## open the Dagster UI on http://127.0.0.1:3000
	@mkdir -p .taxi && PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dagster dev --host 127.0.0.1 --port $${PORT:-3000}

stop: $(VENV)/.ready  ## stop the embedded Postgres
	@$(BIN)/python -m taxi_assets stop

clean-data: $(VENV)/.ready  ## remove everything written at run time (asks first)
	@$(BIN)/python -m taxi_assets clean-data

test: $(VENV)/.ready-dev  ## run the tests
	@$(BIN)/python -m pytest -q -n $${TEST_WORKERS:-auto} $(ARGS)

lint: $(VENV)/.ready-dev  ## lint, types, and Dagster's own validation
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/ty check
	@$(BIN)/dagster definitions validate

lock:  ## renew the lock files from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -U pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -U pyproject.toml --extra dev \
	  -c requirements.lock -o requirements-dev.lock
