# `make train` and `make test` set up all they need in .venv; nothing else is touched.
PYTHON ?= python3

train: .venv/runtime
	.venv/bin/python train.py

test: .venv/development
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/development: requirements-dev.txt requirements-cluster.txt requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.PHONY: train test
