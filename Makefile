# Kurir: `make run` to try it, `make test` to prove it. `make help` lists everything.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Tests flush thousands of small databases: in memory where there is room, which spares the disk and changes no result
TEST_TMP := $(shell [ "$$(df --output=avail -m /dev/shm 2>/dev/null | tail -1)" -gt 4000 ] 2>/dev/null && echo /dev/shm || echo /tmp)
PYTEST = TMPDIR=$(TEST_TMP) $(BIN)/python -m pytest -q
# Large runs append what they came to, with date, machine and commit
MEASURED = KURIR_MEASUREMENTS=$(CURDIR)/docs/measurements.md
# What one run has compiled serves the next, whatever the shell says: half of a worker's start is compilation
unexport PYTHONDONTWRITEBYTECODE
QUICK_WORKERS := $(shell echo $$(( 2 * $$(nproc) )))
PYTHON ?= $(shell command -v python3.11 || command -v python3)
.DEFAULT_GOAL := help

.PHONY: help run test check types quick unit cover mutants storm soak bench format lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(VENV)/.run ## Install what is needed and start the gateway with its sandbox and a demo account
	@$(BIN)/kurir demo

test: $(VENV)/.dev ## Install what the tests need and pass every test
	@$(MAKE) --no-print-directory check
	$(PYTEST) -n auto --dist loadfile -m "not quick or hypothesis" tests

check: $(VENV)/.dev ## Lint, types, import rules and unit tests without a server
	$(BIN)/ruff format --check --quiet src tests
	$(BIN)/ruff check --quiet src tests
	$(BIN)/lint-imports --no-cache | tail -n 3
	@$(MAKE) --no-print-directory -j 2 --output-sync=target types quick

types: $(VENV)/.dev ## Only the types
	$(BIN)/basedpyright --level error

# Quick tests wait for threads and short pauses more than half of their time: more workers than cores. Property tests
# draw a fifth of their examples here and all of them in `make test`. Schemathesis takes a second to load in each worker.
quick: $(VENV)/.dev ## Only the quick unit tests
	KURIR_EXAMPLES=few $(PYTEST) -p no:schemathesis -n $(QUICK_WORKERS) -m quick tests/unit

unit: $(VENV)/.dev ## Only the unit tests, on PostgreSQL too
	$(PYTEST) -n auto tests/unit

cover: $(VENV)/.dev ## Which branches the unit tests reach (some minutes); the table ends in the share of each module
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/cover.txt
	TMPDIR=$(TEST_TMP) $(BIN)/python -m coverage run --branch --source=kurir -m pytest -q -p no:schemathesis tests/unit tests/contract
	$(BIN)/python -m coverage report --skip-covered

mutants: $(VENV)/.dev ## Change the code line by line: do the tests notice? (hours; goes on where it was stopped)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/mutants.txt
	KURIR_EXAMPLES=few TMPDIR=$(TEST_TMP) nice -n 15 $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/python tests/mutants/score.py

