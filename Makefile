# Every target is one line; CI and pre-commit call the same ones. `make demo` and `make test` each work alone in a fresh clone.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check format coverage bench faults schemas lock clean
demo: $(VENV)/.demo ; @if [ -n "$(TOUR)" ] || ! [ -t 1 ]; then $(BIN)/fieldops demo --tour; else $(BIN)/fieldops demo; fi
test: $(VENV)/.test ; $(BIN)/python -m pytest -n 2 $(ARGS)
faults: $(VENV)/.test ; $(BIN)/python -m pytest -n 2 -m slow_faults --timeout 3600 $(ARGS)
check: $(VENV)/.test ; $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
format: $(VENV)/.test ; $(BIN)/ruff format . && $(BIN)/ruff check --fix .
coverage: $(VENV)/.test ; $(BIN)/coverage erase && $(BIN)/coverage run -m pytest -q tests/domain tests/operations tests/audit tests/trust tests/central && $(BIN)/coverage combine -q && $(BIN)/coverage report --ignore-errors --fail-under 87 --include "fieldops/*.py,fieldops/bundles/*,fieldops/drift/*,fieldops/runbooks/*,fieldops/audit/*,fieldops/wire/*,fieldops/ports/*,fieldops/operations/*" --omit "fieldops/__main__.py"
bench: $(VENV)/.test ; $(BIN)/python -m benchmarks
schemas: $(VENV)/.test ; $(BIN)/python -m fieldops.cli.schemas docs/schemas
lock: $(VENV)/.test ; $(BIN)/python scripts/lock_agent.py
clean: ; rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

$(VENV)/bin/python: ; $(PYTHON) -m venv $(VENV)
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml ; $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]' && touch $@
$(VENV)/.test: $(VENV)/bin/python pyproject.toml ; $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]' && touch $@ $(VENV)/.demo
