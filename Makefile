# `make train`, `make quick` and `make test` set up all they need in .venv; nothing else is touched.
PYTHON ?= python3
CORE = checkpoint episode_batch evaluate generate_episode golden_curve model oracle packed_lstm scan_util train

train: .venv/runtime
	.venv/bin/python train.py

test: .venv/development
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -n 2

quick: .venv/development
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -n 2 -m "not slow" $(addprefix tests/test_, $(addsuffix .py, $(CORE)))

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -r requirements.txt
	touch $@

.venv/development: requirements-dev.txt requirements-cluster.txt requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -r requirements-dev.txt
	touch $@

.PHONY: train test quick