storm: $(VENV)/.dev ## Every fault at a large dose, the books balanced after each (an hour or more)
	KURIR_STORM_KILLS=$${KURIR_STORM_KILLS:-60} KURIR_STORM_MESSAGES=$${KURIR_STORM_MESSAGES:-10000} $(MEASURED) \
	  $(BIN)/python -m pytest -q -s tests/reliability/test_kills.py
	KURIR_STORM_UPGRADES=all $(BIN)/python -m pytest -q -n auto --dist load tests/reliability/test_upgrade.py
	KURIR_STORM_RESTARTS=$${KURIR_STORM_RESTARTS:-40} KURIR_STORM_SECONDS=$${KURIR_STORM_SECONDS:-30} \
	  KURIR_STORM_FULL=$${KURIR_STORM_FULL:-10} \
	  $(BIN)/python -m pytest -q -s tests/reliability/test_database_down.py tests/reliability/test_disk_full.py
	KURIR_STORM_HOST_KILLS=$${KURIR_STORM_HOST_KILLS:-25} KURIR_STORM_DEVICES=$${KURIR_STORM_DEVICES:-20} \
	  KURIR_STORM_INCOMING_KILLS=$${KURIR_STORM_INCOMING_KILLS:-30} KURIR_STORM_OUTAGE=$${KURIR_STORM_OUTAGE:-60} \
	  KURIR_STORM_CUT=$${KURIR_STORM_CUT:-60} KURIR_STORM_FLAPPING=$${KURIR_STORM_FLAPPING:-300} \
	  $(BIN)/python -m pytest -q -s tests/reliability/test_engine_hosts.py tests/reliability/test_network_cuts.py \
	  tests/reliability/test_device_faults.py tests/reliability/test_liveness.py
	KURIR_STORM_FAULT_CALLS=$${KURIR_STORM_FAULT_CALLS:-500} $(MEASURED) \
	  $(BIN)/python -m pytest -q -s tests/reliability/test_graph_faults.py
	KURIR_STORM_RECEIVER_CALLS=$${KURIR_STORM_RECEIVER_CALLS:-500} $(MEASURED) \
	  $(BIN)/python -m pytest -q -s tests/reliability/test_receivers.py
	KURIR_HOSTILE_MESSAGES=$${KURIR_HOSTILE_MESSAGES:-10000} KURIR_HOSTILE_CALLBACKS=$${KURIR_HOSTILE_CALLBACKS:-10000} \
	  $(BIN)/python -m pytest -q -s tests/hostile

soak: $(VENV)/.dev ## Hours of steady load with a kill an hour: does anything grow? (KURIR_SOAK_SECONDS, 8 hours)
	KURIR_SOAK_SECONDS=$${KURIR_SOAK_SECONDS:-28800} KURIR_SOAK_KILL_EVERY=$${KURIR_SOAK_KILL_EVERY:-3600} $(MEASURED) \
	  $(BIN)/python -m pytest -q -s tests/reliability/test_soak.py

format: $(VENV)/.dev ## Put the code into the one form
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

bench: $(VENV)/.run .venv-bench/.installed ## Measure the hot paths side by side (half an hour; BENCH="--rows accept" for a part)
	@command -v wrk >/dev/null && command -v cc >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq wrk gcc libc6-dev >/dev/null; } \
	  || { echo "The benchmark needs wrk and a C compiler: apt-get install wrk gcc libc6-dev"; exit 1; }
	$(BIN)/kurir bench $(BENCH)

.venv-bench/.installed: benchmarks/peers/requirements.txt | $(BIN)/python
	@echo "Installing what Kurir is compared with …"
	@{ $(BIN)/python -m venv .venv-bench 2>/dev/null || $(BIN)/python -m virtualenv -q .venv-bench; } \
	  && .venv-bench/bin/python -m pip install -q --disable-pip-version-check -r $< && touch $@ \
	  || { rm -rf .venv-bench; echo "The peer cannot be installed: its row will show none"; }

lock: $(VENV)/.dev ## Resolve the locked requirements anew
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile -q --no-header --generate-hashes --universal --python-version 3.11 --group build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --universal --python-version 3.11 --group build --group dev pyproject.toml -o requirements/dev.txt

clean: ## Remove the virtual environment and caches (not your data in var/)
	rm -rf $(VENV) .venv-bench .pytest_cache .ruff_cache .hypothesis .import_linter_cache mutants .coverage src/*.egg-info

# The environment: one stamp for what runs, one for what tests. Debian keeps ensurepip in a package of its own, so
# where it is missing and we may, apt brings it; else virtualenv from the package index does.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Kurir needs Python 3.11 or newer (found $$($(PYTHON) --version)); set PYTHON=/path/to/python3.11"; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) 2>/dev/null \
	  || { rm -rf $(VENV); [ "$$(id -u)" = 0 ] && apt-get install -y -qq python3-venv >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV); } \
	  || { rm -rf $(VENV); $(PYTHON) -m pip install -q --user --break-system-packages virtualenv && $(PYTHON) -m virtualenv -q $(VENV); } \
	  || { echo "No virtual environment can be made: install python3-venv or virtualenv"; exit 1; }

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing what Kurir needs (locked by hash) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the tests need (locked by hash) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@ $(VENV)/.run
