# For a newcomer: `make demo` and `make test`. Each does its own set-up first (bin/setup).

PYTHON := .venv/bin/python

.PHONY: demo test check bench torture conformance setup

demo: setup  ## Watch a shop grow from one server to a replicated service, under load, with a ledger
	@bin/demo

test: setup  ## All tests but the long ones
	@$(PYTHON) -m pytest -q -n 3 --dist loadscope --no-loadscope-reorder --durations 25 --durations-min 10

check: setup  ## Format, lint, types, import layers, shape
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo
	@$(PYTHON) -m pytest -q tests/test_shape.py

bench: setup  ## Performance beside a rival or the raw engine, as ratios
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.lock
	@for file in benchmarks/*.py; do echo "== $$file"; $(PYTHON) $$file || exit 1; done

torture: setup  ## The long runs: every step interrupted, thousands of cut connections
	@$(PYTHON) -m pytest -q --torture -m torture

conformance: setup  ## An edge under the public suite of tests for HTTP caches; npm brings the suite
	@$(PYTHON) tests/conformance/run.py

setup:
	@bin/setup
