# Everything a person does with a checkout. `make run` and `make test` need nothing prepared.

SHELL := /bin/bash
# The oldest supported Python comes first: the locks were made and tested with it.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
BIN := .venv/bin
# Torch's own threads fight over few cores; one each is faster here and steadier everywhere.
export OMP_NUM_THREADS ?= 1
# How many processes share the tests of `make test`; with 0 they run in pytest itself, one after the other, for a debugger.
TEST_WORKERS ?= $(shell [ "$$(getconf _NPROCESSORS_ONLN)" -gt 1 ] && echo 2 || echo 0)

.DEFAULT_GOAL := help
.PHONY: help env run test test-browser test-all test-faults check check-deploy audit sbom format docs bench policy lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

env: ## make .venv from the lock, if it is not there already
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python 3.11 or newer found; install one or say make PYTHON=/path/to/python" >&2; exit 1; fi
	@$(PYTHON) deploy/bootstrap.py

run: env ## start the whole stack; ends with the address and where the key is
	@$(BIN)/tandem up

test: env ## unit tests and one test of the whole loop
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -m "not slow and not faults and not browser"

test-browser: env ## the pages, in Debian's Chromium
	@$(BIN)/python -m pytest -m browser

test-all: env ## every test
	@$(BIN)/python -m pytest --hypothesis-profile fresh

test-faults: env ## tests that kill real processes
	@$(BIN)/python -m pytest -m faults

check: env ## format, lint, types, import directions, docs in step
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_imports.py tests/test_docs.py tests/feedback/test_migrations.py

check-deploy: env ## image, compose, Helm chart, systemd units and alert rules, by their own tools
	@$(BIN)/python -m deploy.check

audit: env ## ask an advisory database about every locked package
	@$(BIN)/python -m deploy.dependencies audit

sbom: env ## write bills of materials (CycloneDX) into build/
	@$(BIN)/python -m deploy.dependencies sbom

format: env ## put the code into the form that check wants
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: env ## write the pages that are made from the code: commands and settings
	@$(BIN)/python -m deploy.command.reference > docs/commands.md
	@$(BIN)/python -m feedback.settings_reference > docs/settings.md

bench: env ## list what can be measured, each by a command of its own
	@$(BIN)/python -m benchmarks

policy: env ## train the built-in starting policy anew
	@$(BIN)/python -m learner.starting_policy

lock: ## resolve the dependencies anew
	@$(PYTHON) deploy/lock.py

clean: ## remove what was made here, but never a home (.tandem)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
