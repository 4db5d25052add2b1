# `make` alone lists what there is. Everything runs from .venv, which `make setup` makes.
PYTHON ?= python3
BIN := .venv/bin
# Options for what a target runs, as in: make run ARGS="--port 9000 --workers 2"
ARGS ?=

# Tests start hundreds of processes, each of which would compile wylon anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup lock demo demo-llm run test lint bench chaos fuzz guards mutants audit

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## install everything into .venv

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "wylon needs Python 3.11 or newer; $(PYTHON) is older or missing. Name another: make PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

lock: .venv/.ready ## write constraints.txt anew from pyproject.toml, with the newest versions that fit
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip compile -q --upgrade --universal --all-extras --python-version 3.11 --no-annotate \
		--custom-compile-command "make lock" pyproject.toml -o constraints.txt

demo: .venv/.ready ## run a few hundred requests through everything, with a stand-in model
	$(BIN)/python examples/demo.py

.venv/.ready-llm: .venv/.ready examples/llm-requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r examples/llm-requirements.txt
	@touch $@

demo-llm: .venv/.ready-llm ## run a dozen questions through a real language model on the CPU
	$(BIN)/python examples/demo_llm.py

run: .venv/.ready ## serve on this machine until ctrl-C: make run ARGS="--upstream http://HOST:PORT/v1"
	$(BIN)/wylon up $(ARGS)

# Most tests wait for processes, so that there is time for one run of tests more than there are cores. Slow tests come
# first: the order is that of the files.
test: lint ## check the style, then run all tests
	$(BIN)/pytest -n $$(( 1 + $$(getconf _NPROCESSORS_ONLN) )) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.ready ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: .venv/.ready ## kill everything, again and again, and check that nothing is lost (about 40 minutes)
	$(BIN)/python -m tests.chaos $(ARGS)

fuzz: .venv/.ready ## throw a million inputs at the parsers and thousands of requests at the API (about 15 minutes)
	$(BIN)/python -m tests.fuzz $(ARGS)
	$(BIN)/python -m tests.fuzz.api --requests 5000

guards: .venv/.ready ## take out each guard against a race and see its test fail
	$(BIN)/python -m tests.architecture.guards

mutants: .venv/.ready ## put small faults into the code and print those that no test notices (about half an hour)
	$(BIN)/python -m tests.mutants $(ARGS)

audit: .venv/.ready ## ask the advisories about every pinned dependency, where they can be reached, and check the reviewed list
	@$(BIN)/python -m pip install -q --disable-pip-version-check pip-audit
	-$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip
	$(BIN)/pytest -q tests/architecture/test_dependencies.py

.venv/.ready-bench: .venv/.ready
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench: .venv/.ready-bench .venv/.ready-llm ## measure throughput and memory on this machine
	$(BIN)/python -m bench.run --charts bench-charts $(ARGS)
