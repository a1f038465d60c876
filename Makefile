# `make check` does what CI does. PYTHON=... chooses the interpreter.
PYTHON ?= python

.PHONY: check lint types test test-all

check: lint types test-all

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -m "not slow"

test-all:
	$(PYTHON) -m pytest --durations=20
