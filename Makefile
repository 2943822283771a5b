# Everything runs in .venv, which is made and brought up to date when the dependencies change.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# The tests start a hundred processes: without files of bytecode each of them compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all lint format bench docs clean

demo: .venv/.installed  ## the whole loop on pick_place: demonstrations, training, 100 unseen episodes
	.venv/bin/python -m simscaleai.tools.cli demo

# A test that hangs is named, with where each thread is, and fails, while the others go on.
TIME_LIMIT = -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true

test: lint  ## linters, types and the fast tests
	.venv/bin/python -m pytest -n 2 --dist worksteal $(TIME_LIMIT) -m "not slow"

test-all: lint  ## every test
	.venv/bin/python -m pytest

lint: .venv/.installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/.installed-dev
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/.installed  ## every benchmark, one table each
	for script in benchmarks/[a-z]*.py; do .venv/bin/python $$script || exit 1; done

docs: .venv/.installed-docs  ## the reference of commands from the code, then the whole site into site/
	.venv/bin/python scripts/generate_reference.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build

clean:
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[viz]"
	touch $@

.venv/.installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[dev]"
	touch $@ .venv/.installed .venv/.installed-docs

.venv/.installed-docs: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[docs]"
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv
