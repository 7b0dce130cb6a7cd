# What a person and the continuous integration call. Every target makes .venv and installs first, if need be.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHMARKS = $(filter-out benchmarks/judge.py benchmarks/rotate.py benchmarks/_%,$(wildcard benchmarks/*.py))

.PHONY: help demo test check bench docs
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(INSTALLED) ## Make an 80 MB model out of smollm2:135m, in folder demo
	@$(BIN)/smidgen make smollm2:135m --fit 80MB --within 4m --out demo

test: $(INSTALLED) ## Run the tests, with coverage
	@scripts/check tests

check: $(INSTALLED) ## Check format, lint, types, layers and docs
	@scripts/check format lint types layers docs

bench: $(INSTALLED) ## Run every benchmark
	@set -e; for benchmark in $(BENCHMARKS); do echo "== $$benchmark"; $(BIN)/python "$$benchmark"; done

docs: $(INSTALLED) ## Write docs/commands.md and docs/methods.md anew
	@$(BIN)/python scripts/docs

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "smidgen needs Python 3.11 or later; '$(PYTHON)' is not. Try: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
