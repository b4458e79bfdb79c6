# Everything a user or a developer does. Needs Python 3.11 to 3.13 with venv, and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python in range; name another with `make PYTHON=/path/to/python up`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
STAMP := .venv/installed
# One more than there are cores: tests that wait leave a core free.
WORKERS ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Homeroom needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv)." >&2; exit 1; }
	@# Two at once: the second waits for the first, and finds everything done.
	@exec 9<Makefile; if command -v flock >/dev/null; then flock 9; fi; \
	if test $@ -nt requirements.lock && test $@ -nt pyproject.toml; then exit 0; fi; \
	test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
	echo "Installing what requirements.lock names (once) ..."; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

.PHONY: venv
venv: $(STAMP) ## the environment, from requirements.lock

.PHONY: up down status
up: $(STAMP) ## start everything; a second time: says so
	@$(BIN)/homeroom up
down: $(STAMP) ## stop everything, keep the data
	@$(BIN)/homeroom down
status: $(STAMP)
	@$(BIN)/homeroom status

.PHONY: clean
clean: ## stop everything and forget the data
	@if test -x $(BIN)/homeroom; then $(BIN)/homeroom clean --yes; fi
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

.PHONY: lint format
lint: $(STAMP) ## style, formatting, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
format: $(STAMP) ## put the style right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: browser
browser: $(STAMP)
	@$(BIN)/python -m tests.support.chromium

.PHONY: test test-unit test-deep bench
test: lint browser ## everything that must pass before a change lands
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --max-worker-restart 0
test-unit: $(STAMP) ## the tests that need no PostgreSQL and no Kafka
	$(BIN)/python -m pytest -n $(WORKERS) -m "not backing and not stack and not deep"
test-deep: $(STAMP) ## the whole matrix of kills and seeds
	$(BIN)/python -m pytest -m deep --timeout 7200
bench: $(STAMP) ## the figures in the README, as ratios measured here
	$(BIN)/python -m benchmarks

# What is written down from the code: OpenAPI, AsyncAPI, the catalogue of reasons, the settings.
.PHONY: describe
describe: $(STAMP) ## write contracts/openapi and asyncapi.json, docs/reasons.md and configuration.md anew
	$(BIN)/python -m services.describe

# For developers, with uv installed and a way to PyPI's own JSON: a mirror that lacks it makes this fail, not pass.
.PHONY: audit
audit: ## known vulnerabilities of what the locks name (needs uv)
	uvx pip-audit --strict --disable-pip --require-hashes -r requirements.lock
	uvx pip-audit --strict --disable-pip --require-hashes -r deploy/image.lock

# For developers, with uv installed: resolve anew. No registry address enters the files.
COMPILE = env -u PIP_FIND_LINKS -u UV_FIND_LINKS uv pip compile --quiet --universal --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make lock"
.PHONY: lock
lock: ## resolve the dependencies anew (needs uv)
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(COMPILE) --constraint requirements.lock pyproject.toml -o deploy/image.lock
	$(BIN)/python -m deploy.lock_kafka
