# Requires python3 (3.11 to 3.13) and access to a Python package index.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV_LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -U
MONTH ?= 2021-01
UI_PORT = $(or $(PORT),3000)
# One line for what a target needs and what is missing: $(call need,the command that finds it,its name and where to get it)
need = @$(1) >/dev/null 2>&1 || { echo "make $(MAKECMDGOALS) needs $(2)" >&2; exit 1; }
RANGE = $(if $(FROM),--from '$(FROM)') $(if $(TO),--to '$(TO)')
FOR_KIND = $(if $(KIND),--kind '$(KIND)')
ACCEPT = $(if $(ACCEPT_SMALLER),--accept-smaller)
export DAGSTER_HOME := $(CURDIR)
$(if $(SOURCE),$(eval export TAXI_SOURCE := $(SOURCE)))
$(if $(ROWS),$(eval export TAXI_SAMPLE_ROWS := $(ROWS)))

.DEFAULT_GOAL := help
.PHONY: help demo run backfill status audit summary dev stop clean-data emulators emulators-stop test lint chaos simulate bench bench-peers bench-record bench-check \
  pictures verify-docs verify-terraform verify-deploy up lock need-docker need-terraform need-uv

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(call need,$(PYTHON) -c 'import ensurepip',the venv module of $(PYTHON): on Debian and Ubuntu apt-get install python3-venv)
	@echo "Installing into $(VENV) (about a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.ready-dev: requirements-dev.lock $(VENV)/.ready
	@$(PIP) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.ready  ## load a generated month into Postgres, a bucket directory and DuckDB in .taxi, and print the row counts
	@$(BIN)/taxi-assets demo
	@echo; echo "Next: make dev (the asset graph in a browser), make run MONTH=2021-01 (real trips), make stop."

run: $(VENV)/.ready  ## load a real month: make run MONTH=2021-01 [SOURCE=tlc|datatalks|sample|template] [KIND=green]
	@$(BIN)/taxi-assets run '$(MONTH)' $(FOR_KIND) $(ACCEPT)

backfill: $(VENV)/.ready  ## load a range of months, resumable: make backfill FROM=2019-01 TO=2020-12 [JOBS=2] [AGAIN=1]
	@$(BIN)/taxi-assets backfill $(RANGE) --jobs '$(or $(JOBS),1)' $(FOR_KIND) $(if $(AGAIN),--again) $(ACCEPT)

audit: $(VENV)/.ready  ## measure loaded months in every sink, against the lake: make audit [FROM=2019-01 TO=2020-12] [REPAIR=1]
	@$(BIN)/taxi-assets audit $(RANGE) $(FOR_KIND) $(if $(REPAIR),--repair)

status: $(VENV)/.ready  ## show what each sink has of each month: make status [FROM=2019-01 TO=2020-12] [KIND=green] [JSON=1]
	@$(BIN)/taxi-assets status $(RANGE) $(FOR_KIND) $(if $(JSON),--json)

summary: $(VENV)/.ready  ## query every sink for a month's row counts: make summary MONTH=2021-01
	@$(BIN)/taxi-assets summary '$(MONTH)' $(FOR_KIND)

dev: $(VENV)/.ready  ## start the Dagster UI and daemon on http://127.0.0.1:3000 (PORT=3000)
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(UI_PORT))).close()' 2>/dev/null || \
	  { echo "Port $(UI_PORT) is taken; choose another one: make dev PORT=$$(($(UI_PORT) + 1))" >&2; exit 1; }
	@echo "The UI will be on http://127.0.0.1:$(UI_PORT) in a few seconds. To load a month: Jobs, load_month, Materialize all, Show"
	@echo "all partitions, a month as 2021-01-01, Launch 1 run (a picture is in README.md). Ctrl-C stops it."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dg dev --host 127.0.0.1 --port $(UI_PORT)

stop: $(VENV)/.ready  ## stop the embedded Postgres
	@$(BIN)/taxi-assets stop

clean-data: $(VENV)/.ready  ## delete all data and Dagster's history under TAXI_HOME (asks first; YES=1 does not)
	@$(BIN)/taxi-assets clean-data $(if $(YES),--yes)

emulators: $(VENV)/.ready-dev  ## start local emulators of GCS and BigQuery and a Postgres, and print the settings that use them
	@$(BIN)/python -m taxi_assets_tests.emulators .taxi/emulators

