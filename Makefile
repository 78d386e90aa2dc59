# Kurir: `make run` to try it, `make test` to prove it. `make help` lists everything.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
.DEFAULT_GOAL := help

.PHONY: help run test check lint types imports unit format lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

lock: $(BIN)/python ## Resolve the locked requirements anew (needs uv)
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile -q --no-header --generate-hashes --universal --python-version 3.11 --group build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --universal --python-version 3.11 --group build --group dev pyproject.toml -o requirements/dev.txt