emulators-stop: $(VENV)/.ready-dev  ## stop the emulators
	@$(BIN)/python -m taxi_assets_tests.emulators .taxi/emulators --stop

test: $(VENV)/.ready-dev  ## run the tests: make test [ARGS='taxi_assets_tests/core -k month'] [TEST_WORKERS=1]
	@$(BIN)/python -m pytest -q -n $${TEST_WORKERS:-$$(($$($(BIN)/python -c 'import os; print(os.cpu_count())') + 1))} --dist worksteal $(ARGS)

lint: $(VENV)/.ready-dev  ## run ruff, the type checker and `dagster definitions validate`
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/ty check
	@$(BIN)/dagster definitions validate

chaos: $(VENV)/.ready-dev  ## kill and corrupt loads of every sink at random: make chaos [SECONDS=600] [KILLS=50] [SEED=1]
	@$(BIN)/python -m taxi_assets_tests.chaos --seconds $(or $(SECONDS),600) --kills $(or $(KILLS),50) $(if $(SEED),--seed $(SEED))

simulate: $(VENV)/.ready-dev  ## play random histories of operation against the decisions what to load: make simulate [SECONDS=60] [SEED=0]
	@$(BIN)/python -m taxi_assets_tests.simulation --seconds $(or $(SECONDS),60) --seed $(or $(SEED),0)

bench: $(VENV)/.ready-dev  ## run the benchmarks against floors and other tools, and print the tables
	@$(BIN)/python -m benchmarks.bench $(ARGS)

bench-peers: $(VENV)/.ready-dev  ## install the other tools of the benchmark, each into its own environment
	@$(BIN)/python -m benchmarks.peers.install $(ARGS)

bench-record: $(VENV)/.ready-dev  ## run the benchmarks and update docs/performance.md and the recorded ratios
	@$(BIN)/python -m benchmarks.bench --record $(ARGS)

bench-check: $(VENV)/.ready-dev  ## run the benchmarks and fail if a ratio is worse than the recorded one
	@$(BIN)/python -m benchmarks.bench --check --repeat 3 $(ARGS)

pictures: $(VENV)/.ready-dev  ## regenerate the README's pictures from a running instance (needs Chromium)
	@$(BIN)/python docs/pictures.py

verify-docs: $(VENV)/.ready-dev  ## run the commands of README.md and docs/ in a copy of the project: make verify-docs [ARGS="README.md"]
	@$(BIN)/python -m taxi_assets_tests.pages $(ARGS)

verify-terraform: need-terraform $(VENV)/.ready-dev  ## check Terraform, its policies and the workflows (TF_CLI_CONFIG_FILE may name a mirror)
	@$(PYTHON) -m venv .venv-verify && .venv-verify/bin/pip install -q --disable-pip-version-check checkov==3.3.30 zizmor==1.32.0
	@PATH="$(CURDIR)/.venv-verify/bin:$$PATH" $(BIN)/python -m pytest -q taxi_assets_tests/deploy

verify-deploy: need-docker $(VENV)/.ready-dev  ## build the image and test the Docker stack: load, back up, restore, scale out
	@PATH="$(CURDIR)/.venv-verify/bin:$$PATH" $(BIN)/python deploy/verify

up: need-docker  ## build and start the Docker stack; writes a Postgres password to .env if there is none
	@grep -qs '^POSTGRES_PASSWORD=.' .env || (umask 077; echo "POSTGRES_PASSWORD=$$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')" >> .env)
	@docker compose up --detach --build --wait

lock: need-uv  ## update the lock files from pyproject.toml (needs uv)
	$(UV_LOCK) --group build --group dg pyproject.toml -o requirements.lock
	$(UV_LOCK) --group build --group dg pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock
	$(UV_LOCK) --group build pyproject.toml --extra deploy -c requirements.lock -o requirements-deploy.lock

need-docker:
	$(call need,docker compose version,Docker with the Compose plugin: https://docs.docker.com/compose/install/)

need-terraform:
	$(call need,terraform version,Terraform: https://developer.hashicorp.com/terraform/install)

need-uv:
	$(call need,uv --version,uv: https://docs.astral.sh/uv/getting-started/installation/)
